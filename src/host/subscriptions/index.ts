export { checkpoint, forgetCheckpoint, setCheckpoint } from "./checkpoint.js";
