// Time travel in pages, on IndexedDB: chains of causes, differences, and stores as they were.

import { auditRules } from "../support/audit-rules.mjs";
import { overlayRules } from "../support/overlay-rules.mjs";
import { tabsWith } from "../support/tabs.mjs";

const tabs = tabsWith(["audit-rules.mjs", "overlay-rules.mjs"], async () => {
  const { placesOf } = await import("/support/engine-places.mjs");
  const { appointment } = await import("/support/clinic.mjs");
  Object.assign(globalThis, placesOf({ aggregates: [appointment] }));
});
tabs.keep({ auditRules, overlayRules });
