// The first answer of an engine with a domain in Rust.

import { Engine, nativeAggregate } from "annals/slim";
import { memoryStorage } from "annals/memory";
import * as glue from "../../www/clinic/pkg/clinic.js";

const appointment = nativeAggregate("Appointment");

export async function answerFrom(wasm) {
  const engine = await Engine.open({ module: { glue, wasm }, storage: memoryStorage(), aggregates: [appointment] });
  return engine.state(appointment, "first");
}
