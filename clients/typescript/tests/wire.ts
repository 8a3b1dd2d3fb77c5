/** What the client does with what a sidecar says, which a fake one says here. */

import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { status as Codes } from "@grpc/grpc-js";
import {
  Cancelled,
  connect,
  DeadlineExceeded,
  InterfaceError,
  InternalError,
  OutcomeUnknown,
  SegueError,
  Tokens,
} from "segue-client";
import { Outcome } from "#internal/protocol/segue/v1/error.js";
import { type Answer, commit, Fake, failure, oneRow, type Script, written } from "./fake.js";

const CONFLICT = { outcome: Outcome.NOT_APPLIED, retryable: true, sqlstate: "40001" };

async function with_(t: TestContext, script: Script, options: { pipeline?: boolean; url?: string } = {}) {
  const fake = await Fake.start(script, options);
  const client = await connect(`segue://127.0.0.1:${fake.port}?${options.url ?? ""}`);
  t.after(async () => {
    await client.close();
    fake.close();
  });
  return { fake, client };
}

/** Answers from a list, and the last one for ever. */
function listed(...answers: (Answer | { code: number })[]): Script {
  let at = 0;
  return (call) => (call.$case === "cancel" ? undefined : answers[Math.min(at++, answers.length - 1)]);
}

async function caught(call: Promise<unknown>): Promise<SegueError> {
  return call.then(
    () => assert.fail("it did not fail"),
    (error: unknown) => {
      assert.ok(error instanceof SegueError, String(error));
      return error;
    },
  );
}

export function wireTests(): void {
  test("deadline and trace context are sent along", async (t) => {
    const { fake, client } = await with_(t, listed(written()));
    const traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    await client.execute("UPDATE a SET b = 1", [], { timeoutMs: 5000, traceparent });
    const [request] = fake.requests;
    assert.equal(request?.traceparent, traceparent);
    assert.ok(request?.timeout && request.timeout.seconds >= 4n && request.timeout.seconds <= 5n);
    await client.execute("UPDATE a SET b = 1", [], { timeoutMs: null });
    assert.equal(fake.requests[1]?.timeout, undefined);
  });

  test("a lost answer is asked for again with the same key", async (t) => {
    const { fake, client } = await with_(t, listed({ code: Codes.UNAVAILABLE }, written()));
    assert.equal((await client.execute("UPDATE a SET b = 1")).affectedRows, 1);
    const [first, second] = fake.of("execute");
    assert.ok(first && first.idempotencyKey !== "" && first.idempotencyKey === second?.idempotencyKey);
  });

  test("a write without a key is not repeated when its answer was lost", async (t) => {
    const { fake, client } = await with_(t, listed({ code: Codes.UNAVAILABLE }, written()), {
      url: "idempotency=false",
    });
    const error = await caught(client.execute("UPDATE a SET b = 1"));
    assert.ok(error instanceof OutcomeUnknown && error.outcome === "unknown" && !error.retryable);
    assert.equal(fake.of("execute").length, 1);
  });

  test("a conflict that had no effect is repeated, but not for ever", async (t) => {
    const { fake, client } = await with_(t, listed(failure(Codes.ABORTED, CONFLICT, 1)));
    assert.equal((await caught(client.execute("UPDATE a SET b = 1"))).code, "40001");
    assert.equal(fake.of("execute").length, 10);
  });

  test("what the sidecar does not call repeatable is not repeated", async (t) => {
    const { fake, client } = await with_(t, listed(failure(Codes.INVALID_ARGUMENT, { outcome: Outcome.NOT_APPLIED })));
    await caught(client.query("SELECT 1"));
    await caught(client.execute("UPDATE a SET b = 1"));
    assert.equal(fake.requests.length, 2);
  });

  test("a write of unknown outcome stays so when its repeat had none", async (t) => {
    const answers = listed(
      { code: Codes.UNAVAILABLE },
      failure(Codes.FAILED_PRECONDITION, { outcome: Outcome.NOT_APPLIED, reason: "refused.x" }),
    );
    const { fake, client } = await with_(t, answers);
    const error = await caught(client.execute("UPDATE a SET b = 1"));
    assert.equal(error.outcome, "unknown");
    assert.ok(error.idempotencyKey);
    // It would be refused again.
    assert.equal(fake.of("execute").length, 2);
  });

  test("what the database says of the repeat is believed, unless it only stopped the repeat", async (t) => {
    for (const [code, fields, outcome] of [
      [Codes.FAILED_PRECONDITION, { outcome: Outcome.NOT_APPLIED, sqlstate: "23514" }, "not_applied"],
      [Codes.INTERNAL, { outcome: Outcome.APPLIED }, "applied"],
      [Codes.CANCELLED, { outcome: Outcome.NOT_APPLIED, sqlstate: "57014" }, "unknown"],
      [Codes.UNAVAILABLE, { outcome: Outcome.NOT_APPLIED, sqlstate: "57P03", retryable: true }, "unknown"],
    ] as const) {
      const { fake, client } = await with_(t, listed({ code: Codes.UNAVAILABLE }, failure(code, fields)));
      assert.equal((await caught(client.execute("UPDATE a SET b = 1"))).outcome, outcome);
      assert.equal(fake.of("execute").length, 2);
    }
  });

  test("a commit that may have taken effect is not run again, whatever error hides that", async (t) => {
    for (const [answer, runs] of [
      [{ code: Codes.UNAVAILABLE }, 1],
      [failure(Codes.INTERNAL, { outcome: Outcome.APPLIED }), 1],
      [failure(Codes.ABORTED, CONFLICT), 2],
    ] as const) {
      const { fake, client } = await with_(t, listed(answer));
      const passing = new SegueError("it may pass", { retryable: true });
      const hiding = client.transaction(
        async (transaction) => {
          await caught(transaction.execute("UPDATE a SET b = 1", [], { commit: true }));
          throw passing;
        },
        { attempts: 2 },
      );
      await assert.rejects(hiding, (error) => error === passing);
      assert.equal(fake.of("execute").length, runs);
    }
  });

  test("without retries the first error is the last", async (t) => {
    const { fake, client } = await with_(t, listed(failure(Codes.ABORTED, CONFLICT, 1)), { url: "retry=false" });
    await caught(client.execute("UPDATE a SET b = 1"));
    assert.equal(fake.requests.length, 1);
  });

  test("an answer's token replaces those that its call brought, and none of others' is lost", async (t) => {
    let count = 0;
    const { fake, client } = await with_(t, () => written(`t${++count}`));
    await client.execute("A");
    await Promise.all([client.execute("B"), client.execute("C")]);
    const brought = fake.of("execute").map((request) => request.consistencyTokens);
    assert.deepEqual(brought, [[], ["t1"], ["t1"]]);
    assert.deepEqual(client.tokens.list(), ["t2", "t3"]);
    const own = new Tokens();
    await client.execute("D", [], { tokens: own });
    assert.deepEqual(own.list(), ["t4"]);
    assert.deepEqual(client.tokens.list(), ["t2", "t3"]);
  });

  test("an error's token is kept, and where it has none, those that were brought", async (t) => {
    const refused = { outcome: Outcome.APPLIED, sqlstate: "XX000" };
    const { client } = await with_(t, listed(failure(13, refused), failure(13, { ...refused, consistencyToken: "b" })));
    client.tokens.add("a");
    await caught(client.execute("A"));
    assert.deepEqual(client.tokens.list(), ["a"]);
    await caught(client.execute("A"));
    assert.deepEqual(client.tokens.list(), ["b"]);
  });

  test("more tokens than a call may bring are folded first", async (t) => {
    const { fake, client } = await with_(t, (call) =>
      call.$case === "query" ? { $case: "query", value: oneRow("all") } : written("last"),
    );
    client.tokens.add(...Array.from({ length: 300 }, (_, at) => `t${at}`));
    await client.execute("A");
    assert.equal(fake.of("query")[0]?.consistencyTokens.length, 256);
    assert.equal(fake.of("execute")[0]?.consistencyTokens.length, 45);
    assert.deepEqual(client.tokens.list(), ["last"]);
  });

  test("a sidecar without a pipeline is called without one", async (t) => {
    const script: Script = (call) => (call.$case === "query" ? { $case: "query", value: oneRow() } : written());
    const { fake, client } = await with_(t, script, { pipeline: false });
    assert.equal((await client.execute("A")).affectedRows, 1);
    for (let round = 0; round < 2; round++) assert.deepEqual((await client.query("SELECT n")).rows, [{ n: 7 }]);
    assert.equal(fake.requests.length, 3);
    assert.deepEqual((await client.info()).features, ["pipeline", "packed_rows"]);
  });

  test("an answer without a footer is an error, for a stream as well", async (t) => {
    const { client } = await with_(t, () => ({ $case: "query", value: oneRow("", false) }), { url: "retry=false" });
    assert.ok((await caught(client.query("SELECT n"))) instanceof InternalError);
    const rows: unknown[] = [];
    const reading = (async () => {
      for await (const row of client.stream("SELECT n")) rows.push(row);
    })();
    assert.ok((await caught(reading)) instanceof InternalError);
    assert.deepEqual(rows, [{ n: 7 }]);
  });

  test("a caller that waits no longer gets what the call came to, for a moment", async (t) => {
    const held: ((answer: Answer) => void)[] = [];
    const { fake, client } = await with_(t, () => undefined);
    const abort = new AbortController();
    const cancelled = caught(client.execute("A", [], { signal: abort.signal }));
    const late = caught(client.execute("B", [], { timeoutMs: 50 }));
    setTimeout(() => abort.abort(new Error("enough")), 50);
    const error = await cancelled;
    assert.ok(error instanceof Cancelled && error.outcome === "unknown");
    assert.equal((error.cause as Error).message, "enough");
    assert.ok((await late) instanceof DeadlineExceeded);
    assert.equal(fake.of("cancel").length, 2);
    assert.equal(held.length, 0);
  });

  test("a transaction that only read is run again when its commit was lost, one that wrote is not", async (t) => {
    let lost = 0;
    const { client } = await with_(t, (call) => {
      if (call.$case === "commit") return lost++ % 2 === 0 ? { code: Codes.UNAVAILABLE } : commit();
      if (call.$case !== "execute") return undefined;
      return written("", "t");
    });
    assert.ok((await caught(client.transaction((transaction) => transaction.execute("A")))) instanceof OutcomeUnknown);
    assert.equal(lost, 1);
    const reads = await Fake.start((call) => {
      if (call.$case === "commit") return lost++ < 2 ? { code: Codes.UNAVAILABLE } : commit();
      return { $case: "query", value: oneRow("", true, "t") };
    });
    const reader = await connect(`segue://127.0.0.1:${reads.port}`);
    await reader.transaction((transaction) => transaction.query("SELECT n"));
    assert.equal(reads.of("query").length, 2);
    await reader.close();
    reads.close();
  });

  test("a signal that is aborted already sends nothing", async (t) => {
    const { fake, client } = await with_(t, () => written());
    const error = await caught(client.execute("A", [], { signal: AbortSignal.abort() }));
    assert.ok(error instanceof Cancelled && error.outcome === "not_applied");
    assert.equal(fake.requests.length, 0);
  });

  test("a write that cannot have a key is made without one, and from then on at once", async (t) => {
    const refused = failure(9, { outcome: Outcome.NOT_APPLIED, reason: "refused.idempotency_of_owner" });
    const { fake, client } = await with_(t, (call) =>
      call.$case === "execute" && call.value.idempotencyKey !== "" ? refused : written(),
    );
    await client.execute("A");
    await client.execute("A");
    assert.deepEqual(
      fake.of("execute").map((request) => request.idempotencyKey !== ""),
      [true, false, false],
    );
    assert.equal(
      (await caught(client.execute("A", [], { idempotencyKey: "k" }))).reason,
      "refused.idempotency_of_owner",
    );
  });

  test("wrong uses are refused before anything is sent", async (t) => {
    const { fake, client } = await with_(t, () => written());
    const transaction = client.begin();
    for (const call of [
      transaction.execute("A", [], { idempotencyKey: "k" }),
      client.execute("A", [], { commit: true }),
      client.execute("A", [undefined]),
      client.execute("A", [() => 1]),
      client.execute("A", [[[1], [2, 3]]]),
      client.execute("A", [new Date(Number.NaN)]),
      client.execute("A", ["\ud800"]),
      client.execute("A", [new Map()]),
    ]) {
      assert.ok((await caught(call)) instanceof InterfaceError);
    }
    assert.throws(() => client.begin({ isolation: "chaos" as "serializable" }), /serializable/);
    assert.equal(fake.requests.length, 0);
    await client.close();
    assert.ok((await caught(client.execute("A"))) instanceof InterfaceError);
  });
}
