import { readFileSync } from "node:fs";
import { answerFrom } from "./annals-rust.mjs";

const module = new URL("../../www/clinic/pkg/clinic_bg.wasm", import.meta.url);

export const answer = () => answerFrom(() => readFileSync(module));
