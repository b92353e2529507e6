// The stories of ../vectors/documents.json, told to whatever keeps documents.

import { same } from "./expect.mjs";

const url = new URL("../vectors/documents.json", import.meta.url);

export const stories =
  url.protocol === "file:"
    ? JSON.parse((await import("node:fs")).readFileSync(url, "utf8"))
    : await (await fetch(url)).json();

/** `documents` has `change` and `read`, which may leave out of a request what is empty. */
export async function tell(steps, documents) {
  for (const step of steps) {
    const what = JSON.stringify(step).slice(0, 500);
    if (step.save !== undefined) {
      same(await documents.change(changeOf(step.save)), conflictOf(step.conflict), what);
      continue;
    }
    if (step.names !== undefined) {
      const names = step.names.map(([collection, key]) => ({ collection, key }));
      const read = await documents.read({ names });
      same(read.documents, step.found.map((found) => found && { revision: found[0], value: found[1] }), what);
      continue;
    }
    const { page = [], more = false, count = 0 } = step;
    const scan = { ...step.scan };
    if (scan.after !== undefined) scan.after = { at: scan.after[0], key: scan.after[1] };
    const found = page.map(([at, key, revision, value]) => ({ at, key, revision, value }));
    const read = await documents.read({ scans: [scan] });
    same(read.scans, [{ documents: found, more, count }], what);
  }
}

function changeOf({ expected = [], clear = [], documents }) {
  return {
    expected: expected.map(([collection, key, revision]) => ({ collection, key, revision })),
    clear,
    documents: documents.map(([collection, key, revision, value, postings]) => ({ collection, key, revision, value, postings })),
  };
}

const conflictOf = (conflict) => conflict && { index: conflict[0], actual: conflict[1] };
