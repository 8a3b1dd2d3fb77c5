/** Moves money between two accounts: a whole program over the client. */

import { argv, env } from "node:process";
import { pathToFileURL } from "node:url";
import { connect, isRetryable, SegueError } from "segue-client";

/** Gives the balance of the account that got the money. */
export async function transfer(url: string, from: number, to: number, amount: bigint): Promise<bigint | undefined> {
  await using db = await connect(url);
  // The first call begins the transaction, the last one commits it. It is run again on serialization failures.
  await db.transaction(
    async (transaction) => {
      const taken = await transaction.sql`
        UPDATE account SET balance = balance - ${amount} WHERE id = ${from} AND balance >= ${amount}`;
      if (taken.affectedRows === 0) throw new Error(`account ${from} does not have ${amount}`);
      await transaction.execute("UPDATE account SET balance = balance + $1 WHERE id = $2", [amount, to], {
        commit: true,
      });
    },
    { isolation: "serializable" },
  );
  // It sees the write, on whichever database it is answered.
  const { rows } = await db.sql<{ balance: bigint }>`SELECT balance FROM account WHERE id = ${to}`;
  return rows[0]?.balance;
}

if (argv[1] !== undefined && import.meta.url === pathToFileURL(argv[1]).href) {
  const [, , from = "1", to = "2", amount = "20"] = argv;
  try {
    const balance = await transfer(env.SEGUE_URL ?? "segue://127.0.0.1:7400", Number(from), Number(to), BigInt(amount));
    console.log(`balance: ${balance}`);
  } catch (error) {
    if (error instanceof SegueError)
      console.error(`${error.name}: ${error.message}; may be run again: ${isRetryable(error)}`);
    throw error;
  }
}
