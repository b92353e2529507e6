// The clinic's domains in a page, whose modules are beside its script.

import { appointment } from "../../pkg-tests/clinic/appointment.ts";
import * as glue from "../../www/clinic/pkg/clinic.js";
import { clinicsOf, functionsOf } from "./clinic.mjs";

export const clinics = clinicsOf(appointment, { glue, wasm: new URL("./clinic.wasm", import.meta.url) });
export const { evolve, decide } = functionsOf(appointment);
export { toCommands } from "./clinic.mjs";
