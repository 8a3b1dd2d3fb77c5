/**
 * What the tests need: two PostgreSQL servers, and migrations between them. All of it lies in one temporary folder,
 * which a guard process empties and removes as soon as this process ends, however it does.
 */

import { type ChildProcess, execFileSync, spawn, spawnSync } from "node:child_process";
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  writeFileSync,
} from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import pg from "pg";

export const REPOSITORY = resolve(dirname(fileURLToPath(import.meta.url)), "../../../..");
export const PROGRAM = process.env.SEGUE_BIN ?? join(REPOSITORY, "target/debug/segue");
const START_LIMIT_MS = 120_000;
const POLL_MS = 50;

const SETTINGS = `
listen_addresses = '127.0.0.1'
max_connections = 200
shared_buffers = 64MB
timezone = 'UTC'
lc_messages = 'C'
dynamic_shared_memory_type = mmap
fsync = off
synchronous_commit = off
`;

export type SideName = "source" | "target";
export const SIDES: readonly SideName[] = ["source", "target"];

/** Asks until the probe says yes. */
export async function eventually(
  what: string,
  probe: () => boolean | Promise<boolean>,
  limitMs = START_LIMIT_MS,
): Promise<void> {
  const until = performance.now() + limitMs;
  while (!(await probe())) {
    if (performance.now() > until) throw new Error(`not within ${limitMs} ms: ${what}`);
    await pause(POLL_MS);
  }
}

/** A port on which no one listens. */
export function freePort(): Promise<number> {
  return new Promise((done, failed) => {
    const probe = createServer();
    probe.on("error", failed);
    // Below the ports of outgoing connections, so that a stopped server finds its port free again.
    const port = 12_000 + Math.floor(Math.random() * 20_000);
    probe.on("error", () => freePort().then(done, failed));
    probe.listen(port, "127.0.0.1", () => probe.close(() => done(port)));
  });
}

/** Without what the shell says to segue or to libpq. */
export function environment(): NodeJS.ProcessEnv {
  return Object.fromEntries(Object.entries(process.env).filter(([name]) => !/^(SEGUE_|PG|OTEL_)/.test(name)));
}

/** Rows of a statement without segue, each value as PostgreSQL's text. */
export async function direct(url: string, sql: string): Promise<(string | null)[][]> {
  const client = new pg.Client({
    connectionString: url,
    types: { getTypeParser: () => (text: string | Buffer) => text },
  });
  await client.connect();
  try {
    const found = await client.query<(string | null)[]>({ text: sql, rowMode: "array" });
    return (Array.isArray(found) ? found[found.length - 1] : found).rows;
  } finally {
    await client.end();
  }
}

/** A source and a target that all tests share. */
export class Servers {
  readonly folder: string;
  readonly #guard: ChildProcess;
  readonly #ports = new Map<SideName, number>();
  count = 0;

  private constructor() {
    if (!existsSync(PROGRAM)) throw new Error(`${PROGRAM} is missing; run cargo build, or name one by SEGUE_BIN`);
    this.folder = mkdtempSync(join(tmpdir(), "segue-ts-"));
    // Other accounts look in: the servers' own.
    chmodSync(this.folder, 0o755);
    const guard = join(REPOSITORY, "tests/support/guard.sh");
    this.#guard = spawn("sh", [guard, this.folder], { detached: true, stdio: ["pipe", "ignore", "inherit"] });
  }

  static async start(): Promise<Servers> {
    const servers = new Servers();
    try {
      await servers.#start("source", "/usr/lib/postgresql/15");
      await servers.#start("target", join(REPOSITORY, ".build/postgresql-18"));
      return servers;
    } catch (error) {
      await servers.close();
      throw error;
    }
  }

  async #start(side: SideName, home: string): Promise<void> {
    const folder = join(this.folder, side);
    const data = join(folder, "data");
    mkdirSync(folder, { mode: 0o755 });
    const lent = process.getuid?.() === 0 ? lentAccount() : undefined;
    if (lent !== undefined) chownSync(folder, lent.uid, lent.gid);
    const made = spawnSync(
      join(home, "bin/initdb"),
      ["-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync"],
      { cwd: folder, encoding: "utf8", ...lent },
    );
    if (made.status !== 0) throw new Error(`initdb: ${made.stdout}${made.stderr}`);
    writeFileSync(join(data, "postgresql.auto.conf"), `${SETTINGS}unix_socket_directories = '${folder}'\n`);
    const port = await freePort();
    this.#ports.set(side, port);
    const log = openSync(join(folder, "server.log"), "w");
    const server = spawn(join(home, "bin/postgres"), ["-D", data, "-p", String(port)], {
      cwd: folder,
      detached: true,
      stdio: ["ignore", log, log],
      ...lent,
    });
    server.unref();
    await eventually("PostgreSQL is ready", () => {
      const file = join(data, "postmaster.pid");
      return existsSync(file) && readFileSync(file, "utf8").split("\n")[7]?.trim() === "ready";
    });
  }

  /** The direct way to a database. */
  url(side: SideName, database: string): string {
    return `postgres://postgres@127.0.0.1:${this.#ports.get(side)}/${database}`;
  }

  /** Ends the servers and what works in their folder. */
  async close(): Promise<void> {
    const gone = new Promise((done) => this.#guard.once("exit", done));
    this.#guard.stdin?.end();
    await gone;
  }
}

/** PostgreSQL refuses root, which lends it another account. */
function lentAccount(): { uid: number; gid: number } {
  for (const name of ["postgres", "nobody"]) {
    try {
      const id = (flag: string): number =>
        Number(execFileSync("id", [flag, name], { encoding: "utf8", stdio: "pipe" }));
      return { uid: id("-u"), gid: id("-g") };
    } catch {
      // The next one.
    }
  }
  throw new Error("as root the servers need an account postgres or nobody");
}
