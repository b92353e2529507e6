import { answerFrom } from "./annals-rust.mjs";

export const answer = () => answerFrom(new URL("./clinic.wasm", import.meta.url));
