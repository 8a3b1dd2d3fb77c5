/** An application that is not ours: pg-boss, a job queue, through a whole migration. */

import assert from "node:assert/strict";
import { test } from "node:test";
import PgBoss from "pg-boss";
import { connect } from "segue-client";
import { connection } from "../examples/pg-boss.js";
import { everyPhase } from "./load.js";
import { Migration } from "./migration.js";
import { eventually, type Servers, SIDES } from "./servers.js";

const QUEUE = "mail";
const JOBS_PER_PHASE = 12;

/** Its tables, and a queue's partition: DDL, which an operator runs on both databases beforehand. */
function setup(): string[] {
  return [
    PgBoss.getConstructionPlans("pgboss"),
    `SELECT pgboss.create_queue('${QUEUE}', '{"retryLimit": 3, "retryDelay": 0}')`,
  ];
}

export function applicationTests(servers: () => Servers): void {
  test("pg-boss runs each of its jobs, and once, through a whole migration", async () => {
    const migration = await Migration.start(servers(), setup(), {}, [
      "DELETE FROM pgboss.queue",
      "DELETE FROM pgboss.version",
    ]);
    const client = await connect(migration.url);
    const boss = new PgBoss({
      db: connection(client),
      migrate: false,
      maintenanceIntervalSeconds: 1,
      monitorStateIntervalSeconds: 1,
    });
    const problems: unknown[] = [];
    boss.on("error", (error) => problems.push(error));
    // Its texts of several statements.
    let maintained = 0;
    boss.on("maintenance", () => maintained++);
    const runs = new Map<string, number>();
    let sent = 0;
    try {
      await boss.start();
      await boss.work<{ number: number; fails?: boolean }>(
        QUEUE,
        { batchSize: 4, pollingIntervalSeconds: 0.5 },
        async (jobs) => {
          for (const { id, data } of jobs) {
            runs.set(id, (runs.get(id) ?? 0) + 1);
            if (data.fails === true && runs.get(id) === 1) throw new Error("it is to be run again");
          }
        },
      );
      await everyPhase(migration, async (phase) => {
        for (let at = 0; at < JOBS_PER_PHASE; at++) {
          assert.ok(await boss.send(QUEUE, { number: sent++ }), "the job was not taken");
        }
        await boss.insert([{ name: QUEUE, data: { number: sent++ } }]);
        // One that fails is given back to the queue, in a batch of its own.
        await eventually(`all jobs are done in ${phase}`, async () => {
          assert.deepEqual(problems, []);
          return runs.size === sent && (await boss.getQueueSize(QUEUE)) === 0;
        });
        const failing = await boss.send(QUEUE, { number: sent++, fails: true });
        await eventually(`a job is run again in ${phase}`, async () => {
          assert.deepEqual(problems, []);
          return (
            failing !== null &&
            runs.get(failing) === 2 &&
            (await boss.getJobById(QUEUE, failing))?.state === "completed"
          );
        });
      });
      // Jobs that do not fail are run once.
      assert.equal([...runs.values()].filter((count) => count > 1).length, sent / (JOBS_PER_PHASE + 2));
      await eventually("its tables are maintained", () => maintained > 0);
      assert.deepEqual(problems, []);
    } finally {
      await boss.stop({ graceful: true, wait: true, timeout: 10_000 });
    }
    try {
      for (const side of SIDES) {
        await eventually(`the ${side} has all jobs as done`, async () => {
          const [row] = await migration.direct(side, "SELECT count(*) FROM pgboss.job WHERE state = 'completed'");
          return row?.[0] === String(sent);
        });
      }
    } finally {
      await client.close();
      await migration.close();
    }
  });
}
