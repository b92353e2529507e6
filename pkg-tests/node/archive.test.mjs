// Archives: what is exported from a store comes back in another one as it was.

import assert from "node:assert/strict";
import { test } from "node:test";
import { AnnalsError, Engine, aggregate } from "annals";
import { memoryStorage } from "annals/memory";
import { checkArchive, exportLog, importLog, verify } from "annals/operations";
import { processManager, reaction } from "annals/reactions";
import { commit, event, judge, Subject } from "annals/testing/conformance";
import { archiveFrom, archiveOf, contentOf, inPieces, sha256 } from "../support/archives.mjs";
import { onEachStore } from "../support/engine-stores.mjs";
import { until } from "../support/expect.mjs";
import { importTypeScript } from "../support/typescript.mjs";

// Before any test, for the run is over when all that are known have ended.
const { NAMES } = await importTypeScript(new URL("../../src/host/testing/conformance/rules/texts.ts", import.meta.url));

const visit = aggregate("Visit", {
  initial: () => 0,
  decide: (_, { data: { events = 1, ...data } }) => Array.from({ length: events }, (_, index) => ({ type: `Booked${index % 2}`, data })),
  evolve: { Booked0: (count) => count + 1, Booked1: (count) => count + 1 },
  tags: ({ data }) => (data.doctor === undefined ? [] : [`doctor:${data.doctor}`, "all"]),
});

const room = aggregate("Room", {
  initial: () => 0,
  decide: (_, command) => [command],
  evolve: { Book: (count) => count + 1, Noted: (count) => count + 1 },
});

const ids = Array.from({ length: 2_000 }, (_, index) => `00000000-0000-4000-8000-${String(index).padStart(12, "0")}`);

/** Commands with all that a command may have, some of several events. */
async function fill(engine, from = 0, to = 40) {
  for (let index = from; index < to; index += 1) {
    const data = { events: 1 + (index % 3), doctor: index % 4, text: `“ein\u2028Termin” \\"},"data": 🩺 ${index}` };
    const options = {
      commandId: ids[index],
      actor: index % 2 ? "reception" : undefined,
      metadata: index % 3 ? { "},\"metadata\":": [1.5, null] } : undefined,
      correlationId: index % 5 ? ids[0] : undefined,
    };
    await engine.execute(index % 7 === 6 ? room : visit, `v-${index % 5}`, { type: "Book", data }, options);
  }
}

const open = (storage, options = {}) => Engine.open({ storage, aggregates: [visit, room], ...options });

async function filled(from, to) {
  const storage = memoryStorage();
  const engine = await open(storage);
  await fill(engine, from, to);
  return { storage, engine };
}

async function logOf(storage) {
  const { epoch } = await storage.open();
  const all = { types: [], aggregateTypes: [], tags: [], correlationId: null };
  return (await storage.readLog({ epoch, after: 0, ...all, limit: 10_000 })).events;
}

const problem = (problem) => (error) => {
  assert.ok(AnnalsError.is(error, "unreadable-archive"), String(error));
  assert.equal(error.details.problem, problem, error.message);
  return true;
};

const code = (code) => (error) => {
  assert.ok(AnnalsError.is(error, code), `expected ${code}, found ${error?.code}: ${error?.message}`);
  return true;
};

onEachStore("what was exported comes back as it was, in a store with an epoch of its own", async (place) => {
  const { storage: source } = await filled();
  const { text, result } = await archiveOf(source);
  const target = place.storage();
  const imported = await importLog(target, inPieces(text, 1_000));
  const log = await logOf(source);
  assert.deepEqual([...(await logOf(target))].map((event) => ({ ...event })), log);
  const { epoch } = await target.open();
  assert.notEqual(epoch, (await source.open()).epoch);
  assert.deepEqual(imported, { commits: 40, events: log.length, known: 0, position: `${epoch}:${log.length}`, isWhole: true });
  assert.equal(result.events, log.length);
  assert.deepEqual(contentOf((await archiveOf(target)).text), contentOf(text), "and is exported as it was");
  const { isSound, findings } = await verify(target);
  assert.ok(isSound, JSON.stringify(findings));
});

onEachStore("a command that is repeated after an import has its first outcome", async (place) => {
  const { storage, engine } = await filled(0, 3);
  const command = { type: "Book", data: { doctor: 1 } };
  const first = await engine.execute(visit, "v-9", command, { commandId: ids[99] });
  const target = place.storage();
  await importLog(target, (await archiveOf(storage)).text);
  const other = await place.open({ aggregates: [visit, room] });
  const again = await other.execute(visit, "v-9", command, { commandId: ids[99] });
  assert.deepEqual([again.revision, again.events.map(({ eventId }) => eventId)], [first.revision, first.events.map(({ eventId }) => eventId)]);
  await assert.rejects(other.execute(visit, "v-9", { type: "Book", data: { doctor: 2 } }, { commandId: ids[99] }), code("command-id-reused"));
  assert.equal((await logOf(target)).length, (await logOf(storage)).length);
  await fill(other, 40, 45);
  assert.ok((await verify(target)).isSound, "and the store goes on");
});

onEachStore("payloads come back byte for byte, however they are written", async (place) => {
  const subject = await Subject.open(memoryStorage());
  const texts = [
    "1.0", '{"b":1,"a":2,"b":3}', ' [ 1 , 2 ] ', '{"a":\n1}', '{"a":\r1}', "1e400", '"\\ud800"', '"},\\"data\\":"', "9007199254740993",
    '{"text":"},{\\"event\\":"}', "null", '"\u2028"', `"${"x".repeat(70_000)}"`,
  ];
  for (const [index, data] of texts.entries()) {
    await subject.accept(commit(`a-${index}`, 0, [event("Booked", ["a\"b", " "], { data })], { extra: index % 2 ? data : null }));
  }
  const { text } = await archiveOf(subject.storage);
  const target = place.storage();
  await importLog(target, text);
  const log = await logOf(target);
  assert.deepEqual(log.map(({ data }) => data), texts);
  assert.deepEqual(log.map(({ extra }) => extra), texts.map((data, index) => (index % 2 ? data : null)));
});

onEachStore("names come back as they are, whatever they are", async (place) => {
  const subject = await Subject.open(memoryStorage());
  for (const [index, name] of NAMES.entries()) {
    const other = NAMES.at(index - 1);
    const names = { aggregateType: other, correlationId: name, causationId: other, actor: name, commandId: `of ${name}`, hash: name };
    await subject.accept(commit(name, 0, [event(name, [name, other], { eventId: `in ${name}` })], names));
  }
  const { text } = await archiveOf(subject.storage);
  const target = place.storage();
  assert.equal((await importLog(target, inPieces(text, 999))).events, NAMES.length);
  assert.deepEqual((await logOf(target)).map((event) => ({ ...event })), (await logOf(subject.storage)).map((event) => ({ ...event })));
  const { isSound, findings } = await verify(target);
  assert.ok(isSound, JSON.stringify(findings));
  assert.deepEqual(contentOf((await archiveOf(target)).text), contentOf(text));
  for (const name of NAMES) {
    for (const [filter, count] of [[{ types: [name] }, 1], [{ tags: [name] }, 2], [{ aggregateTypes: [name] }, 1], [{ correlationId: name }, 1]]) {
      assert.equal((await archiveOf(target, filter)).result.events, count, JSON.stringify(filter));
    }
  }
});

test("a payload is in its line as what it is, and every line is JSON", async () => {
  const { storage } = await filled();
  const { text } = await archiveOf(storage);
  const lines = text.trimEnd().split("\n").map((line) => JSON.parse(line));
  assert.equal(lines[2].data.doctor, 0);
  assert.deepEqual(lines[3].metadata, { "},\"metadata\":": [1.5, null] });
  assert.ok(text.endsWith("\n") && !text.includes("\r"));
});

test("the checksum is SHA-256 of the lines before it, and the same log gives the same bytes", async () => {
  const { storage, engine } = await filled();
  for (let index = 0; index < 1_500; index += 1) void engine.execute(visit, `w-${index}`, { type: "Book", data: {} });
  await engine.execute(visit, "last", { type: "Book", data: {} });
  const { text } = await archiveOf(storage);
  const lines = text.split(/(?<=\n)/);
  const checks = lines.flatMap((line, index) => (/^\{"(check|end)"/.test(line) ? [index] : []));
  assert.ok(checks.length > 2);
  for (const index of checks) {
    const { sha256: said } = Object.values(JSON.parse(lines[index]))[0];
    assert.equal(said, sha256(lines.slice(0, index).join("")));
  }
  assert.equal((await archiveOf(storage)).text, text);
});

test("an empty store is exported and imported", async () => {
  const { text, result } = await archiveOf(memoryStorage());
  assert.deepEqual([result.commits, result.events], [0, 0]);
  assert.deepEqual(await importLog(memoryStorage(), text), { commits: 0, events: 0, known: 0, position: null, isWhole: true });
});

onEachStore("an archive can be of what has come since another, and is imported after it", async (place) => {
  const { storage, engine } = await filled(0, 20);
  const first = await archiveOf(storage);
  await fill(engine, 20, 40);
  const second = await archiveOf(storage, { after: first.result.until });
  const target = place.storage();
  await assert.rejects(importLog(target, second.text), code("incomplete-archive"));
  assert.equal((await target.open()).head, 0);
  await importLog(target, first.text);
  const { commits, known } = await importLog(target, second.text);
  assert.deepEqual([commits, known], [20, 0]);
  assert.deepEqual((await logOf(target)).map((event) => ({ ...event })), await logOf(storage));
  const again = await importLog(target, second.text);
  assert.deepEqual([again.commits, again.known > 0], [0, true]);
});

onEachStore("an archive of some aggregate types can stand alone, in the order of the log", async (place) => {
  const { storage } = await filled();
  const { text } = await archiveOf(storage, { aggregateTypes: ["Room"] });
  const target = place.storage();
  await importLog(target, text);
  const expected = (await logOf(storage)).filter(({ aggregateType }) => aggregateType === "Room");
  const found = await logOf(target);
  assert.ok(expected.length > 3 && expected[0].position > 1);
  assert.deepEqual(found.map(({ position, ...rest }) => rest), expected.map(({ position, ...rest }) => rest));
  assert.deepEqual(found.map(({ position }) => position), expected.map((_, index) => index + 1));
  assert.equal((await importLog(target, text)).known, expected.length);
});

test("what passes a filter is exported, and can't be imported where it cuts streams or commits", async () => {
  const { storage } = await filled();
  const log = await logOf(storage);
  for (const [options, passes] of [
    [{ types: ["Booked1"] }, ({ type }) => type === "Booked1"],
    [{ tags: ["doctor:1"] }, ({ tags }) => tags.includes('"doctor:1"')],
    [{ correlationId: ids[5] }, ({ correlationId }) => correlationId === ids[5]],
  ]) {
    const { text, result } = await archiveOf(storage, options);
    const expected = log.filter(passes).map(({ eventId }) => eventId);
    const found = contentOf(text).flatMap((line) => JSON.parse(line).event?.eventId ?? []);
    assert.deepEqual(found, expected);
    assert.equal(result.events, expected.length);
    const target = memoryStorage();
    await assert.rejects(importLog(target, text), code("incomplete-archive"));
    assert.equal((await checkArchive(text)).events, expected.length, "but read");
  }
});

test("an export can be given up, and be gone on with from the part that is whole", async () => {
  const { storage, engine } = await filled();
  await Promise.all(ids.slice(40).map((commandId, index) => engine.execute(visit, `w-${index}`, { type: "Book", data: {} }, { commandId })));
  const { text: whole } = await archiveOf(storage);
  const stop = new AbortController();
  let written = "";
  await assert.rejects(async () => {
    for await (const part of exportLog(storage, { signal: stop.signal })) {
      written += Buffer.from(part).toString();
      if (written.split("\n").length > 1_500) stop.abort();
    }
  }, code("cancelled"));
  await engine.execute(visit, "later", { type: "Book", data: {} });
  for (const length of [written.length, written.length - 10, written.indexOf("\n") + 100]) {
    const { unfinished } = await checkArchive(written.slice(0, length));
    const kept = Buffer.from(written).subarray(0, unfinished.bytes).toString();
    const { text: rest } = await archiveOf(storage, { resume: unfinished });
    assert.equal(kept + rest, whole);
  }
  assert.equal((await checkArchive(whole)).unfinished, null);
  await assert.rejects(archiveOf(memoryStorage(), { resume: (await checkArchive(written)).unfinished }), { code: "foreign-epoch" });
});

onEachStore("an import that was interrupted goes on when it is given the archive again", async (place) => {
  const { storage, engine } = await filled();
  await Promise.all(ids.slice(40, 1_800).map((commandId, index) => engine.execute(visit, `w-${index}`, { type: "Book", data: {} }, { commandId })));
  const { text } = await archiveOf(storage);
  const target = place.storage();
  let told;
  async function* interrupted() {
    yield text.slice(0, text.length / 2);
    throw new Error("the line was cut");
  }
  await assert.rejects(importLog(target, interrupted()), /the line was cut/);
  const { head } = await target.open();
  assert.ok(head > 0 && head < (await logOf(storage)).length);
  const { findings } = await verify(target);
  assert.deepEqual(findings.map(({ code }) => code), ["import-unfinished"]);
  const stop = new AbortController();
  const onProgress = ({ done, total }) => {
    told = [done, total];
    if (done > head + 300) stop.abort();
  };
  await assert.rejects(importLog(target, text, { signal: stop.signal, onProgress }), (error) => {
    const { imported } = error.details;
    return AnnalsError.is(error, "cancelled") && imported.known === head && imported.events > 0;
  });
  const { isWhole, known } = await importLog(target, text);
  assert.ok(isWhole && known > head && told[1] === (await logOf(storage)).length);
  assert.deepEqual((await logOf(target)).map((event) => ({ ...event })), await logOf(storage));
  assert.ok((await verify(target)).isSound);
});

test("an archive that was cut off is told with what was imported, and can be taken for all there is", async () => {
  const { storage, engine } = await filled();
  await Promise.all(ids.slice(40, 1_500).map((commandId, index) => engine.execute(visit, `w-${index}`, { type: "Book", data: {} }, { commandId })));
  const { text } = await archiveOf(storage);
  const lines = text.split(/(?<=\n)/);
  const first = lines.findIndex((line) => line.startsWith('{"check"'));
  for (const cut of ["", text.slice(0, 50), lines[0], lines.slice(0, 9).join(""), text.slice(0, -1), text.slice(0, -200), lines.slice(0, first + 1).join("")]) {
    const target = memoryStorage();
    await assert.rejects(importLog(target, cut), (error) => {
      problem("truncated")(error);
      const checked = cut.split("\n").slice(0, -1).some((line) => line.startsWith('{"check"'));
      return error.details.imported.events > 0 === checked;
    });
  }
  const target = memoryStorage();
  const { isWhole, events } = await importLog(target, text.slice(0, -200), { partial: true });
  assert.ok(!isWhole && events > 500);
  assert.ok((await verify(target)).isSound);
});

test("a byte that was changed anywhere is found before what it is in is imported", async () => {
  const { storage } = await filled(0, 6);
  const { text } = await archiveOf(storage);
  const bytes = Buffer.from(text);
  for (let at = 0; at < bytes.length; at += 1) {
    const changed = Buffer.from(bytes);
    changed[at] ^= 1;
    const target = memoryStorage();
    await assert.rejects(importLog(target, [changed]), (error) => AnnalsError.is(error, "unreadable-archive"), `byte ${at}`);
    assert.equal((await target.open()).head, 0, `byte ${at}`);
    await assert.rejects(checkArchive(changed).then(({ unfinished }) => assert.equal(unfinished, null)), undefined, `byte ${at}`);
  }
});

test("lines that are missing, doubled or in another order are found", async () => {
  const { storage } = await filled(0, 6);
  const lines = (await archiveOf(storage)).text.split(/(?<=\n)/);
  const without = lines.filter((_, index) => index !== 3);
  const doubled = [...lines.slice(0, 4), lines[3], ...lines.slice(4)];
  const turned = [...lines.slice(0, 3), lines[4], lines[3], ...lines.slice(5)];
  for (const changed of [without, doubled, turned, [...lines, "\n"], [...lines, lines[0]]]) {
    await assert.rejects(importLog(memoryStorage(), changed), problem("changed"));
  }
  await assert.rejects(importLog(memoryStorage(), ["hello\n"]), problem("unknown"));
  await assert.rejects(importLog(memoryStorage(), ["{}\n"]), problem("unknown"));
  await assert.rejects(importLog(memoryStorage(), archiveFrom([], { version: 2 })), problem("newer-version"));
});

test("an archive that somebody else has written is held to the same rules", async () => {
  const { storage } = await filled(0, 3);
  const lines = contentOf((await archiveOf(storage)).text);
  const whole = await importLog(memoryStorage(), archiveFrom(lines));
  assert.deepEqual([whole.commits, whole.events], [3, 6]);
  const [first, ...rest] = [lines.slice(0, 2), lines.slice(2, 5), lines.slice(5)];
  const later = lines.map((line) => line.replace(/("recordedAt":"20)26/, "$127"));
  for (const [archive, found] of [
    [[...rest.flat(), ...first], problem("wrong-order")],
    [[...later.slice(0, 2), ...lines.slice(2)], problem("wrong-order")],
    [lines.slice(1), problem("changed")],
    [lines.map((line) => line.replace('"schemaVersion":1', '"schemaVersion":"1"')), problem("changed")],
    [lines.map((line) => line.replace(/"tags":\[[^\]]*\]/, '"tags":[1]')), problem("changed")],
    [lines.map((line) => line.replace(/,"data":.*/, "}")), problem("changed")],
    [lines.slice(0, -1), code("incomplete-archive")],
    [[...first, ...lines.slice(5)], code("incomplete-archive")],
    [rest.flat(), code("incomplete-archive")],
  ]) {
    const target = memoryStorage();
    await assert.rejects(importLog(target, archiveFrom(archive)), found);
    assert.equal((await target.open()).head, 0);
    assert.ok((await verify(target)).isSound, "nothing is left of it");
  }
  await assert.rejects(importLog(memoryStorage(), archiveFrom(lines, { until: 7 })), code("incomplete-archive"));
  const twice = [...first, ...first.map((line) => line.replace('"position":1', '"position":2').replace('"revision":1', '"revision":2'))];
  await assert.rejects(importLog(memoryStorage(), archiveFrom(twice)), code("event-id-collision"));
});

/** Changes to the second commit of an archive, or to its second event, after which no engine would store it. */
const [COMMIT, EVENT] = [2, 4];
const invalid = [
  ...["hm {", "", "{", "nul", '{"a":1}x', '"\t"', "\u00a0{}", `"${"x".repeat(1024 * 1024)}"`, "[".repeat(121) + "]".repeat(121), '{"a":'.repeat(20_000) + "1" + "}".repeat(20_000)].flatMap((text) => [
    [EVENT, /,"data":.*/s, () => `,"data":${text}}`],
    [EVENT, /,"data":.*/s, () => `,"text":${JSON.stringify(text)}}`],
    [COMMIT, /\}(,"metadata".*|\})$/s, () => `},"metadata":${text}}`],
  ]),
  [EVENT, /,"data":.*/s, () => ',"text":"\\"\\ud800\\""}'],
  ...["issuedAt", "recordedAt"].flatMap((name) => ["yesterday", "", "2026-13-01T00:00:00.000Z", "2026-11-30", "2026-11-30T15:29:51Z", "2026-11-30T15:29:51.935+01:00"].map((time) => [COMMIT, new RegExp(`"${name}":"[^"]*"`), () => `"${name}":"${time}"`])),
  ...["", "a\\u0000b", "\\n", "\\u0085", "\\ud800", "x".repeat(2 * 1024 * 1024), "€".repeat(342)].flatMap((name) => [
    ...["commandId", "hash", "aggregateType", "aggregateId", "correlationId"].map((member) => [COMMIT, new RegExp(`"${member}":"[^"]*"`), () => `"${member}":"${name}"`]),
    ...["causationId", "actor"].map((member) => [COMMIT, new RegExp(`"${member}":(null|"[^"]*")`), () => `"${member}":"${name}"`]),
    ...["eventId", "type"].map((member) => [EVENT, new RegExp(`"${member}":"[^"]*"`), () => `"${member}":"${name}"`]),
    [EVENT, /"tags":\[/, () => `"tags":["${name}",`],
  ]),
  ...[0, 2 ** 32].map((version) => [EVENT, '"schemaVersion":1', () => `"schemaVersion":${version}`]),
  [COMMIT, '"revision":2', () => '"revision":0'],
  [COMMIT, '"count":2', () => '"count":0'],
];

onEachStore("an archive with what no engine would store is refused alike in every store", async (place) => {
  const { storage } = await filled(0, 3);
  const lines = contentOf((await archiveOf(storage)).text);
  assert.deepEqual(lines.map((line) => line.slice(2, 7)), ["commi", "event", "commi", "event", "event", "commi", "event", "event", "event"]);
  const target = place.storage();
  // No store is asked before an archive's part has been looked at, so a few are enough for most.
  const some = place.durability === "memory" ? invalid : invalid.filter((_, index) => index % 12 === 0);
  for (const [at, found, replace] of some) {
    const changed = lines.map((line, index) => (index === at ? line.replace(found, replace) : line));
    assert.notDeepEqual(changed, lines, String(found));
    const refused = (error) => {
      const { problem, line } = error.details;
      assert.deepEqual([problem, line], ["invalid", at + 2], `${error.message} in ${changed[at].slice(0, 400)}`);
      return true;
    };
    await assert.rejects(importLog(target, archiveFrom(changed)), refused);
    await assert.rejects(checkArchive(archiveFrom(changed)), refused);
  }
  const childless = [lines[0], ...lines.slice(2)];
  for (const changed of [childless, [...lines, lines[5]], [lines[0]]]) await assert.rejects(importLog(target, archiveFrom(changed)), problem("changed"));
  assert.equal((await target.open()).head, 0);
  assert.ok((await verify(target)).isSound, "nothing is left of them");
  assert.equal((await importLog(target, archiveFrom(lines))).events, 6);
});

test("members that are not known are passed by", async () => {
  const { storage } = await filled(0, 3);
  const more = '"recordedBy":"x","eventId":"y","data":"z","__proto__":{"a":1}';
  const lines = contentOf((await archiveOf(storage)).text).map((line) => line.replace(/^\{"(commit|event)":\{/, (start) => `${start}${start.includes("commit") ? more : more.replace('"eventId":"y",', "")},`));
  const target = memoryStorage();
  assert.equal((await importLog(target, archiveFrom(lines))).events, 6);
  assert.deepEqual(await logOf(target), await logOf(storage));
  assert.equal((await importLog(target, archiveFrom(lines))).known, 6);
});

onEachStore("an event whose id another one has, in the archive or in the store, is refused with its part", async (place) => {
  const target = place.storage();
  const refused = async (text, eventId) => {
    const before = await logOf(target);
    let imported;
    await assert.rejects(importLog(target, text), (error) => {
      ({ imported } = error.details);
      return code("event-id-collision")(error) && error.details.eventId === eventId;
    });
    const log = await logOf(target);
    assert.deepEqual(log.slice(0, before.length), before);
    assert.equal(log.length, before.length + imported.events);
    assert.equal(new Set(log.map(({ eventId }) => eventId)).size, log.length, "no id comes twice");
    return imported;
  };
  const source = await Subject.open(memoryStorage());
  const book = (index, eventIds = [`event ${index}`]) => source.accept(commit(`a-${index}`, 0, eventIds.map((eventId) => event("Booked", [], { eventId }))));
  for (let index = 0; index < 4; index += 1) await book(index);
  const first = await archiveOf(source.storage);
  const lines = contentOf(first.text);
  // Two commands, and one command with two events.
  await refused(archiveFrom(lines.map((line) => line.replace("event 3", "event 1"))), "event 1");
  const one = await Subject.open(memoryStorage());
  await one.accept(commit("a-1", 0, [event("Booked", [], { eventId: "twin" }), event("Booked", [], { eventId: "twin" })]));
  await refused((await archiveOf(one.storage)).text, "twin");
  assert.equal((await target.open()).head, 0);
  assert.ok((await verify(target)).isSound, "no import is said to be under way");
  // What the store has already, in an archive of what has come since.
  await importLog(target, first.text);
  await book(4, ["event 2"]);
  const second = await archiveOf(source.storage, { after: first.result.until });
  assert.deepEqual(await refused(second.text, "event 2"), { commits: 0, events: 0, known: 0 });
  assert.ok((await verify(target)).isSound);
  // Parts before the one that is refused have come.
  const long = await Subject.open(memoryStorage());
  await importLog(long.storage, first.text);
  await long.accept(...Array.from({ length: 1_200 }, (_, index) => commit(`b-${index}`, 0, [event("Booked", [], { eventId: index === 1_100 ? "long 7" : `long ${index}` })])));
  const { known, events } = await refused((await archiveOf(long.storage)).text, "long 7");
  assert.ok(known === 4 && events >= 496 && events < 1_100, `${events} events`);
});

onEachStore("a store with other events is left as it is", async (place) => {
  const { storage } = await filled();
  const { text } = await archiveOf(storage);
  const target = place.storage();
  const subject = await Subject.open(target);
  await subject.accept(commit("a-1", 0, [event()]));
  const before = await logOf(target);
  await assert.rejects(importLog(target, text), code("other-events"));
  assert.deepEqual(await logOf(target), before);
  assert.ok((await verify(target)).isSound, "no import is said to be under way");
});

onEachStore("the same id with other content is told, and nothing of it is imported", async (place) => {
  const { storage } = await filled(0, 6);
  const lines = contentOf((await archiveOf(storage)).text);
  const target = place.storage();
  await importLog(target, archiveFrom(lines));
  const before = await logOf(target);
  const last = lines.length - 1;
  for (const change of [
    ['"doctor":1', '"doctor":2'], [/"hash":"./, '"hash":"_'], ['"type":"Booked0"', '"type":"Other"'], ['"schemaVersion":1', '"schemaVersion":2'],
    ['"tags":["doctor:1"', '"tags":["doctor:2"'], ['"actor":"reception"', '"actor":null'], [/"eventId":"[^"]*"/, '"eventId":"another"'],
    [/"commandId":"[^"]*"/, '"commandId":"another"'],
  ]) {
    const changed = [...lines.slice(0, -4), ...lines.slice(-4).map((line) => line.replace(...change))];
    assert.notDeepEqual(changed, lines, String(change));
    await assert.rejects(importLog(target, archiveFrom(changed)), code("event-id-collision"), String(change));
  }
  await assert.rejects(importLog(target, archiveFrom(lines.map((line, at) => (at < last ? line : line.replace(',"data":', ',  "data":'))))));
  assert.deepEqual(await logOf(target), before);
});

onEachStore("events that come from elsewhere while an import is under way end it", async (place) => {
  const { storage, engine } = await filled();
  await Promise.all(ids.slice(40, 1_500).map((commandId, index) => engine.execute(visit, `w-${index}`, { type: "Book", data: {} }, { commandId })));
  const { text } = await archiveOf(storage);
  const target = place.storage();
  const other = await Subject.open(place.storage());
  async function* source() {
    yield text.slice(0, text.length / 2);
    await other.accept(commit("in-between", 0, [event()]));
    yield text.slice(text.length / 2);
  }
  await assert.rejects(importLog(target, source()), (error) => code("other-events")(error) && error.details.imported.events > 0);
  assert.equal((await logOf(target)).at(-1).aggregateId, "in-between", "nothing has come behind it");
});

// --- A store that judges by itself ------------------------------------------------------------------

/** A store whose verdicts follow from the request, as a database's own do. */
function judging(storage) {
  const append = (request) => storage.append(request, (facts) => judge(request.commits, facts, request.now));
  return { ...methodsOf(storage), append };
}

test("a store that judges by itself is imported into as any other", async () => {
  const { storage, engine } = await filled();
  await Promise.all(ids.slice(40, 400).map((commandId, index) => engine.execute(visit, `w-${index % 100}`, { type: "Book", data: {} }, { commandId })));
  const { text } = await archiveOf(storage);
  const target = memoryStorage();
  assert.equal((await importLog(judging(target), text)).commits, 400);
  assert.deepEqual(await logOf(target), await logOf(storage));
  assert.ok((await verify(target)).isSound);
  assert.equal((await importLog(judging(target), text)).commits, 0);
});

test("nothing is imported behind what has come into a store that judges by itself", async () => {
  const { storage } = await filled(0, 6);
  const { text } = await archiveOf(storage);
  const lines = contentOf(text);
  const target = memoryStorage();
  const other = await Subject.open(target);
  let isFirst = true;
  const append = async (request) => {
    if (isFirst) await other.accept(commit("in-between", 0, [event()]));
    isFirst = false;
    return judging(target).append(request);
  };
  await assert.rejects(importLog({ ...methodsOf(target), append }, text), code("other-events"));
  assert.equal((await target.open()).head, 1);
  const first = lines.slice(0, 2);
  const twice = [...first, ...first.map((line) => line.replace('"position":1', '"position":2').replace('"revision":1', '"revision":2'))];
  const second = memoryStorage();
  await assert.rejects(importLog(judging(second), archiveFrom(twice)), code("event-id-collision"));
  const missing = [...first, ...first.map((line) => line.replace('"position":1', '"position":2').replace('"revision":1', '"revision":3').replace(/"(commandId|eventId)":"[^"]*"/g, '"$1":"x"'))];
  await assert.rejects(importLog(judging(memoryStorage()), archiveFrom(missing)), code("incomplete-archive"));
});

test("an archive comes from a stream, from an iterable of bytes or texts, or as a whole", async () => {
  const { storage } = await filled();
  const { text } = await archiveOf(storage);
  const bytes = new TextEncoder().encode(text);
  const sources = [
    text, bytes, [text], inPieces(text, 7), new Blob([bytes]).stream(), new Response(text).body,
    { getReader: () => new Response(text).body.getReader() },
    (async function* () { for (const byte of bytes.subarray(0, 500)) yield Uint8Array.of(byte); yield bytes.subarray(500); })(),
  ];
  for (const source of sources) assert.equal((await importLog(memoryStorage(), source)).commits, 40);
});

test("a source is let go of when an import fails", async () => {
  let closed = 0;
  async function* source() {
    try {
      yield "hello\n";
      yield "there\n";
    } finally {
      closed += 1;
    }
  }
  await assert.rejects(importLog(memoryStorage(), source()), problem("unknown"));
  const stream = new ReadableStream({ pull: (controller) => controller.enqueue("hello\n"), cancel: () => void (closed += 1) });
  await assert.rejects(importLog(memoryStorage(), { getReader: () => stream.getReader() }), problem("unknown"));
  assert.equal(closed, 2);
});

test("a position of another store or beyond the log is refused", async () => {
  const { storage } = await filled(0, 3);
  const { epoch, head } = await storage.open();
  await assert.rejects(archiveOf(storage, { after: "elsewhere:1" }), code("foreign-position"));
  await assert.rejects(archiveOf(storage, { after: `${epoch}:${head + 1}` }), code("no-such-position"));
  assert.equal((await archiveOf(storage, { after: `${epoch}:${head}` })).result.events, 0);
});

test("what can't come back as it is, is not exported", async () => {
  const { storage } = await filled(0, 3);
  const broken = (change) => ({ ...methodsOf(storage), ...change });
  await assert.rejects(
    archiveOf(broken({ readLog: async (request) => { const page = await storage.readLog(request); return { ...page, events: page.events.map((event) => ({ ...event, tags: "{}" })) }; } })),
    (error) => code("damaged-store")(error) && error.details.damage === "unreadable-tags" && error.details.position === 1,
  );
  await assert.rejects(
    archiveOf(broken({ load: async (request) => ({ ...(await storage.load(request)), commands: request.commands.map(() => null) }) })),
    (error) => code("damaged-store")(error) && error.details.damage === "outcome-disagrees",
  );
});

const methodsOf = (storage) =>
  Object.fromEntries(["open", "append", "load", "readLog", "saveDocuments", "readDocuments", "close"].map((name) => [name, (...args) => storage[name](...args)]));

// --- Reactions ----------------------------------------------------------------------------------

function mailer(startAt) {
  const sent = [];
  const definition = reaction("mailer", { startAt, on: { Booked0: ({ stream, revision }) => void sent.push(`${stream.id}/${revision}`) } });
  return { definition, sent };
}

for (const startAt of ["beginning", "now"]) {
  onEachStore(`a reaction from ${startAt} that begins after an import sends nothing for what was imported`, async (place) => {
    const { storage } = await filled();
    await importLog(place.storage(), (await archiveOf(storage)).text);
    const mail = mailer(startAt);
    const engine = await place.open({ aggregates: [visit, room], reactions: [mail.definition], limits: { lease: 60 } });
    await until(async () => (await engine.reaction(mail.definition).status()).runsHere);
    await engine.execute(visit, "new", { type: "Book", data: {} });
    await until(async () => (await engine.reaction(mail.definition).status()).behind === 0);
    assert.deepEqual(mail.sent, ["new/1"]);
  });
}

onEachStore("a process manager that begins after an import gives no command for what was imported", async (place) => {
  const { storage } = await filled();
  await importLog(place.storage(), (await archiveOf(storage)).text);
  const note = processManager("notes", {
    startAt: "beginning",
    initial: () => 0,
    key: ({ stream }) => stream.id,
    on: { Booked0: (count, { stream }, commands) => (commands.give(room, `of ${stream.id}`, { type: "Noted", data: {} }), count + 1) },
  });
  const engine = await place.open({ aggregates: [visit, room], reactions: [note], limits: { lease: 60 } });
  await until(async () => (await engine.reaction(note).status()).runsHere);
  await engine.execute(visit, "new", { type: "Book", data: {} });
  await until(async () => (await engine.state(room, "of new")).revision > 0);
  const noted = (await logOf(place.storage())).filter(({ type }) => type === "Noted");
  assert.deepEqual(noted.map(({ aggregateId }) => aggregateId), ["of new"]);
});

onEachStore("a reaction that comes up while an import is under way waits for its end and begins after it", async (place) => {
  const { storage, engine: source } = await filled();
  await Promise.all(ids.slice(40, 1_500).map((commandId, index) => source.execute(visit, `w-${index}`, { type: "Book", data: {} }, { commandId })));
  const { text } = await archiveOf(storage);
  const mail = mailer("beginning");
  let engine;
  async function* slowly() {
    yield text.slice(0, text.length / 2);
    engine = await place.open({ aggregates: [visit, room], reactions: [mail.definition], limits: { lease: 60 } });
    await until(async () => (await engine.reaction(mail.definition).status()).trouble === "events are being imported");
    yield text.slice(text.length / 2);
  }
  await importLog(place.storage(), slowly());
  await until(async () => (await engine.reaction(mail.definition).status()).runsHere);
  await engine.execute(visit, "new", { type: "Book", data: {} });
  await until(async () => (await engine.reaction(mail.definition).status()).behind === 0);
  assert.deepEqual(mail.sent, ["new/1"]);
});

onEachStore("where a reaction has run nothing is imported, and what is there already is no import", async (place) => {
  const { storage, engine: source } = await filled(0, 10);
  const { text } = await archiveOf(storage);
  await fill(source, 10, 20);
  const target = place.storage();
  await importLog(target, text);
  const mail = mailer("beginning");
  const engine = await place.open({ aggregates: [visit, room], reactions: [mail.definition], limits: { lease: 60 } });
  await until(async () => (await engine.reaction(mail.definition).status()).runsHere);
  await assert.rejects(importLog(target, (await archiveOf(storage)).text), (error) => {
    assert.deepEqual(error.details.reactions, ["mailer"]);
    return code("reactions-have-begun")(error);
  });
  assert.equal((await importLog(target, text)).commits, 0);
  await engine.execute(visit, "new", { type: "Book", data: {} });
  await until(async () => (await engine.reaction(mail.definition).status()).behind === 0);
  assert.deepEqual(mail.sent, ["new/1"]);
  assert.ok((await verify(target)).isSound, "no import is said to be under way");
});
