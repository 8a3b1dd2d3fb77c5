/** Kysely by its dialect and Drizzle by its proxy driver: what an application does with them. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { type Generated, Kysely, sql as raw } from "kysely";
import {
  type Client,
  connect,
  InterfaceError,
  NotSupportedError,
  nodePostgresParsers,
  SegueError,
  UniqueViolation,
} from "segue-client";
import { inTransaction, SegueDialect } from "segue-client/kysely";
import { orders } from "../examples/drizzle.js";
import { Migration } from "./migration.js";
import type { Servers } from "./servers.js";

const SETUP = [
  "CREATE TYPE mood AS ENUM ('sad', 'ok')",
  `CREATE TABLE person (id bigint PRIMARY KEY, name text NOT NULL, mood mood, tags text[], details jsonb,
    born timestamptz, weight numeric(5,2), seen int NOT NULL DEFAULT 0)`,
  "CREATE TABLE pet (id bigint PRIMARY KEY, owner bigint NOT NULL REFERENCES person (id), name text NOT NULL)",
  `CREATE TABLE orders (id bigint PRIMARY KEY, customer bigint NOT NULL, total numeric(10,2) NOT NULL,
    items jsonb NOT NULL, tags text[] NOT NULL, placed timestamptz NOT NULL, paid boolean NOT NULL DEFAULT false)`,
];

interface Person {
  id: bigint | number;
  name: string;
  mood: "sad" | "ok" | null;
  tags: string[] | null;
  details: unknown;
  born: string | Date | null;
  weight: string | null;
  seen: Generated<number>;
}

interface Database {
  person: Person;
  pet: { id: bigint | number; owner: bigint | number; name: string };
}

async function kyselyWorks(migration: Migration): Promise<void> {
  const db = new Kysely<Database>({ dialect: new SegueDialect({ client: () => connect(migration.url) }) });
  const insert = await db
    .insertInto("person")
    .values([
      { id: 1, name: "Ann", mood: "ok", tags: ["a", "b,c"], details: { deep: [1, null] } as never, weight: "70.50" },
      { id: 2, name: "Bob", mood: null, tags: null, details: null, born: new Date(Date.UTC(2000, 0, 1)), weight: null },
    ] as never)
    .executeTakeFirst();
  assert.equal(insert.numInsertedOrUpdatedRows, 2n);
  const rows = await db.selectFrom("person").selectAll().orderBy("id").execute();
  assert.deepEqual(rows, [
    {
      id: 1n,
      name: "Ann",
      mood: "ok",
      tags: ["a", "b,c"],
      details: { deep: [1, null] },
      born: null,
      weight: "70.50",
      seen: 0,
    },
    {
      id: 2n,
      name: "Bob",
      mood: null,
      tags: null,
      details: null,
      born: "2000-01-01 00:00:00+00",
      weight: null,
      seen: 0,
    },
  ]);
  const updated = await db
    .updateTable("person")
    .set((eb) => ({ seen: eb("seen", "+", 1) }))
    .where("id", "in", [1, 2])
    .executeTakeFirst();
  assert.equal(updated.numUpdatedRows, 2n);
  const upserted = await db
    .insertInto("person")
    .values({ id: 1, name: "Ann", mood: null, tags: null, details: null, born: null, weight: null })
    .onConflict((conflict) => conflict.column("id").doUpdateSet({ name: "Anna" }))
    .returning(["id", "name"])
    .executeTakeFirstOrThrow();
  assert.deepEqual(upserted, { id: 1n, name: "Anna" });
  await assert.rejects(db.insertInto("pet").values({ id: 1, owner: 99, name: "x" }).execute(), (error) => {
    assert.ok(error instanceof SegueError && error.code === "23503");
    return true;
  });
  // Of columns with the same name the last one counts, as with Kysely's other dialects.
  await db.insertInto("pet").values({ id: 7, owner: 1, name: "Rex" }).execute();
  const joined = await db
    .selectFrom("person")
    .innerJoin("pet", "pet.owner", "person.id")
    .selectAll()
    .executeTakeFirstOrThrow();
  assert.equal(joined.name, "Rex");
  assert.deepEqual((await raw<{ n: number }>`SELECT ${1}::int4 AS n`.execute(db)).rows, [{ n: 1 }]);
  assert.equal((await raw`UPDATE pet SET name = name`.execute(db)).numAffectedRows, 1n);
  assert.equal((await db.deleteFrom("pet").where("id", "=", 7).executeTakeFirst()).numDeletedRows, 1n);
  const tables = await db.introspection.getTables();
  assert.deepEqual(
    tables.find(({ name }) => name === "pet")?.columns.map(({ name, dataType }) => [name, dataType]),
    [
      ["id", "int8"],
      ["owner", "int8"],
      ["name", "text"],
    ],
  );
  await assert.rejects(db.schema.createTable("t").addColumn("id", "integer").execute(), NotSupportedError);
  const seen: number[] = [];
  const numbers = db.selectFrom(raw<{ n: number }>`generate_series(1, 250)`.as("n")).select(raw<number>`n`.as("n"));
  for await (const { n } of numbers.stream(100)) {
    seen.push(n);
  }
  assert.equal(seen.length, 250);
  await db.destroy();
}

async function kyselyTransacts(migration: Migration, client: Client): Promise<void> {
  const db = new Kysely<Database>({ dialect: new SegueDialect({ client, parsers: nodePostgresParsers }) });
  const person = { mood: null, tags: null, details: null, born: null, weight: null };
  await assert.rejects(
    db.transaction().execute(async (transaction) => {
      await transaction
        .insertInto("person")
        .values({ id: 10, name: "gone", ...person })
        .execute();
      throw new RangeError("no");
    }),
    RangeError,
  );
  assert.equal(await db.selectFrom("person").select("id").where("id", "=", 10).executeTakeFirst(), undefined);
  const controlled = await db.startTransaction().setIsolationLevel("repeatable read").execute();
  await controlled
    .insertInto("person")
    .values({ id: 11, name: "kept", ...person })
    .execute();
  const point = await controlled.savepoint("a point").execute();
  await assert.rejects(
    point
      .insertInto("person")
      .values({ id: 11, name: "again", ...person })
      .execute(),
    UniqueViolation,
  );
  await point.rollbackToSavepoint("a point").execute();
  const locked = await controlled.selectFrom("person").select("id").where("id", "=", 11).forUpdate().execute();
  // node-postgres gives int8 as strings.
  assert.deepEqual(locked, [{ id: "11" }]);
  await controlled.commit().execute();
  await assert.rejects(
    db
      .transaction()
      .setAccessMode("read only")
      .execute((transaction) => transaction.deleteFrom("person").execute()),
    SegueError,
  );
  await assert.rejects(
    db
      .transaction()
      .setIsolationLevel("snapshot")
      .execute(async () => 1),
    InterfaceError,
  );
  await db
    .insertInto("person")
    .values({ id: 12, name: "counter", ...person })
    .execute();
  const increment = () =>
    inTransaction(
      db,
      async (transaction) => {
        const { seen } = await transaction
          .selectFrom("person")
          .select("seen")
          .where("id", "=", 12)
          .executeTakeFirstOrThrow();
        await transaction
          .updateTable("person")
          .set({ seen: seen + 1 })
          .where("id", "=", 12)
          .execute();
      },
      { isolation: "serializable", attempts: 100 },
    );
  await Promise.all(Array.from({ length: 6 }, increment));
  assert.deepEqual(await migration.direct("source", "SELECT seen FROM person WHERE id = 12"), [["6"]]);
}

export function builderTests(servers: () => Servers): void {
  test("Kysely and Drizzle", async (t) => {
    const migration = await Migration.start(servers(), SETUP);
    await migration.enter("dual_write");
    const client = await connect(migration.url);
    await t.test("Kysely reads, writes, streams and looks at tables", () => kyselyWorks(migration));
    await t.test("Kysely's transactions, savepoints and levels hold", () => kyselyTransacts(migration, client));
    await t.test("the example of Drizzle runs", async () => {
      assert.deepEqual(await orders(client), [
        {
          id: 2n,
          customer: 7,
          total: "2.50",
          items: { text: "1", list: [1] },
          tags: ["a", 'b"c'],
          placed: new Date(Date.UTC(2024, 1, 29)),
          paid: true,
        },
        {
          id: 1n,
          customer: 7,
          total: "10.00",
          items: "12",
          tags: [],
          placed: new Date(Date.UTC(2024, 0, 1, 0, 0, 0, 5)),
          paid: false,
        },
      ]);
    });
    await client.close();
    await migration.close();
  });
}
