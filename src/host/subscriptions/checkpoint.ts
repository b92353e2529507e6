import type { Projection } from "../domain.js";
import type { Engine, Position } from "../engine.js";
import { invalidArgument } from "../errors.js";
import type { Access } from "../projections/reader.js";
import { checkNames, Input, type Reader, type Writer } from "../wire.js";

const [READ, SET, FORGET] = [0, 1, 2];

/**
 * The checkpoint of a named subscription: its events up to here have been handled. `null` if nothing is
 * kept under the name. Where none of the last thousand events was for it, it may be somewhat behind.
 */
export function checkpoint(engine: Engine, name: string): Promise<Position | null> {
  return ask(accessTo(engine), name, (message) => message.word(READ!));
}

/**
 * Puts the checkpoint of a named subscription somewhere else, and gives the position: back, to handle
 * events again, or forth, to pass them by. A reader that is under way ends with `subscription-moved`
 * when its own checkpoint is next to be moved. To put it where it is changes nothing: a reader goes on.
 *
 * ```ts
 * await setCheckpoint(engine, "mails", "beginning");
 * ```
 */
export async function setCheckpoint(
  engine: Engine,
  name: string,
  to: Position | "now" | "beginning",
): Promise<Position> {
  const access = accessTo(engine);
  const place = to === "now" ? null : to === "beginning" ? 0 : access.numberOf(to);
  const at = await ask(access, name, (message) => message.word(SET!).option(place, (number) => message.number(number)));
  return at!;
}

/** Forgets how far a named subscription has come: its next reader begins where that one says. */
export async function forgetCheckpoint(engine: Engine, name: string): Promise<void> {
  await ask(accessTo(engine), name, (message) => message.word(FORGET!));
}

/** Whoever makes the reader of a view is given what is needed here. */
function accessTo(engine: Engine): Access {
  const reader = (access: Access) => access as never;
  return engine.view({ reader } as unknown as Projection) as unknown as Access;
}

async function ask(
  { driver }: Access,
  name: string,
  write: (message: Writer) => void,
): Promise<Position | null> {
  if (typeof name !== "string") throw invalidArgument(`expected a string as name, found ${typeof name}`);
  checkNames([name]);
  const read = (output: Reader) => output.option(() => `${driver.epoch}:${output.number()}` as Position);
  return driver.ask(Input.AskCheckpoint, name, undefined, write, read);
}
