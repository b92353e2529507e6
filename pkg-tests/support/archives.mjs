// Archives as texts, and such as are made by hand after docs/archive.md.

import { createHash } from "node:crypto";
import { exportLog } from "annals/operations";

/** The archive of a store, as a text, and what the export comes to. */
export async function archiveOf(storage, options) {
  const parts = [];
  const work = exportLog(storage, options);
  for (;;) {
    const { done, value } = await work.next();
    if (done) return { text: Buffer.concat(parts).toString(), result: value };
    parts.push(value);
  }
}

/** The lines of an archive without those that check it. */
export const contentOf = (text) => text.split("\n").slice(1).filter((line) => /^\{"(commit|event)"/.test(line));

export const sha256 = (text) => createHash("sha256").update(text).digest("hex");

/** An archive of these lines, with a header and with an end that are right. */
export function archiveFrom(lines, header = {}) {
  const events = lines.filter((line) => line.startsWith('{"event"'));
  const position = events.length === 0 ? 0 : Number(/"position":(\d+)/.exec(events.at(-1))[1]);
  const first = { annals: "archive", version: 1, epoch: "elsewhere", after: 0, until: position, filter: nothing, ...header };
  const before = [JSON.stringify(first), ...lines].map((line) => `${line}\n`).join("");
  const end = { commits: lines.length - events.length, events: events.length, position, sha256: sha256(before) };
  return `${before}${JSON.stringify({ end })}\n`;
}

const nothing = { types: [], aggregateTypes: [], tags: [], correlationId: null };

/** A text in pieces of that many characters. */
export function* inPieces(text, length) {
  for (let start = 0; start < text.length; start += length) yield text.slice(start, start + length);
}
