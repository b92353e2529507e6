#!/usr/bin/env node
/// <reference types="node" />
/** `npx annals`: looks into a store, checks it, and carries its log elsewhere. */
import { parseArgs } from "node:util";
import { AnnalsError } from "../index.node.js";
import { copy, exportArchive, importArchive } from "./archives.js";
import { help, usage } from "./help.js";
import { history } from "./history.js";
import { inspect } from "./inspect.js";
import { migrate } from "./migrate.js";
import { Output } from "./output.js";
import { replay } from "./replay.js";
import { Mistake, type Arguments, type Command } from "./types.js";
import { verifyStore } from "./verify.js";

const text = { type: "string" } as const;
const texts = { type: "string", multiple: true } as const;
const flag = { type: "boolean" } as const;

const filter = { after: text, type: texts, aggregate: texts, tag: texts, correlation: text };

/** What each command takes: so many names in this order, and these options. */
const commands: { readonly [name: string]: Command } = {
  inspect: { run: inspect, names: ["store"], options: {} },
  history: { run: history, names: ["store", "type", "id"], options: { at: text } },
  replay: { run: replay, names: ["store"], options: { domain: text } },
  verify: { run: verifyStore, names: ["store or archive"], options: { domain: text } },
  export: { run: exportArchive, names: ["store", "file"], options: { ...filter, resume: flag, force: flag } },
  import: { run: importArchive, names: ["file", "store"], options: { partial: flag } },
  copy: { run: copy, names: ["from", "to"], options: {} },
  migrate: { run: migrate, names: ["store"], options: {}, endsAtOnce: true },
};

/** Exit codes: part of the contract, told by `annals help`. */
const [DONE, FAULTS, USAGE, FAILED, INTERRUPTED] = [0, 1, 2, 3, 130];

async function main(argv: readonly string[]): Promise<number> {
  const [name = "help", ...rest] = argv;
  const end = argv.indexOf("--");
  const output = new Output(argv.slice(0, end < 0 ? argv.length : end).includes("--json"));
  const wrong = (error: unknown, command?: string) => {
    output.fail(error, usage(command));
    return USAGE;
  };
  if (name === "--version" || name === "-v") return say(await version());
  if (["help", "--help", "-h"].includes(name)) {
    const about = rest[0];
    if (about !== undefined && !Object.hasOwn(commands, about)) return wrong(new Mistake(`there is no command ${about}`));
    return say(help(about));
  }
  if (!Object.hasOwn(commands, name)) return wrong(new Mistake(`there is no command ${name}`));
  const command = commands[name]!;
  let given: Arguments;
  try {
    const options = { json: flag, driver: text, help: { ...flag, short: "h" }, ...command.options };
    const { values, positionals } = parseArgs({ args: rest, options, allowPositionals: true, strict: true });
    if (values.help === true) return say(help(name));
    const { names } = command;
    if (positionals.length !== names.length) {
      throw new Mistake(`expected ${names.map((one) => `<${one}>`).join(" ")}, found ${positionals.length} of them`);
    }
    given = { names: positionals, options: values };
  } catch (error) {
    return wrong(new Mistake(error instanceof Error ? error.message : String(error)), name);
  }
  const stop = new AbortController();
  const onInterrupt = () => {
    // Whoever asks twice does not want to wait.
    process.removeListener("SIGINT", onInterrupt);
    stop.abort();
  };
  if (command.endsAtOnce !== true) {
    process.on("SIGINT", onInterrupt);
    process.on("SIGTERM", onInterrupt);
  }
  try {
    const { isSound } = await command.run(given, output, stop.signal);
    return isSound ? DONE : FAULTS;
  } catch (error) {
    if (error instanceof Mistake) return wrong(error, name);
    output.fail(error);
    return AnnalsError.is(error, "cancelled") ? INTERRUPTED : FAILED;
  } finally {
    process.removeListener("SIGINT", onInterrupt);
    process.removeListener("SIGTERM", onInterrupt);
  }
}

function say(what: string): number {
  process.stdout.write(`${what}\n`);
  return DONE;
}

async function version(): Promise<string> {
  const { readFile } = await import("node:fs/promises");
  const manifest = await readFile(new URL("../package.json", import.meta.url), "utf8");
  return (JSON.parse(manifest) as { version: string }).version;
}

// A reader of our output that has gone, such as `head`, is no failure.
process.stdout.on("error", (error: NodeJS.ErrnoException) => process.exit(error.code === "EPIPE" ? DONE : FAILED));

main(process.argv.slice(2)).then(
  (code) => (process.exitCode = code),
  (error: unknown) => {
    process.stderr.write(`annals: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`);
    process.exitCode = FAILED;
  },
);
