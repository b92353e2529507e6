import { createReadStream } from "node:fs";
import { chmod, open, realpath, rename, stat, unlink } from "node:fs/promises";
import { AnnalsError, type Position } from "../index.node.js";
import { checkArchive, exportLog, importLog, type Exported, type ExportOptions, type Imported, type UnfinishedArchive } from "../operations/index.js";
import { counted, numbered, shown, type Output } from "./output.js";
import { openStore, shownStore } from "./stores.js";
import { Mistake, Refused, textOf, textsOf, type Arguments, type Done } from "./types.js";

/** Writes the log, or a part of it, to a file. */
export async function exportArchive(given: Arguments, output: Output, signal: AbortSignal): Promise<Done> {
  const [argument, file] = given.names as [string, string];
  const { resume: resumes, force } = given.options;
  if (file === "-" && resumes === true) throw new Mistake("expected a file to go on with, found -");
  const found = file === "-" ? undefined : await stat(file).catch(() => undefined);
  const isThere = found !== undefined;
  if (isThere && resumes !== true && force !== true) {
    throw new Refused("file-exists", `${file} is there already: --force overwrites it, --resume goes on with it`);
  }
  const store = await openStore(argument, "read", textOf(given, "driver"));
  try {
    const { epoch } = await store.storage.open();
    const resume = isThere && resumes === true ? await unfinishedIn(file, output, signal) : undefined;
    const options = { ...filterOf(given, epoch), signal, onProgress: output.progress("export") };
    if (resume !== undefined && Object.keys(filterOf(given, epoch)).length > 0) {
      throw new Mistake("what is gone on with says itself what is in it: expected no filter");
    }
    const work = exportLog(store.storage, resume === undefined ? options : { ...options, resume });
    const result = await (found?.isFile() === true && resumes !== true ? replace(work, file) : write(work, file, resume?.bytes ?? 0));
    const to = file === "-" ? "" : ` to ${shown(file)}`;
    // What goes to standard output is the archive.
    const stream = file === "-" ? process.stderr : process.stdout;
    output.result(result, [`${counted(result.events, "event")} of ${counted(result.commits, "commit")} exported${to}, up to position ${numbered(numberOf(result.until))}`], stream);
    return { isSound: true };
  } finally {
    await store.close();
  }
}

async function unfinishedIn(file: string, output: Output, signal: AbortSignal): Promise<UnfinishedArchive | undefined> {
  try {
    const { unfinished } = await checkArchive(createReadStream(file), { signal, onProgress: output.progress("check") });
    if (unfinished === null) throw new Refused("file-exists", `${file} has its end already`);
    return unfinished;
  } catch (error) {
    // Not even its first line is there.
    if (AnnalsError.is(error, "unreadable-archive") && error.details.problem === "truncated") return undefined;
    throw error;
  }
}

function filterOf(given: Arguments, epoch: string): ExportOptions {
  const after = textOf(given, "after");
  if (after !== undefined && !/^\d+$/.test(after)) throw new Mistake(`expected a number after --after, found ${after}`);
  const correlationId = textOf(given, "correlation");
  const lists = { types: textsOf(given, "type"), aggregateTypes: textsOf(given, "aggregate"), tags: textsOf(given, "tag") };
  return {
    ...Object.fromEntries(Object.entries(lists).filter(([, list]) => list.length > 0)),
    ...(after === undefined ? {} : { after: `${epoch}:${after}` as Position }),
    ...(correlationId === undefined ? {} : { correlationId }),
  };
}

/** Writes what comes into the file, from there on, and puts it on the disk. */
async function write(work: AsyncGenerator<Uint8Array, Exported>, file: string, from: number): Promise<Exported> {
  if (file === "-") {
    for (;;) {
      const { done, value } = await work.next();
      if (done === true) return value;
      if (!process.stdout.write(value)) await new Promise((resolve) => process.stdout.once("drain", resolve));
    }
  }
  const handle = await open(file, from > 0 ? "r+" : "w");
  try {
    await handle.truncate(from);
    for (let at = from; ;) {
      const { done, value } = await work.next();
      if (done === true) {
        await handle.sync();
        return value;
      }
      for (let written = 0; written < value.length;) {
        const { bytesWritten } = await handle.write(value, written, value.length - written, at);
        written += bytesWritten;
        at += bytesWritten;
      }
    }
  } finally {
    await handle.close();
  }
}

/** Writes beside a file that is there, and puts it in its place when it is whole. */
async function replace(work: AsyncGenerator<Uint8Array, Exported>, name: string): Promise<Exported> {
  const file = await realpath(name);
  const { mode } = await stat(file);
  const beside = `${file}.${process.pid}.part`;
  await (await open(beside, "wx", 0o600)).close();
  try {
    const result = await write(work, beside, 0);
    await chmod(beside, mode & 0o777);
    await rename(beside, file);
    return result;
  } catch (error) {
    await unlink(beside).catch(() => undefined);
    throw error;
  }
}

/** Puts an archive into a store. */
export async function importArchive(given: Arguments, output: Output, signal: AbortSignal): Promise<Done> {
  const [file, argument] = given.names as [string, string];
  if (file !== "-" && (await stat(file).catch(() => undefined)) === undefined) {
    throw new Refused("unknown-file", `there is no file ${file}`);
  }
  const source = file === "-" ? process.stdin : createReadStream(file);
  const result = await into(given, argument, (storage) =>
    importLog(storage, source, { signal, onProgress: output.progress("import"), partial: given.options["partial"] === true }),
  );
  output.result(result, [importedInto(argument, result)]);
  return { isSound: true };
}

/** Puts the log of one store into another. */
export async function copy(given: Arguments, output: Output, signal: AbortSignal): Promise<Done> {
  const [from, to] = given.names as [string, string];
  const store = await openStore(from, "read", textOf(given, "driver"));
  try {
    const result = await into(given, to, (storage) =>
      importLog(storage, exportLog(store.storage, { signal }), { signal, onProgress: output.progress("copy") }),
    );
    output.result(result, [importedInto(to, result)]);
    return { isSound: true };
  } finally {
    await store.close();
  }
}

/** Imports into a store that may be new. One into which nothing has come is taken away again. */
async function into(
  given: Arguments,
  argument: string,
  work: (storage: Parameters<typeof importLog>[0]) => Promise<Imported>,
): Promise<Imported> {
  const store = await openStore(argument, "write", textOf(given, "driver"));
  try {
    return await work(store.storage);
  } finally {
    const isEmpty = await Promise.resolve(store.storage.open()).then(({ head }) => head === 0, () => false);
    await store.close();
    if (isEmpty) await store.discard();
  }
}

function importedInto(argument: string, { commits, events, known, isWhole }: Imported): string {
  const there = known > 0 ? `, ${numbered(known)} were there already` : "";
  const end = isWhole ? "" : "; the archive was cut off";
  return `${counted(events, "event")} of ${counted(commits, "commit")} imported into ${shown(shownStore(argument))}${there}${end}`;
}

const numberOf = (position: Position): number => Number(position.slice(position.lastIndexOf(":") + 1));
