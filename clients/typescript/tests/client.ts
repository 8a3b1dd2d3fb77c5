/** What an application does with the client. */

import assert from "node:assert/strict";
import { execFile, execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createConnection } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { createServer } from "node:tls";
import { promisify } from "node:util";
import { context, trace } from "@opentelemetry/api";
import { InMemorySpanExporter, NodeTracerProvider, SimpleSpanProcessor } from "@opentelemetry/sdk-trace-node";
import {
  Cancelled,
  connect,
  InterfaceError,
  InternalError,
  isRetryable,
  named,
  OutcomeUnknown,
  SegueError,
  sql,
  Unavailable,
  UniqueViolation,
} from "segue-client";
import { transfer } from "../examples/transfer.js";
import { Migration } from "./migration.js";
import { TcpProxy } from "./proxy.js";
import { eventually, REPOSITORY, type Servers } from "./servers.js";

const SETUP = [
  "CREATE TYPE mood AS ENUM ('sad', 'ok')",
  "CREATE TABLE account (id bigint PRIMARY KEY, balance bigint NOT NULL, CONSTRAINT balance_not_negative CHECK (balance >= 0))",
  "CREATE TABLE note (id text PRIMARY KEY, body text, mood mood)",
  "INSERT INTO account SELECT i, 100 FROM generate_series(1, 50) AS i",
];
const QUERIES = {
  "accounts.sql":
    "-- name: account_by_id :one\nSELECT id, balance FROM account WHERE id = $1;\n\n" +
    "-- name: deposit :execrows\nUPDATE account SET balance = balance + $2 WHERE id = $1;\n",
};
const TYPESCRIPT = join(REPOSITORY, "clients/typescript");

export function clientTests(servers: () => Servers): void {
  test("a client", async (t) => {
    const migration = await Migration.start(servers(), SETUP, QUERIES);
    await migration.enter("shadow_read");
    const db = await connect(migration.url);
    const notes = async (like: string): Promise<number> =>
      Number((await migration.direct("source", `SELECT count(*) FROM note WHERE id LIKE '${like}'`))[0]?.[0]);
    /** Makes the answer of what runs next get lost, once the source has the write. */
    const lose = async (like: string): Promise<void> => {
      migration.proxy.set("swallow");
      await eventually("the write is there", async () => (await notes(like)) > 0);
      migration.proxy.set("pass");
      migration.proxy.set("cut");
    };
    const active = async (mark: string): Promise<number> => {
      const text = `SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%/* ${mark} */%' AND pid <> pg_backend_pid()`;
      return Number((await migration.direct("source", text))[0]?.[0]);
    };

    await t.test("it tells where the migration stands, and how both databases prepare a statement", async () => {
      const info = await db.info();
      assert.equal(info.phase, "shadow_read");
      assert.ok(info.features.includes("pipeline"));
      assert.equal(info.limits?.maxParameters, 32767);
      const sides = await db.describe("SELECT balance FROM account WHERE id = $1");
      assert.deepEqual(
        sides.map(({ side, parameterTypes, error }) => [side, parameterTypes, error]),
        [
          ["source", ["int8"], undefined],
          ["target", ["int8"], undefined],
        ],
      );
      const [failed] = await db.describe("SELECT nothing FROM account");
      assert.equal(failed?.error?.code, "42703");
    });

    await t.test("tags, named statements and statements of either kind", async () => {
      const id = 1;
      assert.deepEqual((await db.sql<{ balance: bigint }>`SELECT balance FROM account WHERE id = ${id}`).rows, [
        { balance: 100n },
      ]);
      assert.equal((await db.sql`UPDATE account SET balance = ${100} WHERE id = ${id}`).affectedRows, 1);
      // It looks like a read, and is none: it is found out once.
      for (let round = 0; round < 2; round++) {
        const found = await db.any(
          sql`WITH one AS (UPDATE account SET balance = balance WHERE id = ${id} RETURNING id) SELECT id FROM one`,
        );
        assert.deepEqual(found.rows, [{ id: 1n }]);
      }
      assert.deepEqual((await db.query(named("account_by_id"), [2])).rows, [{ id: 2n, balance: 100n }]);
      assert.equal((await db.execute(named("deposit"), [2, 0])).affectedRows, 1);
      assert.throws(() => db.stream(sql`SELECT ${1}`, [2]), InterfaceError);
    });

    await t.test("a batch tells what each statement did", async () => {
      const done = await db.batch([
        ["INSERT INTO note (id) VALUES ($1), ($2)", ["b1", "b2"]],
        sql`UPDATE note SET body = ${"x"} WHERE id = ${"b1"} RETURNING id, body`,
        "DELETE FROM note WHERE id = 'b2'",
      ]);
      assert.deepEqual(
        done.results.map((result) => result.affectedRows),
        [2, 1, 1],
      );
      assert.deepEqual(done.results[1]?.rows, [{ id: "b1", body: "x" }]);
      assert.ok(done.writeId !== "" && !done.alreadyApplied);
    });

    await t.test("many calls share a client, and a signal", async () => {
      const { signal } = new AbortController();
      const found = await Promise.all(
        Array.from({ length: 600 }, (_, at) => db.query<{ n: number }>("SELECT $1::int4 AS n", [at], { signal })),
      );
      assert.deepEqual(
        found.map(({ rows }) => rows[0]?.n),
        Array.from({ length: 600 }, (_, at) => at),
      );
    });

    await t.test("transaction gives what the function gives, and rolls back when it throws", async () => {
      assert.equal(await db.transaction(async () => 7), 7);
      class Own extends Error {}
      const failing = db.transaction(async (transaction) => {
        await transaction.execute("INSERT INTO note (id) VALUES ('gone')");
        throw new Own();
      });
      await assert.rejects(failing, Own);
      assert.equal(await notes("gone"), 0);
    });

    await t.test(
      "what fails after the commit is not run again, and a function may end its transaction itself",
      async () => {
        let runs = 0;
        const passing = new Unavailable("it may pass", { retryable: true });
        const after = db.transaction(async (transaction) => {
          await transaction.execute("INSERT INTO note (id) VALUES ('once-' || $1::text)", [++runs], { commit: true });
          throw passing;
        });
        await assert.rejects(after, (error) => error === passing);
        assert.equal(await notes("once-%"), 1);
        const explicit = db.transaction(async (transaction) => {
          await transaction.execute("INSERT INTO note (id) VALUES ('once-' || $1::text)", [++runs]);
          await transaction.commit();
          throw passing;
        });
        await assert.rejects(explicit, (error) => error === passing);
        assert.equal(await notes("once-%"), 2);
        const read = await db.transaction(async (transaction) =>
          transaction.query("SELECT 1 AS n", [], { commit: true }),
        );
        assert.deepEqual(read.rows, [{ n: 1 }]);
        const given = await db.transaction(async (transaction) => {
          await transaction.execute("INSERT INTO note (id) VALUES ('once-more')");
          await transaction.rollback();
          return "given up";
        });
        assert.equal(given, "given up");
        assert.equal(await notes("once-%"), 2);
        const swallowed = db.transaction(async (transaction) => {
          await transaction.execute("INSERT INTO note (id) VALUES ('once-swallowed')");
          await transaction.execute("INSERT INTO note (id) VALUES ('once-swallowed')").catch(() => undefined);
        });
        await assert.rejects(swallowed, SegueError);
        assert.equal(await notes("once-%"), 2);
      },
    );

    await t.test("a client that is closed answers what is under way, and takes no more", async () => {
      const client = await connect(migration.url);
      const under = client.query("SELECT 1 AS n FROM pg_sleep(0.5)");
      const streamed = client.query("SELECT 2 AS n FROM pg_sleep(0.5)");
      await eventually("both run", async () => {
        const text =
          "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%pg_sleep(0.5)%' AND pid <> pg_backend_pid()";
        return Number((await migration.direct("source", text))[0]?.[0]) === 2;
      });
      await client.close();
      assert.deepEqual([(await under).rows, (await streamed).rows], [[{ n: 1 }], [{ n: 2 }]]);
      await assert.rejects(client.query("SELECT 1"), InterfaceError);
    });

    await t.test("calls of a transaction run one after the other, and savepoints hold", async () => {
      await db.transaction(async (transaction) => {
        await Promise.all(
          ["s1", "s2", "s3"].map((id) => transaction.execute("INSERT INTO note (id) VALUES ($1)", [id])),
        );
        await transaction.execute("SAVEPOINT here");
        await assert.rejects(transaction.execute("INSERT INTO note (id) VALUES ('s1')"), UniqueViolation);
        await assert.rejects(transaction.query("SELECT 1"), InternalError);
        await transaction.execute("ROLLBACK TO SAVEPOINT here");
        await transaction.execute("UPDATE note SET body = 'kept' WHERE id = 's1'", [], { commit: true });
      });
      assert.equal(await notes("s_"), 3);
    });

    await t.test("a transaction that has ended takes no calls, and rollback does no harm", async () => {
      const transaction = db.begin();
      await transaction.execute("INSERT INTO note (id) VALUES ('e1')");
      await transaction.commit();
      assert.ok(transaction.writeId !== "");
      await transaction.rollback();
      await transaction.commit();
      await assert.rejects(transaction.query("SELECT 1"), InterfaceError);
      assert.equal(await notes("e1"), 1);
      const failed = db.begin();
      await failed.execute("INSERT INTO note (id) VALUES ('e2')");
      await assert.rejects(
        failed.execute("INSERT INTO note (id) VALUES ('e1')", [], { commit: true }),
        UniqueViolation,
      );
      await assert.rejects(failed.commit(), /rolled back by an earlier error/);
      assert.equal(await notes("e2"), 0);
    });

    await t.test("a transaction's parameters are fitted without an error that takes it along", async () => {
      await db.transaction(async (transaction) => {
        await transaction.execute("UPDATE account SET balance = $1 WHERE id = $2", ["100", "3"]);
        await transaction.execute("UPDATE account SET balance = $1 WHERE id = $2 /* last */", ["101", "3"], {
          commit: true,
        });
      });
      assert.deepEqual((await db.query("SELECT balance FROM account WHERE id = 3")).rows, [{ balance: 101n }]);
    });

    await t.test("rows of a stream come as they are read, in a transaction too", async () => {
      const seen: unknown[] = [];
      for await (const row of db.stream("SELECT i, 'ok'::mood AS m FROM generate_series(1, 3000) AS i")) seen.push(row);
      assert.deepEqual(seen.at(-1), { i: 3000, m: "ok" });
      await db.transaction(async (transaction) => {
        for await (const row of transaction.stream<{ i: number }>("SELECT i FROM generate_series(1, 200000) AS i")) {
          if (row.i === 1) await assert.rejects(transaction.query("SELECT 1"), /not read to its end/);
          if (row.i === 5) break;
        }
        await transaction.execute("INSERT INTO note (id) VALUES ('after a stream')", [], { commit: true });
      });
      assert.equal(await notes("after a stream"), 1);
    });

    await t.test("an answer that turns out large holds no one up", async () => {
      const statement = "SELECT i, repeat('x', 1000) AS x FROM generate_series(1, $1::int4) AS i";
      // Short answers take the stream that all calls share.
      for (let round = 0; round < 3; round++) await db.query(statement, [2]);
      const slow = db.stream(statement, [100_000]);
      await slow.next();
      assert.equal((await db.query(statement, [3])).rows.length, 3);
      assert.equal((await db.query(statement, [50_000])).rows.length, 50_000);
      await slow.return();
    });

    await t.test("leaving a stream and aborting a call end their statements", async () => {
      for await (const _ of db.stream("SELECT i, repeat('x', 1000) FROM generate_series(1, 900000) AS i /* left */"))
        break;
      await eventually("the stream's statement ends", async () => (await active("left")) === 0);
      const abort = new AbortController();
      const call = db.query("SELECT pg_sleep(60) /* aborted */", [], { signal: abort.signal });
      call.catch(() => undefined);
      await eventually("the call's statement runs", async () => (await active("aborted")) === 1);
      abort.abort();
      await assert.rejects(call, Cancelled);
      await eventually("the call's statement ends", async () => (await active("aborted")) === 0);
    });

    await t.test("a write whose answer was lost has effect once", async () => {
      const [, done] = await Promise.all([
        lose("lost-%"),
        db.execute("INSERT INTO note (id) VALUES ('lost-' || gen_random_uuid())"),
      ]);
      assert.deepEqual([done.alreadyApplied, done.affectedRows, await notes("lost-%")], [true, 1, 1]);
      const [, batch] = await Promise.all([
        lose("batch-%"),
        db.batch(["INSERT INTO note (id) VALUES ('batch-' || gen_random_uuid())"]),
      ]);
      assert.deepEqual([batch.alreadyApplied, await notes("batch-%")], [true, 1]);
    });

    await t.test("where no one knows whether it was made, nothing is repeated", async () => {
      const insert = (id: string): string => `INSERT INTO note (id) VALUES ('${id}-' || gen_random_uuid())`;
      const unknown = async (like: string, call: (losing: () => Promise<void>) => Promise<unknown>): Promise<void> => {
        let lost = Promise.resolve();
        const losing = async (): Promise<void> => {
          lost = lose(like);
        };
        const error = await call(losing).then(
          () => undefined,
          (failed: unknown) => failed,
        );
        await lost;
        assert.ok(error instanceof OutcomeUnknown && error.outcome === "unknown" && !isRetryable(error), String(error));
        assert.equal(await notes(like), 1);
      };
      await unknown("keyless-%", async (losing) => {
        await losing();
        await db.execute(insert("keyless"), [], { idempotencyKey: false });
      });
      let runs = 0;
      await unknown("last-%", (losing) =>
        db.transaction(async (transaction) => {
          runs++;
          await transaction.query("SELECT 1");
          await losing();
          await transaction.execute(insert("last"), [], { commit: true });
        }),
      );
      await unknown("commit-%", (losing) =>
        db.transaction(async (transaction) => {
          runs++;
          await transaction.execute(insert("commit"));
          await losing();
        }),
      );
      assert.equal(runs, 2);
    });

    await t.test("a transaction that lost its connection is run again", async () => {
      let runs = 0;
      await db.transaction(async (transaction) => {
        await transaction.execute("INSERT INTO note (id) VALUES ('again')");
        if (++runs === 1) migration.proxy.set("cut");
        await transaction.execute("UPDATE note SET body = 'again' WHERE id = 'again'");
      });
      assert.equal(runs, 2);
      assert.equal(await notes("again"), 1);
    });

    await t.test("calls outlive restarts of the sidecar", async () => {
      const client = await connect(migration.url, {
        connectTimeoutMs: 60_000,
        retryTimeoutMs: 60_000,
        timeoutMs: 60_000,
      });
      let stopped = false;
      let writes = 0;
      const problems: unknown[] = [];
      const callers = Array.from({ length: 4 }, async (_, at) => {
        try {
          while (!stopped) {
            if (at % 2 === 0) {
              await client.execute("UPDATE account SET balance = balance + 1 WHERE id = 20");
              writes++;
            } else {
              await client.query("SELECT balance FROM account WHERE id = 20");
            }
          }
        } catch (error) {
          problems.push(error);
        }
      });
      const goesOn = async (): Promise<void> => {
        const goal = writes + 20;
        await eventually("the calls go on", () => problems.length > 0 || writes >= goal);
      };
      for (const signal of ["SIGKILL", "SIGTERM", "SIGKILL", "SIGTERM"] as const) {
        await goesOn();
        await migration.kill(signal);
        await migration.serve();
      }
      await goesOn();
      stopped = true;
      await Promise.all(callers);
      await client.close();
      assert.deepEqual(problems, []);
      const [row] = await migration.direct("source", "SELECT balance FROM account WHERE id = 20");
      assert.equal(Number(row?.[0]), 100 + writes);
    });

    await t.test("a call is a span, and the sidecar gets its context", async () => {
      const exporter = new InMemorySpanExporter();
      const provider = new NodeTracerProvider({ spanProcessors: [new SimpleSpanProcessor(exporter)] });
      provider.register();
      const parent = provider.getTracer("test").startSpan("parent");
      const traced = await context.with(trace.setSpan(context.active(), parent), async () => {
        await assert.rejects(db.query("SELECT 1 / $1::int4", [0]));
        return db.sql`SELECT balance FROM account WHERE id = ${4}`;
      });
      assert.equal(traced.rows.length, 1);
      parent.end();
      const [failed, found] = exporter.getFinishedSpans();
      assert.equal(found?.spanContext().traceId, parent.spanContext().traceId);
      assert.equal(found?.name, "segue query");
      assert.equal(found?.attributes["db.system.name"], "postgresql");
      assert.equal(found?.attributes["db.query.text"], "SELECT balance FROM account WHERE id = $1");
      assert.equal(failed?.attributes["db.response.status_code"], "22012");
      assert.equal(failed?.attributes["error.type"], "22012");
      await provider.shutdown();
      trace.disable();
      context.disable();
    });

    await t.test("a Unix socket and TLS lead to the sidecar", async () => {
      const folder = mkdtempSync(join(tmpdir(), "segue-ts-tls-"));
      const socket = await TcpProxy.start(migration.port, join(folder, "s"));
      const by = await connect(`segue+unix://${folder}/s`);
      assert.equal((await by.query("SELECT 1 AS n")).rows.length, 1);
      await by.close();
      socket.close();
      const [key, cert] = [join(folder, "key.pem"), join(folder, "cert.pem")];
      const subject = ["-subj", "/CN=side.car", "-addext", "subjectAltName=DNS:side.car"];
      execFileSync(
        "openssl",
        ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", cert, "-days", "2", ...subject],
        { stdio: "pipe" },
      );
      const server = createServer(
        { key: readFileSync(key), cert: readFileSync(cert), ALPNProtocols: ["h2"] },
        (plain) => {
          const up = createConnection(migration.port, "127.0.0.1");
          plain.pipe(up).pipe(plain);
          plain.on("error", () => up.destroy());
          up.on("error", () => plain.destroy());
        },
      );
      await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
      const { port } = server.address() as { port: number };
      const secure = await connect(`segue+tls://127.0.0.1:${port}?ca=${cert}&server_name=side.car`);
      assert.equal((await secure.query("SELECT 1 AS n")).rows.length, 1);
      await secure.close();
      await assert.rejects(
        connect(`segue+tls://127.0.0.1:${port}?ca=${cert}&server_name=other&connect_timeout=1`),
        Unavailable,
      );
      server.close();
      rmSync(folder, { recursive: true });
    });

    await t.test("errors say what the database said", async () => {
      await assert.rejects(db.execute("UPDATE account SET balance = -1 WHERE id = 1"), (error) => {
        assert.ok(error instanceof SegueError);
        const { code, constraint, table, side, outcome, retryable, name } = error;
        assert.deepEqual(
          { code, constraint, table, side, outcome, retryable, name },
          {
            code: "23514",
            constraint: "balance_not_negative",
            table: "account",
            side: "source",
            outcome: "not_applied",
            retryable: false,
            name: "IntegrityError",
          },
        );
        assert.match(error.detail, /Failing row/);
        return true;
      });
    });

    await t.test("the example runs, and the package is found by require and by import", async () => {
      assert.equal(await transfer(migration.url, 40, 41, 30n), 130n);
      const program = join(TYPESCRIPT, "build/package.cjs");
      writeFileSync(program, PACKAGE);
      const done = await promisify(execFile)(process.execPath, [program, migration.url], { timeout: 60_000 });
      assert.equal(done.stdout.trim(), "function function 100 100", done.stderr);
    });

    await db.close();
    await assert.rejects(db.query("SELECT 1"), InterfaceError);
    await migration.close();
  });
}

/** It ends by itself, once its clients are closed. */
const PACKAGE = `
const { connect } = require("segue-client");
const { SegueDialect } = require("segue-client/kysely");
const { proxy } = require("segue-client/drizzle");
const balance = async (connect) => {
  const db = await connect(process.argv[2]);
  const { rows } = await db.sql\`SELECT balance FROM account WHERE id = \${5}\`;
  await db.close();
  return rows[0].balance;
};
(async () => {
  const first = await balance(connect);
  const second = await balance((await import("segue-client")).connect);
  console.log(typeof SegueDialect, typeof proxy, String(first), String(second));
})();
`;
