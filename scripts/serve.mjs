// A static server for the demo, on this machine only.

import { createReadStream } from "node:fs";
import { stat } from "node:fs/promises";
import { createServer } from "node:http";
import path from "node:path";
import { Failure } from "./shell.mjs";

const types = {
  ".css": "text/css; charset=utf-8",
  ".html": "text/html; charset=utf-8",
  ".ico": "image/x-icon",
  ".js": "text/javascript; charset=utf-8",
  ".json": "application/json",
  ".map": "application/json",
  ".png": "image/png",
  ".svg": "image/svg+xml",
  // Browsers compile a module while it arrives only if it has this type.
  ".wasm": "application/wasm",
  ".webmanifest": "application/manifest+json",
};

/**
 * Serves a folder on 127.0.0.1, at `port`, or else at the first free one from `firstPort` on.
 * Returns the address and the way to stop it.
 */
export async function serve(folder, { port, firstPort = 4173 }) {
  const server = createServer((request, response) => {
    answer(folder, request, response).catch(() => response.destroy());
  });
  const last = port ?? firstPort + 100;
  for (let candidate = port ?? firstPort; ; candidate += 1) {
    try {
      await listen(server, candidate);
      break;
    } catch (error) {
      if (error.code !== "EADDRINUSE" && error.code !== "EACCES") throw error;
      if (candidate >= last) throw new Failure(`port ${candidate} can't be used: ${error.message}`);
    }
  }
  const close = () => {
    server.close();
    server.closeAllConnections();
  };
  return { url: `http://127.0.0.1:${server.address().port}/`, close };
}

function listen(server, port) {
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen(port, "127.0.0.1", () => {
      server.off("error", reject);
      resolve();
    });
  });
}

async function answer(folder, request, response) {
  const refuse = (status) => response.writeHead(status).end();
  if (request.method !== "GET" && request.method !== "HEAD") return refuse(405);
  const file = await find(folder, request.url);
  if (file === undefined) return refuse(404);
  response.writeHead(200, {
    "content-type": types[path.extname(file.name)] ?? "application/octet-stream",
    "content-length": file.size,
    // The next build must be seen at the next load.
    "cache-control": "no-cache",
  });
  if (request.method === "HEAD") return response.end();
  createReadStream(file.name).on("error", () => response.destroy()).pipe(response);
}

/** The file that a request names, if it is one of the folder's. */
async function find(folder, url) {
  let name;
  try {
    name = decodeURIComponent(url.split(/[?#]/)[0]);
  } catch {
    return undefined;
  }
  if (name.includes("\0") || name.includes("\\")) return undefined;
  // Resolved against "/", no number of ".." leads out of the folder.
  const file = path.join(folder, path.posix.resolve("/", name));
  const found = await stat(file).catch(() => undefined);
  if (found?.isDirectory()) return name.endsWith("/") ? find(folder, `${url.split(/[?#]/)[0]}index.html`) : undefined;
  return found?.isFile() ? { name: file, size: found.size } : undefined;
}
