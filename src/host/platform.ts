/**
 * Types of the platform, as the application's project knows them: from `DOM`, `WebWorker` or
 * `@types/node`. Where it knows no such thing there is none to be given, and nothing to import for it.
 */

type Global<Name extends string> = typeof globalThis extends Record<Name, { prototype: infer T }> ? T : never;

export type AbortSignal = Global<"AbortSignal">;
export type Request = Global<"Request">;
export type Response = Global<"Response">;
export type URL = Global<"URL">;

/** What TypeScript calls `WebAssembly.Module`, which `@types/node` lacks. */
export type WasmModule = typeof globalThis extends { WebAssembly: { Module: { prototype: infer T } } } ? T : never;

/** What the platform calls a `BufferSource`, in the language's own types. */
export type Bytes = ArrayBuffer | ArrayBufferView;
