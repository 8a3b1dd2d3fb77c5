/**
 * This client beside node-postgres, in one run: node-postgres directly to the source, the client through a sidecar.
 * Rounds of the two alternate, so that what else the machine does meets both. The calls are those of clients/go/bench.
 */

import { parseArgs } from "node:util";
import pg from "pg";
import { type Client, connect, nodePostgresParsers } from "segue-client";
import { Migration } from "../tests/migration.js";
import { Servers } from "../tests/servers.js";

// Rounds of each measurement.
const ROUNDS = 4;
const CALLERS = [1, 16];

const SETUP = [
  `CREATE TABLE item (id bigint PRIMARY KEY, name text NOT NULL, price numeric(12,2) NOT NULL, at timestamptz NOT NULL,
    size float8 NOT NULL, ok boolean NOT NULL, tag text, n int NOT NULL)`,
  "INSERT INTO item SELECT i, 'name ' || i, i / 100.0, now(), i * 0.1, i % 2 = 0, NULL, i FROM generate_series(1, 20000) i",
  "CREATE TABLE log (id bigint PRIMARY KEY, body text NOT NULL)",
];

/** The one or the other. */
interface Driver {
  read(sql: string, params: unknown[]): Promise<{ rows: unknown[] }>;
  write(sql: string, params: unknown[]): Promise<unknown>;
}

let logged = 0;

async function rows(driver: Driver, count: number): Promise<void> {
  const found = await driver.read("SELECT id, name, price, at, size, ok, tag, n FROM item WHERE id <= $1", [count]);
  if (found.rows.length !== count) throw new Error(`${found.rows.length} rows came, not ${count}`);
}

const MEASUREMENTS: readonly (readonly [string, (driver: Driver) => Promise<unknown>])[] = [
  ["point read", (driver) => driver.read("SELECT name FROM item WHERE id = $1", [77])],
  ["100 rows", (driver) => rows(driver, 100)],
  ["10,000 rows", (driver) => rows(driver, 10_000)],
  ["insert", (driver) => driver.write("INSERT INTO log VALUES ($1, $2)", [++logged, "body"])],
];

class Sample {
  readonly #times: number[] = [];
  #spanMs = 0;

  async round(
    driver: Driver,
    run: (driver: Driver) => Promise<unknown>,
    callers: number,
    spanMs: number,
  ): Promise<void> {
    // Connections and what is learned of statements are there before.
    for (let warm = 0; warm < 2; warm++) await Promise.all(Array.from({ length: callers }, () => run(driver)));
    const begun = performance.now();
    const caller = async (): Promise<void> => {
      while (performance.now() - begun < spanMs) {
        const at = performance.now();
        await run(driver);
        this.#times.push(performance.now() - at);
      }
    };
    await Promise.all(Array.from({ length: callers }, caller));
    this.#spanMs += performance.now() - begun;
  }

  /** Milliseconds. */
  get p50(): number {
    this.#times.sort((a, b) => a - b);
    return this.#times[Math.floor(this.#times.length / 2)] ?? Number.NaN;
  }

  get rate(): number {
    return (1000 * this.#times.length) / this.#spanMs;
  }
}

async function measure(native: Driver, through: Driver, spanMs: number): Promise<void> {
  console.log("| call | callers | pg p50 | segue p50 | pg/s | segue/s | segue's time to pg's |");
  console.log("|---|---|---|---|---|---|---|");
  for (const callers of CALLERS) {
    for (const [name, run] of MEASUREMENTS) {
      const seen = [new Sample(), new Sample()] as const;
      for (let round = 0; round < ROUNDS; round++) {
        await seen[0].round(native, run, callers, spanMs / ROUNDS);
        await seen[1].round(through, run, callers, spanMs / ROUNDS);
      }
      const [a, b] = seen;
      const cells = [
        name,
        callers,
        `${a.p50.toFixed(2)}ms`,
        `${b.p50.toFixed(2)}ms`,
        a.rate.toFixed(0),
        b.rate.toFixed(0),
        (b.p50 / a.p50).toFixed(2),
      ];
      console.log(`| ${cells.join(" | ")} |`);
    }
  }
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      span: { type: "string", default: "2" },
      phase: { type: "string", default: "shadow_read" },
      "as-pg": { type: "boolean", default: false },
    },
  });
  const servers = await Servers.start();
  try {
    const migration = await Migration.start(servers, SETUP);
    await migration.enter(values.phase);
    const pool = new pg.Pool({ connectionString: migration.urlOf("source"), max: Math.max(...CALLERS) });
    const parsers = values["as-pg"] ? nodePostgresParsers : {};
    const client: Client = await connect(`segue://127.0.0.1:${migration.port}`, { parsers });
    const native: Driver = {
      read: (sql, params) => pool.query(sql, params),
      write: (sql, params) => pool.query(sql, params),
    };
    const through: Driver = {
      read: (sql, params) => client.query(sql, params),
      write: (sql, params) => client.execute(sql, params),
    };
    await measure(native, through, Number(values.span) * 1000);
    await pool.end();
    await client.close();
    await migration.close();
  } finally {
    await servers.close();
  }
}

await main();
