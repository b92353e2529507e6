/** What a project can say that has the language's own types only. */
import { type DecideContext, type Message, type StorageAdapter, type WasmSource, Engine, aggregate, refuse } from "annals";
import { Engine as InlineEngine } from "annals/inline";
import { memoryStorage } from "annals/memory";
import { exportLog, importLog, verify } from "annals/operations";
import { overlayStorage } from "annals/overlay";
import { type PostgresConfig, postgresStorage } from "annals/postgres";
import { Engine as SlimEngine } from "annals/slim";
import { type SqliteConfig, sqliteStorage } from "annals/sqlite";
import { given } from "annals/testing";

type Book = Message<"Book", { readonly doctor: string }>;
type Booked = Message<"Booked", { readonly doctor: string }>;

const appointment = aggregate<{ booked: boolean }, Book, Booked>("Appointment", {
  initial: () => ({ booked: false }),
  decide: (state, { data }, _: DecideContext<Booked>) => (state.booked ? [] : [{ type: "Booked", data }]),
  evolve: { Booked: () => ({ booked: true }) },
});

given(appointment)
  .at("2026-11-23T08:00:00Z")
  .when({ type: "Book", data: { doctor: "7" } })
  .then({ type: "Booked", data: { doctor: "7" } });

export async function anywhere(database: SqliteConfig["database"], postgres: PostgresConfig, bytes: ArrayBuffer) {
  const storage: StorageAdapter = memoryStorage();
  const aggregates = [appointment];
  const engine = await Engine.open({ storage: sqliteStorage({ database }), aggregates });
  const { state } = await engine.execute(appointment, "a-1", { type: "Book", data: { doctor: "7" } });
  const booked: boolean = state.booked;
  for await (const event of engine.events({ aggregates, follow: false })) event.data.doctor satisfies string;
  await InlineEngine.open({ storage, aggregates });
  await Engine.open({ storage: postgresStorage(postgres), aggregates });
  // @ts-expect-error a schema's name is a text
  postgresStorage({ ...postgres, schema: 7 });

  for await (const part of exportLog(storage)) part satisfies Uint8Array;
  const { isSound } = await verify(storage);
  if (isSound) await importLog(storage, exportLog(storage));

  for await (const { position } of engine.events({ aggregates })) overlayStorage({ storage, at: { position } });
  overlayStorage({ storage, at: { time: new Date() } });
  // @ts-expect-error a text is no position
  overlayStorage({ storage, at: { position: "7" } });
  // @ts-expect-error what is below is a store
  overlayStorage({ at: { time: "2026-11-17T14:05:00Z" } });


  await Engine.open({ storage, aggregates, wasm: bytes });
  await Engine.open({ storage, aggregates, wasm: new Uint8Array(bytes) });
  await Engine.open({ storage, aggregates, wasm: "/annals.wasm" });
  await Engine.open({ storage, aggregates, wasm: async () => bytes });
  // @ts-expect-error a slim engine is given its module
  await SlimEngine.open({ storage, aggregates });
  // @ts-expect-error the code is no number
  const wrong: WasmSource = 42;
  return [booked, wrong, refuse("closed")];
}
