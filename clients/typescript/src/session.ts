import { randomBytes } from "node:crypto";
import { backoff, mayRepeat, Patience, type Repeat, settles } from "./call.js";
import { type Answer, type Call, Connection } from "./connection.js";
import { type Column, decodable, RowDecoder } from "./decode.js";
import { encodeAll, mayMisfit } from "./encode.js";
import { InterfaceError, InternalError, SegueError } from "./errors.js";
import type { Settings } from "./options.js";
import type { Parts } from "./parts.js";
import type {
  BatchResponse,
  DescribeResponse,
  ExecuteResponse,
  Footer,
  QueryRequest,
  QueryResponse,
  Statement as StatementRequest,
  StatementResult,
  TransactionSelector,
} from "./protocol/segue/v1/sql.js";
import { Encoding } from "./protocol/segue/v1/value.js";
import { Reader } from "./reader.js";
import type { BatchResult, CallOptions, Result } from "./results.js";
import { Memory, mayRead, type Parsed, requestOf } from "./statements.js";
import { sideOf } from "./status.js";
import { Tokens } from "./tokens.js";
import { type Traced, Tracing } from "./tracing.js";
import type { Place, TransactionState } from "./transaction.js";
import type { Parsers } from "./values.js";

// The sidecar takes 256 in a call.
const TOKENS_MAX = 256;
// A conflict that goes on for so long is not left to chance any more.
const CONFLICTS_MAX = 10;
// Answers above these limits have streams of their own.
const SHORT_BYTES_MAX = 64 << 10;
const SHORT_ROWS_MAX = 1000;
const ROLLBACK_TIMEOUT_MS = 5000;
// Reasons for which a write cannot have an idempotency key. It had no effect.
const WITHOUT_KEY: ReadonlySet<string> = new Set([
  "refused.idempotency_of_owner",
  "idempotency.no_schema",
  "idempotency.answer_bytes",
]);

/** What a caller asks of one call. */
interface Asked {
  readonly patience: Patience;
  readonly options: CallOptions;
  readonly tokens: Tokens;
  readonly transaction: TransactionState | undefined;
  readonly commit: boolean;
}

interface Answered {
  consistencyToken: string;
  transactionId: string;
  writeId: string;
}

/** The whole of an answer to a query. */
interface Collected extends Answered {
  columns: Column[];
  rows: unknown[];
  footer: Footer;
  packable: boolean;
  /** Why the rows could not be read. The answer itself was. */
  failure: unknown;
}

/** The state of one client: what its calls have in common. */
export class Session {
  readonly settings: Settings;
  readonly tokens = new Tokens();
  readonly connection: Connection;
  readonly #memory = new Memory();
  readonly #tracing: Tracing;

  constructor(settings: Settings) {
    this.settings = settings;
    this.connection = new Connection(settings);
    this.#tracing = new Tracing(settings);
  }

  asked(options: CallOptions, transaction: TransactionState | undefined): Asked {
    const timeoutMs = options.timeoutMs === undefined ? this.settings.timeoutMs : options.timeoutMs;
    if (transaction === undefined && options.commit === true) {
      throw new InterfaceError("there is no transaction that the call could commit");
    }
    if (transaction !== undefined && typeof options.idempotencyKey === "string") {
      throw new InterfaceError("an idempotency key cannot be given inside a transaction", {
        hint: "use Client.transaction, which repeats the whole transaction",
      });
    }
    return {
      patience: new Patience(timeoutMs, options.signal),
      options,
      tokens: options.tokens ?? this.tokens,
      transaction,
      commit: options.commit === true,
    };
  }

  /** Makes a call, and makes it again while that is safe. */
  async repeated<T>(
    asked: Pick<Asked, "patience" | "options">,
    traced: Traced,
    repeat: () => Repeat,
    attempt: (traceparent: string) => Promise<T>,
  ): Promise<T> {
    return this.#tracing.run(traced, asked.options.traceparent, async (traceparent) => {
      const until = performance.now() + this.settings.retryTimeoutMs;
      let unknown = false;
      for (let count = 0, conflicts = 0; ; count++) {
        // Asked before the attempt, which changes the state of its transaction.
        const when = repeat();
        let sent = false;
        try {
          await this.connection.ready(asked.patience);
          sent = true;
          return await attempt(traceparent);
        } catch (caught) {
          if (!(caught instanceof SegueError)) throw caught;
          const error = caught;
          const passing = mayRepeat(error, when);
          // What the last attempt says of itself is not true of the first.
          if (unknown && !settles(error)) error.outcome = "unknown";
          unknown ||= error.outcome === "unknown";
          if (error.status === "ABORTED") conflicts++;
          const wait = backoff(count, error.retryDelayMs);
          const left = Math.min(asked.patience.leftMs(), until - performance.now());
          const again = sent && passing && conflicts < CONFLICTS_MAX && wait < left;
          if (!again || asked.patience.over(false) !== undefined) throw error;
          await asked.patience.sleep(wait);
        }
      }
    });
  }

  /** One attempt: with the tokens, in its transaction. */
  async #attempt<A extends Answered>(
    asked: Asked,
    send: (selector: TransactionSelector | undefined, tokens: string[]) => Promise<A>,
  ): Promise<A> {
    await this.#fold(asked);
    const brought = asked.tokens.list();
    const place = asked.transaction?.enter(asked.commit);
    try {
      const answer = await send(place?.selector, brought);
      asked.tokens.replace(brought, answer.consistencyToken);
      if (place !== undefined) asked.transaction?.done(place, answer.transactionId, answer.writeId);
      return answer;
    } catch (error) {
      this.#failed(asked, place, brought, error);
      throw error;
    }
  }

  #failed(asked: Asked, place: Place | undefined, brought: string[], error: unknown): void {
    if (!(error instanceof SegueError)) return;
    if (error.consistencyToken !== "") asked.tokens.replace(brought, error.consistencyToken);
    const transaction = asked.transaction;
    if (transaction === undefined || place === undefined) return;
    const open = transaction.open ? transaction.id : "";
    transaction.failed(place, error);
    // Its locks do not wait for the idle timeout. It may be gone already: nothing is lost.
    if (open !== "" && !error.answered && transaction.over) void this.#abandon(open);
  }

  async #abandon(transactionId: string): Promise<void> {
    const patience = new Patience(ROLLBACK_TIMEOUT_MS, undefined);
    const call: Call = { $case: "rollback", value: { transactionId } };
    await this.connection
      .ready(patience)
      .then(() => this.connection.ask(call, patience, "", false))
      .catch(() => undefined);
  }

  /** Makes one token of many: after very many calls at the same time a call cannot bring all. */
  async #fold(asked: Asked): Promise<void> {
    for (let held = asked.tokens.list(); held.length > TOKENS_MAX; held = asked.tokens.list()) {
      const some = held.slice(0, TOKENS_MAX);
      const statement: StatementRequest = { text: { $case: "sql", value: "SELECT 1" }, params: [] };
      const request = {
        statement,
        transaction: undefined,
        encoding: Encoding.TYPED,
        routingKey: "",
        consistencyTokens: some,
      };
      const answers = await this.connection.ask({ $case: "query", value: request }, asked.patience, "", false);
      const last = answers[answers.length - 1];
      asked.tokens.replace(some, (last?.$case === "query" && last.value.footer?.consistencyToken) || "");
    }
  }

  /**
   * Runs a statement, and once more with parameters of the kinds that its types take, where the sidecar does not
   * take them as they are.
   */
  async #fitting<T>(
    asked: Asked,
    statements: readonly Parsed[],
    run: (made: StatementRequest[]) => Promise<T>,
  ): Promise<T> {
    const encoded = (): StatementRequest[] =>
      statements.map((one) => requestOf(one, encodeAll(one.params, this.#memory.get(one.key).types)));
    if (asked.transaction !== undefined && asked.commit) {
      // What fails here takes the whole transaction with it: the types are asked before, once for a statement.
      await this.#learnTypes(
        asked,
        statements.filter(({ params }) => params.some(mayMisfit)),
        false,
      );
    }
    try {
      return await run(encoded());
    } catch (error) {
      const misfit =
        error instanceof SegueError && error.reason === "invalid.parameter" && error.outcome === "not_applied";
      const ended = asked.transaction?.over === true;
      if (!misfit || ended || !(await this.#learnTypes(asked, statements, true))) throw error;
      return await run(encoded());
    }
  }

  /** Asks for types; says whether any are new. */
  async #learnTypes(asked: Asked, statements: readonly Parsed[], again: boolean): Promise<boolean> {
    let learned = false;
    for (const one of statements) {
      const known = this.#memory.get(one.key).types;
      if (one.params.length === 0 || (known !== undefined && !again)) continue;
      // Where that fails, the statement itself does as well.
      const answer = await this.describe(one, asked).catch(() => undefined);
      const types = answer?.sides.find((side) => side.error === undefined)?.parameterTypes;
      if (types === undefined || String(types) === String(known)) continue;
      this.#memory.learn(one.key, { types });
      learned = true;
    }
    return learned;
  }

  describe(one: Parsed, asked: Pick<Asked, "patience" | "options">): Promise<DescribeResponse> {
    return this.repeated(
      asked,
      tracedOf("describe", one),
      () => "read",
      (traceparent) => this.connection.describe({ statement: requestOf(one, []) }, asked.patience, traceparent),
    );
  }

  /** Whether a call's effect stays when its answer is lost. */
  #effect(asked: Asked): boolean {
    return asked.transaction === undefined || this.#commitsWrites(asked);
  }

  /** Whether a call commits what was written before it. */
  #commitsWrites({ transaction, commit }: Asked): boolean {
    return transaction !== undefined && commit && transaction.wrote;
  }

  // Reads.

  #encoding(one: Parsed, unknown: boolean): Encoding {
    return (this.#memory.get(one.key).packable ?? unknown) ? Encoding.PACKED : Encoding.TYPED;
  }

  #queryRequest(
    asked: Asked,
    one: Parsed,
    statement: StatementRequest,
    selector: TransactionSelector | undefined,
    tokens: string[],
  ): QueryRequest {
    return {
      statement,
      transaction: selector,
      // Packed rows that the client does not read are asked for again as typed ones, outside transactions.
      encoding: this.#encoding(one, asked.transaction === undefined),
      routingKey: asked.options.routingKey ?? this.settings.routingKey,
      consistencyTokens: tokens,
    };
  }

  #repeatOf(asked: Asked, outside: Repeat): () => Repeat {
    return () => asked.transaction?.repeat(asked.commit) ?? outside;
  }

  /** A read, all rows at once. */
  query<T>(one: Parsed, asked: Asked): Promise<Result<T>> {
    return this.#within(asked, () =>
      this.#fitting(asked, [one], async ([statement]) => {
        const effect = this.#commitsWrites(asked);
        const collect = (): Promise<Collected> =>
          this.repeated(asked, tracedOf("query", one), this.#repeatOf(asked, "read"), (traceparent) =>
            this.#attempt(asked, async (selector, tokens) => {
              const request = this.#queryRequest(asked, one, statement as StatementRequest, selector, tokens);
              return this.#collect(asked, one, request, traceparent, effect);
            }),
          );
        let found = await collect();
        // A column of a type that is not known here: the sidecar decodes it.
        if (!found.packable) found = await collect();
        if (found.failure !== undefined) throw found.failure;
        return {
          rows: found.rows as T[],
          columns: found.columns,
          affectedRows: found.rows.length,
          side: sideOf(found.footer.side),
          writeId: found.writeId,
          alreadyApplied: false,
        };
      }),
    );
  }

  async #collect(
    asked: Asked,
    one: Parsed,
    request: QueryRequest,
    traceparent: string,
    effect: boolean,
  ): Promise<Collected> {
    const reader = new Reader(this.#parsersOf(asked), asked.options.rowMode ?? "object", effect);
    const rows: unknown[] = [];
    let packable = true;
    let failure: unknown;
    let count = 0;
    const feed = (part: QueryResponse): void => {
      count++;
      // Inside a transaction it is not asked for again: what was run is not to be run twice.
      if (part.header !== undefined && request.encoding === Encoding.PACKED && asked.transaction === undefined) {
        packable = decodable(part.header.columns);
      }
      try {
        reader.read(part, rows, packable && failure === undefined);
      } catch (error) {
        failure = error;
      }
    };
    if (this.#memory.get(one.key).short === true) {
      const call: Call = { $case: "query", value: request };
      const answers = await this.connection.ask(call, asked.patience, traceparent, effect);
      for (const answer of answers) if (answer.$case === "query") feed(answer.value);
    } else {
      const parts = this.connection.query(request, asked.patience, traceparent, effect);
      for (let part = await parts.next(); part !== undefined; part = await parts.next()) feed(part);
    }
    const footer = reader.end();
    this.#learnAnswer(one, reader, count === 1 && reader.bytes < SHORT_BYTES_MAX && rows.length < SHORT_ROWS_MAX);
    if (failure instanceof SegueError) failure.outcome = effect ? "applied" : "not_applied";
    const { consistencyToken, writeId } = footer;
    const { columns, transactionId } = reader;
    return { columns, rows, footer, packable, failure, consistencyToken, writeId, transactionId };
  }

  #learnAnswer(one: Parsed, reader: Reader, short: boolean): void {
    const known = this.#memory.get(one.key);
    const packable = reader.columns.length > 0 && decodable(reader.columns);
    if (known.packable !== packable || known.short !== short) this.#memory.learn(one.key, { packable, short });
  }

  #parsersOf(asked: Asked): Parsers {
    return asked.options.parsers ?? this.settings.parsers;
  }

  /** Runs calls of a transaction one after the other. */
  #within<T>(asked: Asked, call: () => Promise<T>): Promise<T> {
    return asked.transaction === undefined ? call() : asked.transaction.exclusive(call);
  }

  /** A read whose rows come as they are read. */
  async *stream<T>(one: Parsed, asked: Asked): AsyncGenerator<T, void, undefined> {
    const release = await asked.transaction?.lockForStream();
    try {
      const opened = await this.#fitting(asked, [one], ([statement]) =>
        this.#open(asked, one, statement as StatementRequest),
      );
      yield* this.#rows<T>(asked, opened);
    } finally {
      release?.();
    }
  }

  async #open(asked: Asked, one: Parsed, statement: StatementRequest): Promise<Opened> {
    const effect = this.#commitsWrites(asked);
    const open = (): Promise<Opened> =>
      this.repeated(asked, tracedOf("query", one), this.#repeatOf(asked, "read"), async (traceparent) => {
        await this.#fold(asked);
        const brought = asked.tokens.list();
        const place = asked.transaction?.enter(asked.commit);
        try {
          const request = this.#queryRequest(asked, one, statement, place?.selector, brought);
          const parts = this.connection.query(request, asked.patience, traceparent, effect);
          const first = await parts.next();
          const reader = new Reader(this.#parsersOf(asked), asked.options.rowMode ?? "object", effect);
          if (first === undefined) reader.end();
          const readable = request.encoding === Encoding.TYPED || decodable(first?.header?.columns ?? []);
          this.#memory.learn(one.key, { packable: decodable(first?.header?.columns ?? []) });
          if (place !== undefined) asked.transaction?.opened(place, first?.header?.transactionId ?? "");
          return { parts, first, reader, brought, place, readable };
        } catch (error) {
          this.#failed(asked, place, brought, error);
          throw error;
        }
      });
    const opened = await open();
    if (opened.readable || asked.transaction !== undefined) return opened;
    // Nothing was given out yet: the sidecar decodes what is not known here.
    opened.parts.cancel();
    return open();
  }

  async *#rows<T>(asked: Asked, opened: Opened): AsyncGenerator<T, void, undefined> {
    const { parts, reader, brought, place } = opened;
    let ended = false;
    const next = async (): Promise<QueryResponse | undefined> => {
      try {
        const part = await parts.next();
        if (part !== undefined) return part;
        const footer = reader.end();
        ended = true;
        asked.tokens.replace(brought, footer.consistencyToken);
        if (place?.commits === true) asked.transaction?.done(place, "", footer.writeId);
        return undefined;
      } catch (error) {
        ended = true;
        parts.cancel();
        // The call that began the transaction has answered: from here on it is one inside.
        this.#failed(asked, place && { ...place, begins: false }, brought, error);
        throw error;
      }
    };
    try {
      for (let part = opened.first; part !== undefined; part = await next()) {
        const rows: unknown[] = [];
        reader.read(part, rows, true);
        yield* rows as T[];
      }
    } finally {
      if (!ended && asked.transaction === undefined) {
        parts.cancel();
        ended = true;
      }
      // A statement that is cancelled takes its transaction with it: the rest is read.
      for (let part: QueryResponse | undefined; !ended; ) {
        part = await next();
        if (part !== undefined) reader.read(part, [], false);
      }
    }
  }

  // Writes.

  /** A write, or any statement inside a transaction. */
  execute<T>(one: Parsed, asked: Asked): Promise<Result<T>> {
    return this.#within(asked, () =>
      this.#fitting(asked, [one], async ([statement]) => {
        const answer = await this.#written(
          asked,
          tracedOf("execute", one),
          one.key,
          async (key, selector, tokens, traceparent) => {
            const request = {
              statement,
              transaction: selector,
              encoding: this.#encoding(one, false),
              idempotencyKey: key,
              consistencyTokens: tokens,
            };
            const [found] = await this.connection.ask(
              { $case: "execute", value: request },
              asked.patience,
              traceparent,
              this.#effect(asked),
            );
            return answerOf<ExecuteResponse>(found, "execute");
          },
        );
        return this.#resultOf<T>(asked, answer.result, answer, one);
      }),
    );
  }

  /** Several writes: all or none. */
  batch(statements: readonly Parsed[], asked: Asked): Promise<BatchResult> {
    return this.#within(asked, () =>
      this.#fitting(asked, statements, async (made) => {
        const answer = await this.#written(
          asked,
          { method: "batch" },
          "",
          async (key, selector, tokens, traceparent) => {
            const request = {
              statements: made,
              transaction: selector,
              encoding: Encoding.TYPED,
              idempotencyKey: key,
              consistencyTokens: tokens,
            };
            const [found] = await this.connection.ask(
              { $case: "batch", value: request },
              asked.patience,
              traceparent,
              this.#effect(asked),
            );
            return answerOf<BatchResponse>(found, "batch");
          },
        );
        const results = answer.results.map((result) =>
          this.#resultOf<Record<string, unknown>>(asked, result, answer, undefined),
        );
        return { results, writeId: answer.writeId, alreadyApplied: answer.alreadyApplied };
      }),
    );
  }

  /** Execute or Batch: outside transactions with an idempotency key, by which it may be repeated. */
  async #written<A extends Answered>(
    asked: Asked,
    traced: Traced,
    known: string,
    send: (key: string, selector: TransactionSelector | undefined, tokens: string[], traceparent: string) => Promise<A>,
  ): Promise<A> {
    const given = asked.options.idempotencyKey;
    if (asked.transaction !== undefined) asked.transaction.wrote = true;
    const run = async (key: string): Promise<A> => {
      try {
        return await this.repeated(
          asked,
          traced,
          this.#repeatOf(asked, key === "" ? "unapplied" : "keyed"),
          (traceparent) => this.#attempt(asked, (selector, tokens) => send(key, selector, tokens, traceparent)),
        );
      } catch (error) {
        if (error instanceof SegueError) error.idempotencyKey = key;
        throw error;
      }
    };
    const own = given === undefined && asked.transaction === undefined && this.settings.idempotencyKeys;
    if (!own || this.#memory.get(known).keyless === true) return run(typeof given === "string" ? given : "");
    try {
      return await run(`ts-${randomBytes(16).toString("hex")}`);
    } catch (error) {
      if (!(error instanceof SegueError && WITHOUT_KEY.has(error.reason) && error.outcome === "not_applied"))
        throw error;
      if (known !== "") this.#memory.learn(known, { keyless: true });
      return run("");
    }
  }

  #resultOf<T>(
    asked: Asked,
    result: StatementResult | undefined,
    answer: { writeId: string; alreadyApplied: boolean },
    one: Parsed | undefined,
  ): Result<T> {
    const columns = result?.columns ?? [];
    const rows: unknown[] = [];
    try {
      new RowDecoder(columns, this.#parsersOf(asked), asked.options.rowMode ?? "object").read(result?.rows, rows);
    } catch (error) {
      // The statement was run all the same.
      if (error instanceof SegueError) error.outcome = this.#effect(asked) ? "applied" : "not_applied";
      throw error;
    } finally {
      if (one !== undefined && columns.length > 0) this.#memory.learn(one.key, { packable: decodable(columns) });
    }
    return {
      rows: rows as T[],
      columns,
      affectedRows: Number(result?.affectedRows ?? 0n),
      side: undefined,
      writeId: answer.writeId,
      alreadyApplied: answer.alreadyApplied,
    };
  }

  /** A statement of either kind: as a read where it is one. */
  async any<T>(one: Parsed, asked: Asked): Promise<Result<T>> {
    // The last statement of a transaction must not fail for being taken for a read.
    const reads =
      !(asked.transaction !== undefined && asked.commit) && mayRead(one) && this.#memory.get(one.key).writes !== true;
    if (!reads || typeof asked.options.idempotencyKey === "string") return this.execute(one, asked);
    try {
      return await this.query<T>(one, asked);
    } catch (error) {
      if (!(error instanceof SegueError && error.reason === "refused.write_in_query")) throw error;
      this.#memory.learn(one.key, { writes: true });
      return this.execute(one, asked);
    }
  }

  // The ends of transactions.

  async commit(transaction: TransactionState, options: CallOptions): Promise<void> {
    const asked = this.asked(options, undefined);
    await transaction.exclusive(async () => {
      if (!transaction.open) {
        // Nothing was done in it, or its last call committed.
        if (transaction.committed) return;
        transaction.check();
        transaction.end("committed");
        return;
      }
      const commits: Asked = { ...asked, transaction, commit: true };
      await this.repeated(
        asked,
        { method: "commit" },
        () => "never",
        (traceparent) =>
          this.#attempt(commits, async (_, consistencyTokens) => {
            const call: Call = { $case: "commit", value: { transactionId: transaction.id, consistencyTokens } };
            const [found] = await this.connection.ask(call, asked.patience, traceparent, transaction.wrote);
            const { writeId, consistencyToken } = answerOf<{ writeId: string; consistencyToken: string }>(
              found,
              "commit",
            );
            return { writeId, consistencyToken, transactionId: "" };
          }),
      );
    });
  }

  async rollback(transaction: TransactionState): Promise<void> {
    await transaction.exclusive(async () => {
      const { open, over } = transaction;
      if (!over) transaction.end("rolled back");
      if (!open) return;
      const asked = this.asked({ timeoutMs: ROLLBACK_TIMEOUT_MS }, undefined);
      const call: Call = { $case: "rollback", value: { transactionId: transaction.id } };
      try {
        await this.repeated(
          asked,
          { method: "rollback" },
          () => "read",
          (traceparent) => this.connection.ask(call, asked.patience, traceparent, false),
        );
      } catch (error) {
        // It is gone already, which is what was wanted.
        if (!(error instanceof SegueError && error.reason === "transaction.not_found")) throw error;
      }
    });
  }
}

interface Opened {
  parts: Parts<QueryResponse>;
  first: QueryResponse | undefined;
  reader: Reader;
  brought: string[];
  place: Place | undefined;
  readable: boolean;
}

function tracedOf(method: string, one: Parsed): Traced {
  return { method, sql: one.sql, name: one.name };
}

function answerOf<A>(answer: Answer | undefined, kind: Answer["$case"]): A {
  if (answer?.$case === kind) return answer.value as A;
  throw new InternalError("the sidecar answered another call than was made", { outcome: "unknown", answered: true });
}
