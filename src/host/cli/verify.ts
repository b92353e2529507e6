import { createReadStream } from "node:fs";
import { open } from "node:fs/promises";
import { checkArchive, verify } from "../operations/index.js";
import { loadDomain } from "./domain.js";
import { counted, numbered, shown, type Output } from "./output.js";
import { openStore } from "./stores.js";
import { textOf, type Arguments, type Done } from "./types.js";

/** Whether a store, or an archive, is as it should be. */
export async function verifyStore(given: Arguments, output: Output, signal: AbortSignal): Promise<Done> {
  const [argument] = given.names as [string];
  if (await isText(argument)) return verifyArchive(argument, output, signal);
  const domain = textOf(given, "domain");
  const projections = domain === undefined ? [] : (await loadDomain(domain)).projections;
  const store = await openStore(argument, "read", textOf(given, "driver"));
  try {
    const result = await verify(store.storage, { projections, signal, onProgress: output.progress("verify") });
    const { findings, faults, isSound, events, commits, streams, documents } = result;
    const lines = findings.map(({ code, isNote, message, position, stream, document }) => {
      const place = [
        position === undefined ? "" : `position ${numbered(position)}`,
        stream === undefined ? "" : `${stream.type}/${stream.id}`,
        document === undefined ? "" : `${document.collection}/${document.key}`,
      ];
      const where = place.filter((text) => text !== "").join(", ");
      return `${isNote ? output.dim("note ") : output.bad("fault")} ${code}${where === "" ? "" : `, ${shown(where)}`}: ${shown(message)}`;
    });
    const left = faults - findings.filter(({ isNote }) => !isNote).length;
    if (left > 0) lines.push(`and ${counted(left, "fault")} more`);
    const looked = `${counted(events, "event")}, ${counted(commits, "commit")}, ${counted(streams, "stream")}, ${counted(documents, "document")}`;
    lines.push(`${looked}: ${isSound ? output.good("sound") : output.bad(counted(faults, "fault"))}`);
    output.result(result, lines);
    return { isSound };
  } finally {
    await store.close();
  }
}

/** Whether the file begins as archives do, and SQLite files don't. */
async function isText(file: string): Promise<boolean> {
  const handle = await open(file).catch(() => undefined);
  if (handle === undefined) return false;
  try {
    const { buffer, bytesRead } = await handle.read(Buffer.alloc(1), 0, 1);
    return bytesRead > 0 && buffer[0] === "{".charCodeAt(0);
  } finally {
    await handle.close();
  }
}

async function verifyArchive(file: string, output: Output, signal: AbortSignal): Promise<Done> {
  const options = { signal, onProgress: output.progress("verify") };
  const { header, commits, events, unfinished } = await checkArchive(createReadStream(file), options);
  const isSound = unfinished === null;
  const of = `an archive of store ${header.epoch}, positions ${numbered(header.after + 1)} to ${numbered(header.until)}`;
  const end = isSound ? output.good("sound") : output.bad("it was cut off, and is whole up to there");
  output.result({ header, commits, events, isSound }, [of, `${counted(events, "event")}, ${counted(commits, "commit")}: ${end}`]);
  return { isSound };
}
