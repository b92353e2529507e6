import path from "node:path";
import { pathToFileURL } from "node:url";
import type { AnyAggregate, Projection } from "../index.node.js";
import { Refused } from "./types.js";

/** What a module exports of a domain. */
export interface Domain {
  readonly aggregates: readonly AnyAggregate[];
  readonly projections: readonly Projection[];
}

/** Loads a module, and takes what it exports of aggregates and projections, in lists too. */
export async function loadDomain(file: string): Promise<Domain> {
  let module: object;
  try {
    module = (await import(pathToFileURL(path.resolve(file)).href)) as object;
  } catch (error) {
    throw new Refused("unknown-domain", `${file} can't be loaded: ${error instanceof Error ? error.message : String(error)}`);
  }
  const found = new Set(Object.values(module).flat() as unknown[]);
  const aggregates = [...found].filter((value): value is AnyAggregate => has(value, "type", "functions", "forms"));
  const projections = [...found].filter((value): value is Projection => has(value, "name", "project", "reader"));
  if (aggregates.length + projections.length === 0) {
    throw new Refused("unknown-domain", `${file} exports neither aggregates nor projections`);
  }
  // States are to be folded from their first event on.
  return { aggregates: aggregates.map((aggregate) => Object.freeze({ ...aggregate, snapshots: null })), projections };
}

const has = (value: unknown, ...names: string[]): boolean =>
  typeof value === "object" && value !== null && names.every((name) => name in value);
