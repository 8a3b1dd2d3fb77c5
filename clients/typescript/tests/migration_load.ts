import assert from "node:assert/strict";
import { test } from "node:test";
import { sql as drizzleSql, eq } from "drizzle-orm";
import { bigint, pgTable } from "drizzle-orm/pg-core";
import { drizzle } from "drizzle-orm/pg-proxy";
import { Kysely, sql as kyselySql } from "kysely";
import { type Client, connect, type Transaction } from "segue-client";
import { proxy } from "segue-client/drizzle";
import { inTransaction, SegueDialect } from "segue-client/kysely";
import { type Caller, everyPhase, Load } from "./load.js";
import { Migration } from "./migration.js";
import { eventually, type Servers, SIDES } from "./servers.js";

const SETUP = [
  "CREATE TABLE item (id bigint PRIMARY KEY, n bigint NOT NULL)",
  "INSERT INTO item SELECT i, 0 FROM generate_series(0, 15) i",
];
const WRITE = "UPDATE item SET n = n + 1 WHERE id = $1";
const READ = "SELECT n FROM item WHERE id = $1";
// A transaction that meets a change of the primary is run again, however often it meets it.
const ATTEMPTS = 100;

interface Database {
  item: { id: bigint | number; n: bigint };
}

const item = pgTable("item", {
  id: bigint({ mode: "bigint" }).primaryKey(),
  n: bigint({ mode: "bigint" }).notNull(),
});

async function seen(client: Client, id: number, wanted: number): Promise<void> {
  const { rows } = await client.query<{ n: bigint }>(READ, [id]);
  assert.equal(rows[0]?.n, BigInt(wanted), `item ${id} is read as ${rows[0]?.n}, not ${wanted}`);
}

/** One caller for each way of writing, each with rows of its own. */
function callers(client: Client, kysely: Kysely<Database>): Caller[] {
  const increment = async (transaction: Transaction, id: number, round: number): Promise<void> => {
    // By a read: one that waits while the primary changes must not stay on the old one.
    const { rows } = await transaction.query<{ n: bigint }>(READ, [id]);
    assert.equal(rows[0]?.n, BigInt(round - 1));
    await transaction.execute("UPDATE item SET n = $2 WHERE id = $1", [id, round], { commit: round % 2 === 0 });
  };
  return [
    async (round) => {
      await client.execute(WRITE, [0]);
      await seen(client, 0, round);
      return 1;
    },
    async (round) => {
      await client.batch([
        [WRITE, [1]],
        [WRITE, [2]],
      ]);
      await seen(client, 2, round);
      return 2;
    },
    async (round) => {
      await client.transaction((transaction) => increment(transaction, 3, round), {
        isolation: "serializable",
        attempts: ATTEMPTS,
      });
      await seen(client, 3, round);
      return 1;
    },
    async (round) => {
      await Promise.all([client.execute(WRITE, [4]), client.execute(WRITE, [5])]);
      await seen(client, 4, round);
      await seen(client, 5, round);
      return 2;
    },
    async (round) => {
      await inTransaction(
        kysely,
        async (transaction) => {
          const found = await transaction.selectFrom("item").select("n").where("id", "=", 6).executeTakeFirstOrThrow();
          assert.equal(found.n, BigInt(round - 1));
          await transaction.updateTable("item").set({ n: kyselySql<bigint>`n + 1` }).where("id", "=", 6).execute();
        },
        { attempts: ATTEMPTS },
      );
      await seen(client, 6, round);
      return 1;
    },
    async (round) => {
      const db = drizzle(proxy(client));
      await db
        .update(item)
        .set({ n: drizzleSql`${item.n} + 1` })
        .where(eq(item.id, 7n));
      const [found] = await db.select().from(item).where(eq(item.id, 7n));
      assert.equal(found?.n, BigInt(round));
      return 1;
    },
  ];
}

export function migrationTests(servers: () => Servers): void {
  test("a whole migration, there and back, shows its callers no error", async (t) => {
    const migration = await Migration.start(servers(), SETUP);
    const client = await connect(migration.url);
    const kysely = new Kysely<Database>({ dialect: new SegueDialect({ client }) });
    const load = new Load(callers(client, kysely));
    try {
      await everyPhase(migration, (phase) => load.goesOn(phase));
    } finally {
      await load.stop();
    }
    try {
      assert.deepEqual(load.problems, []);
      // Each write had its effect once, and both sides have it.
      for (const side of SIDES) {
        await eventually(`the ${side} has all writes`, async () => {
          const [row] = await migration.direct(side, "SELECT sum(n) FROM item");
          return row?.[0] === String(load.total);
        });
      }
      t.diagnostic(`${load.total} writes`);
    } finally {
      await kysely.destroy();
      await migration.close();
    }
  });
}
