// The clinic's domains in Node.

import { readFileSync } from "node:fs";
import { appointment } from "../../pkg-tests/support/clinic.mjs";
import * as glue from "../../www/clinic/pkg/clinic.js";
import { clinicsOf, functionsOf } from "./clinic.mjs";

/** Modules with the names of their functions, where a profile is to be taken. */
const { modules } = JSON.parse(process.argv[2]);

const clinicWasm = modules?.clinic ?? new URL("../../www/clinic/pkg/clinic_bg.wasm", import.meta.url);

export const clinicModule = { glue, wasm: () => readFileSync(clinicWasm) };
export const clinics = clinicsOf(appointment, clinicModule, modules && readFileSync(modules.annals));
export const { evolve, decide } = functionsOf(appointment);
export { toCommands } from "./clinic.mjs";
