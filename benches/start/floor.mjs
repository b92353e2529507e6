// A bare module: the package's own code, with nothing to call.

const nothing = () => undefined;

/** Imports of any name. */
export const imports = new Proxy({}, { get: () => new Proxy({}, { get: () => nothing }) });
