export { overlayStorage, type OverlayConfig, type OverlayPoint } from "./adapter.js";
