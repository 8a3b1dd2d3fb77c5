/** The first five minutes: what the README shows, as a test runs it. */

import { connect, json } from "segue-client";

export async function tour(url: string, log: (...what: unknown[]) => void): Promise<void> {
  // README: begin
  const db = await connect(url);

  // A read. Values are lossless: int8 is a bigint, numeric its digits.
  const { rows } = await db.query<{ id: bigint; total: string }>(
    "SELECT id, total FROM orders WHERE customer = $1",
    [7],
  );
  log(rows);

  // A tagged template makes parameters of its values, and runs reads and writes.
  const done = await db.sql`UPDATE orders SET total = total * 2 WHERE id = ${1}`;
  log(done.affectedRows);

  // A single write has an idempotency key by itself: when its answer is lost, it is repeated, and has effect once.
  await db.execute("INSERT INTO orders (id, customer, total, items) VALUES ($1, $2, $3, $4)", [
    2,
    7,
    "9.90",
    json(["pen"]),
  ]);

  // Several writes in one call, all or none.
  await db.batch([
    ["UPDATE stock SET amount = amount - $1 WHERE item = $2", [1, "pen"]],
    ["INSERT INTO sales (order_id, item) VALUES ($1, $2)", [2, "pen"]],
  ]);

  // A transaction. The first call begins it, the last one commits it: two calls in all. It is run again on
  // serialization failures.
  const left = await db.transaction(
    async (tx) => {
      const { rows } = await tx.query<{ amount: number }>("SELECT amount FROM stock WHERE item = $1", ["pen"]);
      const amount = (rows[0]?.amount ?? 0) - 1;
      await tx.execute("UPDATE stock SET amount = $1 WHERE item = $2", [amount, "pen"], { commit: true });
      return amount;
    },
    { isolation: "serializable" },
  );
  log(left);

  // Rows as they come, with flat memory. A deadline and an AbortSignal end the statement in the database.
  let sum = 0;
  for await (const { n } of db.stream<{ n: number }>("SELECT n FROM generate_series(1, 1000) AS n", [], {
    timeoutMs: 5000,
  })) {
    sum += n;
  }
  log(sum);

  await db.close();
  // README: end
}
