/** Failures of the engine, shown with their code. Refusals are no failures: forms show them. */

import { byId, h } from "./dom.js";

/** Shows what went wrong, and offers to try again if there is a way. */
export function reportError(error: unknown, tryAgain?: () => unknown): void {
  console.error(error);
  const place = byId("errors");
  const code = errorCode(error);
  const dismiss = () => bar.remove();
  const bar = h(
    "div",
    { class: "error" },
    h("p", {}, error instanceof Error ? error.message : String(error), " ", h("code", {}, code)),
    tryAgain && h("button", { type: "button", onclick: () => (dismiss(), tryAgain()) }, "Try again"),
    h("button", { type: "button", "aria-label": "Dismiss", onclick: dismiss }, "✕"),
  );
  place.replaceChildren(bar);
}

function errorCode(error: unknown): string {
  const code = (error as { code?: unknown } | undefined)?.code;
  return typeof code === "string" ? code : "unexpected";
}
