/** The scenarios of all clients: clients/conformance. */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import {
  BoundedArray,
  type CallOptions,
  Cancelled,
  type Client,
  connect,
  DataError,
  DeadlineExceeded,
  IntegrityError,
  json,
  jsonTextParsers,
  NotSupportedError,
  named,
  numeric,
  Opaque,
  OutcomeUnknown,
  ProgrammingError,
  type Queryable,
  type Result,
  SegueError,
  type Statement,
  stringifyJson,
  type Transaction,
  Unavailable,
  UniqueViolation,
} from "segue-client";
import { Migration } from "./migration.js";
import { eventually, REPOSITORY, type Servers, type SideName } from "./servers.js";

const AWAIT_LIMIT_MS = 30_000;
// Bounds each call, so that a fault is an error and not a test that hangs.
const LIMIT_MS = 60_000;
const PHASES = ["source_only", "dual_write", "shadow_read", "shift"];

// biome-ignore lint/suspicious/noExplicitAny: a step has the form that its verb says.
type Step = Record<string, any>;

interface Scenario {
  name: string;
  phase: string;
  calls?: Record<string, number>;
  steps: Step[];
}

interface File {
  setup: string[];
  queries: Record<string, string>;
  values: { type: string; texts: string[] }[];
  scenarios: Scenario[];
}

export const SCENARIOS = JSON.parse(
  readFileSync(join(REPOSITORY, "clients/conformance/scenarios.json"), "utf8"),
) as File;

/** What a call came to. */
interface Found {
  rows?: unknown[][];
  affected?: number;
  alreadyApplied?: boolean;
  count?: number;
  results?: Found[];
}

const KINDS: Record<string, new (...given: never[]) => SegueError> = {
  unique: UniqueViolation,
  integrity: IntegrityError,
  data: DataError,
  programming: ProgrammingError,
  not_supported: NotSupportedError,
  deadline: DeadlineExceeded,
  cancelled: Cancelled,
  unavailable: Unavailable,
  outcome_unknown: OutcomeUnknown,
};

export function conformanceTests(servers: () => Servers): void {
  test("the scenarios of all clients hold", async (t) => {
    assert.ok(SCENARIOS.scenarios.length > 0 && SCENARIOS.values.length > 0, "the file has no scenarios");
    const migration = await Migration.start(servers(), SCENARIOS.setup, SCENARIOS.queries);
    const client = await connect(migration.url);
    for (const { type, texts } of SCENARIOS.values) {
      await t.test(`value/${type}`, () => goesBothWays(client, type, texts));
    }
    await client.close();
    const sorted = [...SCENARIOS.scenarios].sort((a, b) => PHASES.indexOf(a.phase) - PHASES.indexOf(b.phase));
    for (const scenario of sorted) {
      await t.test(scenario.name, async () => {
        await migration.enter(scenario.phase);
        await runScenario(migration, scenario);
      });
    }
    await migration.close();
  });
}

/** Reads a value, by packed rows and by typed ones, and gives it back. */
async function goesBothWays(client: Client, type: string, texts: string[]): Promise<void> {
  // The json type keeps white space, which is no part of a value: it is read as its text.
  const options = type === "json" ? { parsers: jsonTextParsers } : {};
  for (const text of texts) {
    const literal = `'${text.replaceAll("'", "''")}'`;
    const packed = await client.query<{ v: unknown }>(`SELECT ${literal}::${type} AS v`, [], options);
    // What stands in a transaction is asked for as typed rows the first time.
    const transaction = client.begin();
    const typed = await transaction.query<{ v: unknown }>(`SELECT ${literal}::${type} AS v /* typed */`, [], options);
    await transaction.rollback();
    assert.deepEqual(typed.rows, packed.rows, `${text}: typed rows and packed ones`);
    const value = packed.rows[0]?.v;
    const back = await client.query<{ same: boolean; found: string }>(
      `SELECT ($1::${type})::text = (${literal}::${type})::text AS same, ($1::${type})::text AS found`,
      [sent(type, value, text)],
    );
    assert.deepEqual(back.rows[0]?.same, true, `${text}: came back as ${back.rows[0]?.found} by ${String(value)}`);
  }
}

/** JSON is read into values, which are given back as JSON: its null is read as NULL is. */
function sent(type: string, value: unknown, text: string): unknown {
  if (type !== "jsonb") return value;
  assert.ok(value !== null || text === "null");
  return json(value);
}

class Runner {
  readonly #migration: Migration;
  readonly #client: Client;
  readonly #transactions = new Map<string, Transaction>();
  readonly #started = new Map<string, { abort: AbortController; found: Promise<Found> }>();
  readonly locks: (() => Promise<void>)[] = [];
  #round = 0;

  constructor(migration: Migration, client: Client) {
    this.#migration = migration;
    this.#client = client;
  }

  async run(steps: Step[]): Promise<void> {
    for (const step of steps) await this.#step(step);
  }

  async #step(step: Step): Promise<void> {
    if ("repeat" in step) {
      for (this.#round = 1; this.#round <= step.repeat; this.#round++) await this.run(step.steps);
    } else if ("together" in step) {
      await Promise.all((step.together as Step[]).map((one) => this.#call(one)));
    } else if ("begin" in step) {
      this.#transactions.set(step.begin, this.#client.begin({ readOnly: step.read_only === true }));
    } else if ("rollback" in step) {
      await this.#transaction(step.rollback).rollback();
    } else if ("proxy" in step) {
      this.#migration.proxy.set(step.proxy);
    } else if ("sidecar" in step) {
      await (step.sidecar === "kill" ? this.#migration.kill() : this.#migration.serve());
    } else if ("direct" in step) {
      assert.deepEqual(await this.#direct(step.direct), step.rows);
    } else if ("await" in step) {
      const wanted = JSON.stringify(step.await.rows);
      await eventually(
        step.await.sql,
        async () => JSON.stringify(await this.#direct(step.await)) === wanted,
        AWAIT_LIMIT_MS,
      );
    } else if ("lock" in step) {
      this.locks.push(await this.#migration.hold(step.lock.side, step.lock.sql));
    } else if ("unlock" in step) {
      await this.locks.pop()?.();
    } else if ("start" in step) {
      const abort = new AbortController();
      const found = this.#call(step, abort.signal);
      // What it fails with is looked at when it is finished.
      found.catch(() => undefined);
      this.#started.set(step.start, { abort, found });
    } else if ("cancel" in step) {
      this.#started.get(step.cancel)?.abort.abort();
    } else if ("finish" in step) {
      await expectStep(
        step,
        () => this.#started.get(step.finish)?.found ?? Promise.reject(new Error("it was not started")),
      );
    } else {
      await expectStep(step, () => this.#call(step));
    }
  }

  #transaction(name: string): Transaction {
    const found = this.#transactions.get(name);
    assert.ok(found, `there is no transaction ${name}`);
    return found;
  }

  #direct({ side, sql }: { side: SideName; sql: string }): Promise<(string | null)[][]> {
    return this.#migration.direct(side, sql);
  }

  #params(given: unknown[] | undefined): unknown[] {
    return (given ?? []).map((param) => {
      if (typeof param !== "object" || param === null) return param;
      return "round" in param ? this.#round : numeric((param as { numeric: string }).numeric);
    });
  }

  async #call(step: Step, signal?: AbortSignal): Promise<Found> {
    const where: Queryable = step.in === undefined ? this.#client : this.#transaction(step.in);
    const options: CallOptions = {
      timeoutMs: step.timeout === undefined ? LIMIT_MS : step.timeout * 1000,
      signal,
      idempotencyKey: step.key,
      rowMode: "array",
      ...(step.in !== undefined && step.commit === true && { commit: true }),
    };
    const statement = (given: Step): Statement => (given.name === undefined ? given.sql : named(given.name));
    if ("query" in step) {
      const { rows } = await where.query<unknown[]>(statement(step.query), this.#params(step.query.params), options);
      return { rows, count: rows.length };
    }
    if ("execute" in step) {
      return foundOf(
        await where.execute<unknown[]>(statement(step.execute), this.#params(step.execute.params), options),
      );
    }
    if ("stream" in step) {
      let count = 0;
      for await (const _ of where.stream<unknown[]>(
        statement(step.stream),
        this.#params(step.stream.params),
        options,
      )) {
        if (++count === step.read) break;
      }
      return { count };
    }
    if ("batch" in step) {
      const statements = (step.batch.statements as Step[]).map(
        (one) => [statement(one), this.#params(one.params)] as const,
      );
      const { results } = await where.batch(statements, options);
      return { results: results.map((one) => foundOf(one as unknown as Result<unknown[]>)) };
    }
    if ("connect" in step) {
      const client = await connect(this.#migration.url, { connectTimeoutMs: step.connect.timeout * 1000 });
      await client.close();
      return {};
    }
    if ("commit" in step) {
      await this.#transaction(step.commit).commit(options);
      return {};
    }
    if ("run" in step) return this.#transact(step);
    if ("increments" in step) return this.#increments(step.increments);
    throw new Error(`unknown step ${JSON.stringify(step)}`);
  }

  async #transact(step: Step): Promise<Found> {
    await this.#client.transaction(async (transaction) => {
      this.#transactions.set(step.run, transaction);
      await this.run(step.steps);
      if (step.fail === true) throw new SegueError("it may pass", { retryable: true });
    });
    return {};
  }

  async #increments(given: Step): Promise<Found> {
    const caller = async (): Promise<void> => {
      for (let each = 0; each < given.each; each++) {
        await this.#client.transaction(
          async (transaction) => {
            const { rows } = await transaction.query<{ balance: bigint }>(given.read);
            await transaction.execute(given.write, [(rows[0]?.balance ?? 0n) + 1n]);
          },
          { isolation: given.isolation, attempts: 100 },
        );
      }
    };
    await Promise.all(Array.from({ length: given.callers }, caller));
    return {};
  }
}

function foundOf(result: Result<unknown[]>): Found {
  return {
    rows: result.rows,
    affected: result.affectedRows,
    alreadyApplied: result.alreadyApplied,
    count: result.rows.length,
  };
}

/** As PostgreSQL writes it. */
function rendered(value: unknown): string | null {
  if (value === null) return null;
  if (typeof value === "boolean") return value ? "t" : "f";
  if (value instanceof BoundedArray || value instanceof Opaque || typeof value === "object")
    return stringifyJson(value) ?? "";
  return String(value);
}

function renderedRows(rows: unknown[] | undefined): (string | null)[][] | undefined {
  // A batch gives objects.
  return rows?.map((row) => Object.values(row as object).map(rendered));
}

async function expectStep(step: Step, call: () => Promise<Found>): Promise<void> {
  const begun = performance.now();
  const watch = new Watch(step.memory_mb_max !== undefined);
  const outcome = await call().then(
    (found) => ({ found, error: undefined }),
    (error: unknown) => ({ found: undefined, error }),
  );
  const grown = watch.end();
  if (step.within !== undefined) assert.ok(performance.now() - begun <= step.within * 1000, "it took too long");
  if (step.error !== undefined) {
    expectError(step.error, outcome.error);
    return;
  }
  if (outcome.error !== undefined) throw outcome.error;
  const found = outcome.found as Found;
  if (step.rows !== undefined) assert.deepEqual(renderedRows(found.rows), step.rows);
  if (step.affected !== undefined) assert.equal(found.affected, step.affected);
  if (step.already_applied !== undefined) assert.equal(found.alreadyApplied, step.already_applied);
  if (step.count !== undefined) assert.equal(found.count, step.count);
  if (step.memory_mb_max !== undefined) assert.ok(grown <= step.memory_mb_max, `the process grew by ${grown} MB`);
  for (const [at, wanted] of ((step.results ?? []) as Step[]).entries()) {
    assert.equal(found.results?.[at]?.affected, wanted.affected);
    if (wanted.rows !== undefined) assert.deepEqual(renderedRows(found.results?.[at]?.rows), wanted.rows);
  }
}

function expectError(wanted: Step, error: unknown): void {
  assert.ok(error instanceof SegueError, `expected an error ${JSON.stringify(wanted)}, found ${String(error)}`);
  for (const [name, value] of Object.entries(wanted)) {
    if (name === "kind") {
      const kind = KINDS[value];
      assert.ok(kind !== undefined && error instanceof kind, `${error.name} is not of kind ${value}: ${error.message}`);
    } else {
      const field = name === "sqlstate" ? "code" : name;
      assert.deepEqual((error as unknown as Step)[field], value, `${name} of ${error.message}`);
    }
  }
}

/** Looks how far what is in use grows. */
class Watch {
  readonly #timer: NodeJS.Timeout | undefined;
  readonly #before: number;
  #most = 0;

  constructor(wanted: boolean) {
    if (wanted) globalThis.gc?.();
    this.#before = used();
    if (wanted) {
      this.#timer = setInterval(() => {
        // What no one holds any more is not in use, however long it stays.
        globalThis.gc?.();
        this.#most = Math.max(this.#most, used());
      }, 100);
    }
  }

  /** In megabytes. */
  end(): number {
    clearInterval(this.#timer);
    return Math.round((this.#most - this.#before) / (1 << 20));
  }
}

function used(): number {
  const { heapUsed, external } = process.memoryUsage();
  return heapUsed + external;
}

async function runScenario(migration: Migration, scenario: Scenario): Promise<void> {
  const calls = new Map<string, number>();
  const client = await connect(migration.url, { connectTimeoutMs: LIMIT_MS });
  const counted = countCalls(client, calls);
  const runner = new Runner(migration, client);
  try {
    await runner.run(scenario.steps);
    for (const [method, wanted] of Object.entries(scenario.calls ?? {})) {
      assert.equal(counted.get(method.toLowerCase()) ?? 0, wanted, `calls of ${method}`);
    }
  } finally {
    migration.proxy.set("pass");
    for (const unlock of runner.locks) await unlock();
    await client.close();
    await migration.serve();
  }
}

/** Counts what the client sends. */
function countCalls(client: Client, calls: Map<string, number>): Map<string, number> {
  const count = (method: string): void => void calls.set(method, (calls.get(method) ?? 0) + 1);
  // biome-ignore lint/suspicious/noExplicitAny: what is sent is no part of the client's interface.
  const connection = (client as any).session.connection;
  const { ask, query } = connection;
  connection.ask = (call: { $case: string }, ...rest: unknown[]) => {
    count(call.$case);
    return ask.call(connection, call, ...rest);
  };
  connection.query = (...given: unknown[]) => {
    count("query");
    return query.apply(connection, given);
  };
  return calls;
}
