import { shown, type Output } from "./output.js";
import { openStore, shownStore } from "./stores.js";
import { textOf, type Arguments, type Done } from "./types.js";

/** Brings a store to the newest format. */
export async function migrate(given: Arguments, output: Output): Promise<Done> {
  const [argument] = given.names as [string];
  const driver = textOf(given, "driver");
  const isCurrent = await openStore(argument, "read", driver).then(
    async (store) => (await store.close(), true),
    (error: unknown) => {
      // What it is says the error: only a store of an older format is brought to the newest.
      if (error instanceof Error && /which is to be migrated/.test(error.message)) return false;
      throw error;
    },
  );
  if (!isCurrent) await (await openStore(argument, "migrate", driver)).close();
  const line = isCurrent ? "has the newest format already" : "has been brought to the newest format";
  output.result({ migrated: !isCurrent }, [`${shown(shownStore(argument))} ${line}`]);
  return { isSound: true };
}

