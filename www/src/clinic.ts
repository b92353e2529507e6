/** The engine, its log as the page follows it, and the one way to give commands. */

import { Engine, type Position } from "annals/slim";
import { indexedDbStorage } from "annals/indexeddb";
import * as glue from "../clinic/pkg/clinic.js";
import { agenda, appointment, type Command, type Refusal } from "./appointment.js";
import { Log } from "./log.js";
import { reportError } from "./errors.js";

/** What came of a command; nothing if it failed, which has been reported. */
export type Outcome = { readonly ok: true } | { readonly ok: false; readonly refusal: Refusal } | undefined;

export async function openClinic(onEvents: () => void) {
  const wasm = new URL("./clinic.wasm", import.meta.url);
  const engine = await Engine.open({
    module: { glue, wasm },
    storage: indexedDbStorage({ name: "clinic" }),
    aggregates: [appointment],
    projections: [agenda],
  });
  const log = new Log();

  // All that is stored, then what comes, from this tab or another.
  let after: Position | undefined;
  const read = async (follow: boolean, onEvent: () => void) => {
    const from = after === undefined ? {} : { after };
    for await (const event of engine.events({ aggregates: [appointment], follow, ...from })) {
      log.push(event);
      after = event.position;
      onEvent();
    }
  };
  const follow = () => read(true, onEvents).catch((error: unknown) => reportError(error, follow));
  await read(false, () => {});
  void follow();

  /** The id makes it safe to try again when nobody knows what came of the first attempt. */
  const give = async (
    id: string,
    command: Command,
    actor: string,
    commandId: string = crypto.randomUUID(),
  ): Promise<Outcome> => {
    try {
      const result = await engine.attempt(appointment, id, command, { actor, commandId });
      return result.ok ? { ok: true } : { ok: false, refusal: result.refusal };
    } catch (error) {
      reportError(error, () => give(id, command, actor, commandId));
      return undefined;
    }
  };

  return { engine, log, give };
}

export type Clinic = Awaited<ReturnType<typeof openClinic>>;
