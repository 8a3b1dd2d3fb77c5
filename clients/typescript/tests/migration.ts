import { type ChildProcess, execFile, spawn } from "node:child_process";
import { closeSync, mkdirSync, openSync, readFileSync, writeFileSync } from "node:fs";
import { createConnection } from "node:net";
import { join } from "node:path";
import pg from "pg";
import { TcpProxy } from "./proxy.js";
import { direct, environment, eventually, freePort, PROGRAM, type Servers, SIDES, type SideName } from "./servers.js";

const PHASES = ["source_only", "dual_write", "shadow_read", "shift"];
const ATTEMPTS = 5;

interface Status {
  phase: string;
  fleet: { settled: boolean; settled_at?: unknown; target_percentage?: number };
}

function settled({ fleet }: Status): boolean {
  return fleet.settled && typeof fleet.settled_at === "string";
}

/** A database on each server, and the sidecar between them. */
export class Migration {
  readonly name: string;
  readonly #servers: Servers;
  readonly #home: string;
  readonly #config: string;
  readonly port: number;
  #proxy: TcpProxy | undefined;
  #process: ChildProcess | undefined;
  #phase = "source_only";

  private constructor(servers: Servers, port: number) {
    this.#servers = servers;
    this.name = `shop_${++servers.count}`;
    this.port = port;
    this.#home = join(servers.folder, this.name);
    this.#config = join(this.#home, "segue.toml");
  }

  /**
   * Makes both databases and starts a sidecar in phase source_only. Statements that begin with INSERT are run on the
   * source only, those of `emptying` on the target only; queries are files of named statements.
   */
  static async start(
    servers: Servers,
    setup: readonly string[],
    queries: Readonly<Record<string, string>> = {},
    emptying: readonly string[] = [],
  ): Promise<Migration> {
    const migration = new Migration(servers, await freePort());
    await migration.#prepare(setup, queries);
    for (const statement of emptying) await migration.direct("target", statement);
    await migration.run("init");
    migration.#proxy = await TcpProxy.start(migration.port);
    await migration.serve();
    return migration;
  }

  async #prepare(setup: readonly string[], queries: Readonly<Record<string, string>>): Promise<void> {
    for (const side of SIDES) {
      await direct(this.#servers.url(side, "postgres"), `CREATE DATABASE ${this.name}`);
      for (const statement of setup) {
        if (side === "source" || !statement.startsWith("INSERT")) await this.direct(side, statement);
      }
    }
    mkdirSync(join(this.#home, "queries"), { recursive: true });
    for (const [name, text] of Object.entries(queries)) writeFileSync(join(this.#home, "queries", name), text);
    writeFileSync(
      this.#config,
      `
[source]
dsn = "${this.urlOf("source")}"
[target]
dsn = "${this.urlOf("target")}"
[listen]
sql = "127.0.0.1:${this.port}"
admin = "127.0.0.1:${await freePort()}"
drain_timeout = "5s"
[queries]
paths = ["${join(this.#home, "queries")}"]
[outbox]
poll_interval = "100ms"
[control]
poll_interval = "200ms"
[sampling]
rate = 0.1
[read_routing]
target_percentage = 100
escalation_schedule = []
[read_routing.rollback_trigger]
window = "10s"
latency_p99_threshold = "30s"
outbox_age_threshold = "1m"
mismatch_rate_threshold = 1.0
`,
    );
  }

  /** What stands before the sidecar. */
  get proxy(): TcpProxy {
    if (this.#proxy === undefined) throw new Error("there is no proxy yet");
    return this.#proxy;
  }

  /** The client's way, through the proxy. */
  get url(): string {
    return `segue://127.0.0.1:${this.proxy.port}`;
  }

  /** The direct way to one of the databases. */
  urlOf(side: SideName): string {
    return this.#servers.url(side, this.name);
  }

  /** The rows of a statement without segue, as texts. */
  direct(side: SideName, sql: string): Promise<(string | null)[][]> {
    return direct(this.urlOf(side), sql);
  }

  /** Runs a subcommand of segue to its end, and gives what it printed. */
  run(...parts: string[]): Promise<string> {
    return new Promise((done, failed) => {
      const options = { cwd: this.#home, env: environment(), maxBuffer: 1 << 26 };
      execFile(PROGRAM, [...parts, "--config", this.#config], options, (error, stdout, stderr) => {
        if (error === null) done(stdout);
        else failed(new Error(`segue ${parts.join(" ")}: ${stdout}${stderr}`));
      });
    });
  }

  /** Starts the sidecar where it does not run, and waits until it takes calls. */
  async serve(): Promise<void> {
    if (this.#process !== undefined) return;
    const file = join(this.#home, "segue.log");
    const log = openSync(file, "a");
    const started = spawn(PROGRAM, ["serve", "--config", this.#config], {
      cwd: this.#home,
      env: environment(),
      detached: true,
      stdio: ["ignore", log, log],
    });
    closeSync(log);
    started.unref();
    this.#process = started;
    await eventually("segue serves", () => {
      if (started.exitCode !== null) throw new Error(`segue has ended:\n${readFileSync(file, "utf8").slice(-3000)}`);
      return listens(this.port);
    });
  }

  /** Ends the sidecar as `kill -9` does, or asks it to end. */
  async kill(signal: "SIGKILL" | "SIGTERM" = "SIGKILL"): Promise<void> {
    const running = this.#process;
    if (running === undefined) return;
    this.#process = undefined;
    const gone = new Promise((done) => running.once("exit", done));
    running.kill(signal);
    await gone;
  }

  async close(): Promise<void> {
    await this.kill();
    this.#proxy?.close();
  }

  async status(): Promise<Status> {
    return JSON.parse(await this.run("status", "--json")) as Status;
  }

  #wait(what: string, holds: (now: Status) => boolean): Promise<void> {
    return eventually(what, async () => holds(await this.status()));
  }

  /** Goes on to a phase, up to shift, where all reads go to the target then. */
  async enter(phase: string): Promise<void> {
    while (PHASES.indexOf(this.#phase) < PHASES.indexOf(phase)) {
      await this.#wait("the fleet is settled", settled);
      const next = PHASES[PHASES.indexOf(this.#phase) + 1] as string;
      this.#phase = next;
      await this.run("phase", "advance", "--to", next, "--force", "--reason", "a test");
      await this.#wait(`the fleet is in ${next}`, (now) => now.phase === next && settled(now));
      if (next === "dual_write") await this.run("backfill");
    }
    if (phase === "shift") await this.#wait("all reads go to the target", (now) => now.fleet.target_percentage === 100);
  }

  /** Makes the target the primary, or goes back. What is called off, because a backlog has grown, is made again. */
  async change(command: "cutover" | "rollback"): Promise<void> {
    for (let attempt = 1; ; attempt++) {
      try {
        await this.run(command, "--yes", "--force", "--reason", "a test");
        return;
      } catch (error) {
        if (attempt === ATTEMPTS) throw error;
      }
    }
  }

  /** Runs a statement without segue in a transaction that stays open until what it gives is called. */
  async hold(side: SideName, sql: string): Promise<() => Promise<void>> {
    const client = new pg.Client({ connectionString: this.urlOf(side) });
    await client.connect();
    await client.query("BEGIN");
    await client.query(sql);
    let held = true;
    return async () => {
      if (held) await client.end();
      held = false;
    };
  }
}

function listens(port: number): Promise<boolean> {
  return new Promise((done) => {
    const probe = createConnection(port, "127.0.0.1");
    probe.once("connect", () => {
      probe.destroy();
      done(true);
    });
    probe.once("error", () => done(false));
  });
}
