// One domain, written in TypeScript and in Rust, gives the same events, states, refusals and
// documents: in JavaScript, in WebAssembly and natively.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { readFile } from "node:fs/promises";
import { before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { Engine } from "annals";
import { Engine as SlimEngine, nativeAggregate } from "annals/slim";
import { memoryStorage } from "annals/memory";
import { nativeProjection, projection } from "annals/projections";
import { processManager, reaction } from "annals/reactions";
import * as glue from "../../www/clinic/pkg/clinic.js";
import { kindOf, play, script, scriptFile } from "../clinic/play.mjs";
import { until } from "../support/expect.mjs";
import { fill } from "../support/upcasting.mjs";
import { importTypeScript } from "../support/typescript.mjs";

const { appointment } = await importTypeScript(new URL("../clinic/appointment.ts", import.meta.url));
const { agenda } = await importTypeScript(new URL("../clinic/agenda.ts", import.meta.url));

const [rust, rustAgenda] = [nativeAggregate("Appointment"), nativeProjection("agenda")];

let typescript;
let wasm;
let native;

before(async () => {
  [typescript, wasm, native] = await Promise.all([playTypeScript(), playWasm(), playNative()]);
});

async function playTypeScript() {
  const engine = await Engine.open({ storage: memoryStorage(), aggregates: [appointment], projections: [agenda] });
  try {
    return await play(engine, appointment, agenda);
  } finally {
    await engine.close();
  }
}

async function openWasm(options) {
  const module = { glue, wasm: await readFile(new URL("../../www/clinic/pkg/clinic_bg.wasm", import.meta.url)) };
  return SlimEngine.open({ module, storage: memoryStorage(), aggregates: [rust], ...options });
}

async function playWasm() {
  const engine = await openWasm({ projections: [rustAgenda] });
  try {
    return await play(engine, rust, rustAgenda);
  } finally {
    await engine.close();
  }
}

async function playNative() {
  const example = ["run", "--quiet", "-p", "clinic", "--example", "play", "--", fileURLToPath(scriptFile)];
  const cwd = fileURLToPath(new URL("../..", import.meta.url));
  const { stdout } = await promisify(execFile)("cargo", example, { cwd, maxBuffer: 2 ** 26 });
  return stdout.trimEnd().split("\n");
}

test("every step of the script comes out as it says", () => {
  const found = script.map(({ rule }, index) => `${rule}: ${kindOf(native[index])}`);
  assert.deepEqual(found, script.map(({ rule, expect }) => `${rule}: ${expect}`));
});

test("the script walks every kind of command, event and refusal", () => {
  const told = native.map((line) => JSON.parse(line));
  const all = (list) => [...new Set(list)].sort();
  assert.deepEqual(all(script.map(({ command }) => command.type)), [
    "BookAppointment",
    "CancelAppointment",
    "ConfirmAppointment",
    "RescheduleAppointment",
    "UpdateAppointment",
  ]);
  assert.deepEqual(all(told.flatMap(({ events = [] }) => events.map(({ type }) => type))), [
    "AppointmentBooked",
    "AppointmentCancelled",
    "AppointmentConfirmed",
    "AppointmentRescheduled",
    "AppointmentUpdated",
  ]);
  assert.deepEqual(all(told.flatMap(({ refused }) => (refused ? [refused.code] : []))), [
    "already-booked",
    "already-cancelled",
    "already-confirmed",
    "doctor-taken",
    "end-not-after-start",
    "invalid-name",
    "invalid-time",
    "not-booked",
    "room-taken",
    "slot-in-past",
    "title-missing",
    "too-long",
  ]);
});

test("the agenda is told with every kind of entry, and after every event", () => {
  const told = native.map((line) => JSON.parse(line));
  const agendas = told.filter(({ after }) => after !== undefined);
  const events = told.filter(({ eventId }) => eventId).length;
  assert.deepEqual(agendas.map(({ after }) => after), Array.from({ length: events + 1 }, (_, index) => index));
  assert.deepEqual(agendas[0].agenda, []);
  const statuses = new Set(agendas.flatMap(({ agenda }) => agenda.map(({ document }) => document.status)));
  assert.deepEqual([...statuses].sort(), ["booked", "cancelled", "confirmed"]);
  const held = told.filter(({ held }) => held !== undefined);
  assert.ok(held.some(({ agenda }) => agenda.length > 1) && held.some(({ agenda }) => agenda.length === 0));
});

test("TypeScript and native Rust agree on events, states, refusals and documents", () => same(typescript, native));

test("Rust in WebAssembly and native Rust agree on events, states, refusals and documents", () => same(wasm, native));

test("a state of the module's is read once more, and then handed out as it is until it is another", async () => {
  const engine = await openWasm({ limits: { cachedStates: 1 } });
  const booked = async (id, doctor) => {
    const [start, end] = ["2100-11-23T09:00:00.000Z", "2100-11-23T09:30:00.000Z"];
    await engine.execute(rust, id, { type: "BookAppointment", data: { ...details, doctor, room: doctor, start, end } });
    const found = [];
    for (const cached of [false, true, false, true]) found.push((await engine.state(rust, id, { cached })).state);
    assert.ok(Object.isFrozen(found[0]));
    assert.ok(found.every((state) => state === found[0]), "once the command had told it");
    assert.equal(found[0].doctor, doctor);
    return found[0];
  };
  try {
    const first = await booked("a-1", "1");
    await engine.execute(rust, "a-1", { type: "ConfirmAppointment", data: {} });
    const confirmed = await engine.state(rust, "a-1");
    assert.deepEqual(confirmed, { state: { ...first, status: "confirmed" }, revision: 2 });
    const past = await engine.state(rust, "a-1", { at: { revision: 1 } });
    assert.deepEqual(past, { state: first, revision: 1 });
    // What another pushes out is read again.
    await booked("a-2", "2");
    const again = await engine.state(rust, "a-1", { cached: true });
    assert.deepEqual(again, confirmed);
    assert.notEqual(again.state, confirmed.state);
  } finally {
    await engine.close();
  }
});

// --- What earlier releases have stored ----------------------------------------------------------

const slot = { doctor: "7", room: "3", start: "2026-11-23T09:00:00.000Z", end: "2026-11-23T09:30:00.000Z" };
const details = { patient: "p-1", appointmentType: "check-up", title: "Blood pressure", comment: "" };
const tags = ["doctor:7/2026-11-23", "room:3/2026-11-23"];
const stored = (type, version, data) => ({ type, version, data: JSON.stringify(data) });
const booked = stored("AppointmentBooked", 1, { ...slot, ...details });
const acknowledged = stored("AppointmentAcknowledged", 1, {});
const cancelled = (...versions) => versions.map(([version, data]) => stored("AppointmentCancelled", version, data));

/** What engines with the domain in TypeScript and in Rust make of what is done with them. */
async function both(run, events, viewOf) {
  const told = [];
  for (const open of [(options) => Engine.open({ aggregates: [appointment], ...options }), openWasm]) {
    const storage = memoryStorage();
    for (const [id, stored] of Object.entries(events)) await fill(storage, id, stored, { tags, commandId: commandIds[id] });
    const reports = [];
    const aggregate = open === openWasm ? rust : appointment;
    const projections = viewOf === undefined ? [] : [viewOf(aggregate)];
    const engine = await open({ storage, projections, onReport: (report) => reports.push(report) });
    try {
      told.push([await run(engine, aggregate, ...projections), reports]);
    } finally {
      await engine.close();
    }
  }
  return told;
}

const commandIds = { "a-1": "00000000-0000-4000-8000-0000000000a1", "a-2": "00000000-0000-4000-8000-0000000000a2" };
const named = ({ type, data, schemaVersion, revision }) => [type, data, schemaVersion, revision];

test("TypeScript and Rust read what earlier releases have stored as the same", async () => {
  const events = {
    "a-1": [booked, acknowledged, ...cancelled([1, {}])],
    "a-2": [booked, ...cancelled([1, { reason: "ill" }], [2, { reason: "" }])],
  };
  const [typescript, rust] = await both(async (engine, aggregate) => {
    const histories = [];
    for (const id of ["a-1", "a-2"]) {
      const { events, ...rest } = await engine.history(aggregate, id);
      const { events: asStored } = await engine.history(aggregate, id, { stored: true });
      histories.push([events.map(named), rest, asStored.map(named), await engine.state(aggregate, id)]);
    }
    const confirmations = [];
    const reading = engine.events({ aggregates: [aggregate], types: ["AppointmentConfirmed"], follow: false });
    for await (const event of reading) confirmations.push(named(event));
    return { histories, confirmations };
  }, events);
  assert.deepEqual(rust, typescript);
  const [{ histories, confirmations }] = typescript;
  assert.deepEqual(confirmations, [["AppointmentConfirmed", {}, 1, 2]]);
  assert.deepEqual(histories[0][0].slice(1), [...confirmations, ["AppointmentCancelled", { reason: "" }, 2, 3]]);
  assert.deepEqual(histories[1][0].slice(1), [
    ["AppointmentCancelled", { reason: "ill" }, 2, 2],
    ["AppointmentCancelled", { reason: "" }, 2, 3],
  ]);
});

test("TypeScript and Rust say the same of what they can't read", async () => {
  const ask = (engine, aggregate) => [
    () => engine.state(aggregate, "a-1"),
    () => engine.history(aggregate, "a-1"),
    () => engine.execute(aggregate, "a-1", { type: "ConfirmAppointment", data: {} }),
    () => engine.execute(aggregate, "a-3", { type: "BookAppointment", data: { ...slot, ...details } }, { issuedAt: "2026-01-01T00:00:00Z" }),
    () => engine.events({ follow: false }).next(),
  ];
  for (const [broken, problem] of [
    [stored("AppointmentConfirmed", 2, {}), "newer-version"],
    [stored("AppointmentAcknowledged", 2, {}), "newer-version"],
    [stored("AppointmentTagged", 1, {}), "unknown-type"],
  ]) {
    const [typescript, rust] = await both(async (engine, aggregate) => {
      const failures = [];
      for (const one of ask(engine, aggregate)) {
        await assert.rejects(one(), ({ code, message, details }) => failures.push({ code, message, details }) > 0);
      }
      return failures;
    }, { "a-1": [broken, booked] });
    assert.deepEqual(rust, typescript);
    const details = { stream: { type: "Appointment", id: "a-1" }, revision: 1, problem };
    for (const failure of typescript[0]) assert.deepEqual([failure.code, failure.details], ["unreadable-event", details]);
  }
});

test("views say the same of events that neither TypeScript nor Rust knows", async () => {
  const events = { "a-1": [acknowledged, stored("AppointmentTagged", 1, {}), stored("AppointmentConfirmed", 1, {})] };
  for (const unknownEvents of ["fail", "skip"]) {
    const viewOf = (aggregate) => projection("confirmed", {
      version: 1,
      kind: "live",
      aggregates: [aggregate],
      unknownEvents,
      on: { AppointmentConfirmed: (view, { revision }) => view.set(String(revision), { revision }) },
    });
    const [typescript, rust] = await both(async (engine, _, own) => {
      const view = engine.view(own);
      const listing = await view.list({ latest: true }).catch(({ code, details: { reason } }) => ({ code, reason }));
      const { skipped } = await view.status();
      return { ...listing, skipped };
    }, events, viewOf);
    assert.deepEqual(rust, typescript);
    const why = "AppointmentTagged: event 2 of Appointment/a-1 can't be read: AppointmentTagged: unknown type";
    const report = { kind: "events-skipped", stream: { type: "Appointment", id: "a-1" }, revision: 2, type: "AppointmentTagged", count: 1 };
    const documents = ["1", "3"].map((key) => ({ key, document: { revision: Number(key) } }));
    assert.deepEqual(typescript, unknownEvents === "fail"
      ? [{ code: "projection-stopped", reason: why, skipped: 0 }, []]
      : [{ documents, cursor: null, skipped: 1 }, [report]]);
  }
});

test("reactions and process managers in TypeScript answer events of an aggregate in Rust", async () => {
  const mailed = [];
  const mail = reaction("mail", { startAt: "beginning", on: { AppointmentBooked: ({ stream, data }) => void mailed.push([stream.id, data.doctor]) } });
  const confirming = (aggregate) => processManager("confirming", {
    startAt: "beginning",
    initial: () => ({}),
    key: ({ stream }) => stream.id,
    on: { AppointmentBooked: (_, { stream }, commands) => commands.give(aggregate, stream.id, { type: "ConfirmAppointment", data: {} }) },
  });
  const engine = await openWasm({ reactions: [mail, confirming(rust)] });
  const issuedAt = "2026-01-01T00:00:00Z";
  await engine.execute(rust, "a-1", { type: "BookAppointment", data: { ...slot, ...details } }, { issuedAt });
  await until(async () => (await engine.state(rust, "a-1")).revision === 2 && mailed.length > 0);
  const { events } = await engine.history(rust, "a-1");
  assert.deepEqual(events.map(({ type }) => type), ["AppointmentBooked", "AppointmentConfirmed"]);
  assert.deepEqual(mailed, [["a-1", events[0].data.doctor]]);
  await engine.close();
});

function same(found, expected) {
  for (const [index, line] of expected.entries()) {
    assert.equal(found[index], line, script[index]?.rule ?? `line ${index}`);
  }
  assert.equal(found.length, expected.length);
}
