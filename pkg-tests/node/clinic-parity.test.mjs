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
import { nativeProjection } from "annals/projections";
import * as glue from "../../www/clinic/pkg/clinic.js";
import { kindOf, play, script, scriptFile } from "../clinic/play.mjs";
import { importTypeScript } from "../support/typescript.mjs";

const { appointment } = await importTypeScript(new URL("../clinic/appointment.ts", import.meta.url));
const { agenda } = await importTypeScript(new URL("../clinic/agenda.ts", import.meta.url));

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

async function playWasm() {
  const [rust, agenda] = [nativeAggregate("Appointment"), nativeProjection("agenda")];
  const module = { glue, wasm: await readFile(new URL("../../www/clinic/pkg/clinic_bg.wasm", import.meta.url)) };
  const engine = await SlimEngine.open({ module, storage: memoryStorage(), aggregates: [rust], projections: [agenda] });
  try {
    return await play(engine, rust, agenda);
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
  // All but `unreadable-event`: what is in the log was written by this domain.
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

function same(found, expected) {
  for (const [index, line] of expected.entries()) {
    assert.equal(found[index], line, script[index]?.rule ?? `line ${index}`);
  }
  assert.equal(found.length, expected.length);
}
