/** Drizzle by a sidecar: its proxy driver calls the client. */

import { desc, eq, sql } from "drizzle-orm";
import { bigint, boolean, jsonb, numeric, pgTable, text, timestamp } from "drizzle-orm/pg-core";
import { drizzle } from "drizzle-orm/pg-proxy";
import type { Client } from "segue-client";
import { proxy } from "segue-client/drizzle";

const table = pgTable("orders", {
  id: bigint({ mode: "bigint" }).primaryKey(),
  customer: bigint({ mode: "number" }).notNull(),
  total: numeric({ precision: 10, scale: 2 }).notNull(),
  items: jsonb().notNull(),
  tags: text().array().notNull(),
  placed: timestamp({ withTimezone: true }).notNull(),
  paid: boolean().notNull().default(false),
});

/** Writes two orders, pays one in a transaction, and gives a customer's orders. */
export async function orders(client: Client): Promise<(typeof table.$inferSelect)[]> {
  const db = drizzle(proxy(client));
  await db.insert(table).values([
    { id: 1n, customer: 7, total: "10.00", items: "12", tags: [], placed: new Date("2024-01-01T00:00:00.005Z") },
    {
      id: 2n,
      customer: 7,
      total: "2.5",
      items: { text: "1", list: [1] },
      tags: ["a", 'b"c'],
      placed: new Date("2024-02-29Z"),
    },
  ]);
  // Drizzle's proxy driver has no transactions of its own: the client has.
  await client.transaction(async (transaction) => {
    const inner = drizzle(proxy(transaction));
    const [due] = await inner.select({ id: table.id }).from(table).where(eq(table.paid, false)).orderBy(table.total);
    if (due !== undefined) await inner.update(table).set({ paid: true }).where(eq(table.id, due.id));
  });
  await db.execute(sql`SELECT count(*) FROM orders`);
  return db.select().from(table).where(eq(table.customer, 7)).orderBy(desc(table.placed));
}
