import { backoff, Patience } from "./call.js";
import type { Column } from "./decode.js";
import { isRetryable, SegueError, type Side, Unavailable } from "./errors.js";
import { type Options, settingsOf, targetOf } from "./options.js";
import { Phase } from "./protocol/segue/v1/phase.js";
import { Feature, type InfoResponse } from "./protocol/segue/v1/sql.js";
import type { BatchResult, CallOptions, Result } from "./results.js";
import { Session } from "./session.js";
import { parsed, type Sql, type Statement, sql } from "./statements.js";
import { ofStatus, sideOf } from "./status.js";
import type { Tokens } from "./tokens.js";
import { messageOf, type TransactionOptions, TransactionState } from "./transaction.js";

const ATTEMPTS = 10;

/** One row, by the columns' names. */
export type Row = Record<string, unknown>;

/** A statement of a batch: SQL with its parameters. */
export type BatchStatement = Statement | readonly [statement: Statement, params: readonly unknown[]];

/** How often something is run. */
export interface RetryOptions {
  /** How often it is run at most; 10 by default. */
  attempts?: number | undefined;
  /** Ends the waiting between two runs. */
  signal?: AbortSignal | undefined;
}

/** How a function is run in a transaction. */
export interface RunOptions extends TransactionOptions, RetryOptions {}

/**
 * Runs what makes a whole transaction, and runs it again where it failed with an error that `isRetryable`, after a
 * pause that grows and is never the same for two. Where no one knows whether it took effect, it is not run again.
 */
export async function retried<T>(run: () => Promise<T>, options: RetryOptions = {}): Promise<T> {
  const { attempts = ATTEMPTS, signal } = options;
  const patience = new Patience(null, signal);
  let moved = false;
  for (let attempt = 1; ; attempt++) {
    try {
      return await run();
    } catch (error) {
      let again = isRetryable(error);
      // Where the primary changed after its first statement, a transaction is refused as one that needs both
      // sides. Only a second run tells the two apart.
      if (!again && !moved && error instanceof SegueError && error.reason === "refused.transaction_side") {
        again = moved = true;
      }
      if (!again || attempt >= attempts) throw error;
      await patience.sleep(backoff(attempt, (error as SegueError).retryDelayMs));
      if (patience.over(false) !== undefined) throw error;
    }
  }
}

/** What takes statements: a client, or a transaction. */
export abstract class Queryable {
  /** @internal */
  protected readonly session: Session;
  /** @internal */
  protected readonly state: TransactionState | undefined;

  /** @internal */
  protected constructor(session: Session, state: TransactionState | undefined) {
    this.session = session;
    this.state = state;
  }

  /**
   * Runs a read, all rows at once. A statement that would write, or lock rows, is refused: run it by `execute`, or by
   * `any`.
   */
  async query<T = Row>(
    statement: Statement,
    params?: readonly unknown[],
    options: CallOptions = {},
  ): Promise<Result<T>> {
    return this.session.query(parsed(statement, params), this.session.asked(options, this.state));
  }

  /** Runs a write, or any statement inside a transaction. */
  async execute<T = Row>(
    statement: Statement,
    params?: readonly unknown[],
    options: CallOptions = {},
  ): Promise<Result<T>> {
    return this.session.execute(parsed(statement, params), this.session.asked(options, this.state));
  }

  /** Runs a statement of either kind: as a read where it is one. */
  async any<T = Row>(statement: Statement, params?: readonly unknown[], options: CallOptions = {}): Promise<Result<T>> {
    return this.session.any(parsed(statement, params), this.session.asked(options, this.state));
  }

  /** Runs a statement of either kind, with its values as parameters: db.sql`SELECT … WHERE id = ${id}`. */
  async sql<T = Row>(texts: TemplateStringsArray, ...values: readonly unknown[]): Promise<Result<T>> {
    return this.any(sql(texts, ...values));
  }

  /**
   * Runs a read whose rows come as they are read, with flat memory. Leaving the loop early ends the statement. The
   * timeout is that of the whole stream.
   */
  stream<T = Row>(
    statement: Statement,
    params?: readonly unknown[],
    options: CallOptions = {},
  ): AsyncGenerator<T, void, undefined> {
    return this.session.stream(parsed(statement, params), this.session.asked(options, this.state));
  }

  /** Runs several writes by one call: all or none. */
  async batch(statements: readonly BatchStatement[], options: CallOptions = {}): Promise<BatchResult> {
    const made = statements.map((one) => (isPair(one) ? parsed(one[0], one[1]) : parsed(one, undefined)));
    return this.session.batch(made, this.session.asked(options, this.state));
  }
}

function isPair(one: BatchStatement): one is readonly [Statement, readonly unknown[]] {
  return Array.isArray(one);
}

/** A transaction. It begins with its first call; where that fails, the next one begins it. */
export class Transaction extends Queryable {
  declare protected readonly state: TransactionState;

  /** @internal */
  static begin(session: Session, options: TransactionOptions): Transaction {
    return new Transaction(session, new TransactionState(messageOf(options)));
  }

  /** The id of its writes, as traces and the outbox have it, once it has committed. */
  get writeId(): string {
    return this.state.writeId;
  }

  /** Commits. Behind a call with `commit: true`, and where there was no call, nothing is sent. */
  async commit(options: CallOptions = {}): Promise<void> {
    await this.session.commit(this.state, options);
  }

  /**
   * Commits what the function of `Client.transaction` left open.
   * @internal
   */
  async end(signal: AbortSignal | undefined): Promise<void> {
    if (!this.state.abandoned) await this.commit({ signal });
  }

  /** @internal */
  get tookEffect(): boolean {
    return this.state.tookEffect;
  }

  /** Rolls back. It does nothing where the transaction has ended. */
  async rollback(): Promise<void> {
    await this.session.rollback(this.state);
  }
}

/** What failed after its transaction took effect, or may have: it is not run again, whatever the error says. */
class Final extends Error {
  constructor(cause: unknown) {
    super("", { cause });
  }
}

/** What a sidecar is, and where the migration stands. */
export interface Info {
  version: string;
  phase: string;
  /** Rises with every change of the phase or of the share of reads. */
  epoch: bigint;
  features: string[];
  limits: InfoResponse["limits"];
}

/** How one database prepares a statement. */
export interface Description {
  side: Side | undefined;
  parameterTypes: string[];
  columns: Column[];
  /** Set where this database cannot prepare the statement. */
  error: SegueError | undefined;
}

/** A connection to a sidecar, over which any number of calls run at a time. It connects again by itself. */
export class Client extends Queryable {
  /** Makes a client, which connects with its first call. `connect` waits for the sidecar. */
  constructor(url: string | Options, options?: Options) {
    super(new Session(settingsOf(url, options)), undefined);
  }

  /** The consistency tokens that the client keeps: hand them to another process, and add them there. */
  get tokens(): Tokens {
    return this.session.tokens;
  }

  /** Makes a transaction. Nothing is sent: its first call begins it. */
  begin(options: TransactionOptions = {}): Transaction {
    return Transaction.begin(this.session, options);
  }

  /**
   * Runs a function in a transaction and commits, unless the function has committed or rolled back. What fails is
   * rolled back and run again as `retried` says; what fails after a commit is not.
   */
  async transaction<T>(run: (transaction: Transaction) => Promise<T>, options: RunOptions = {}): Promise<T> {
    const { attempts, signal, ...begin } = options;
    const attempt = async (): Promise<T> => {
      const transaction = this.begin(begin);
      try {
        const made = await run(transaction);
        await transaction.end(signal);
        return made;
      } catch (error) {
        await transaction.rollback().catch(() => undefined);
        throw transaction.tookEffect ? new Final(error) : error;
      }
    };
    try {
      return await retried(attempt, { attempts, signal });
    } catch (error) {
      throw error instanceof Final ? error.cause : error;
    }
  }

  /** Tells what the sidecar is, and where the migration stands. */
  async info(options: CallOptions = {}): Promise<Info> {
    const asked = this.session.asked(options, undefined);
    const found = await this.session.repeated(
      asked,
      { method: "info" },
      () => "read",
      (traceparent) => this.session.connection.info(asked.patience, traceparent),
    );
    return {
      version: found.version,
      phase: (Phase[found.phase] ?? String(found.phase)).toLowerCase(),
      epoch: found.epoch,
      // Numbers that are not known here are those of newer sidecars.
      features: found.features.map((feature) => Feature[feature]?.toLowerCase()).filter((name) => name !== undefined),
      limits: found.limits,
    };
  }

  /** Tells how each database prepares a statement. */
  async describe(statement: Statement, options: CallOptions = {}): Promise<Description[]> {
    const found = await this.session.describe(parsed(statement, undefined), this.session.asked(options, undefined));
    return found.sides.map((side) => ({
      side: sideOf(side.side),
      parameterTypes: side.parameterTypes,
      columns: side.columns,
      error: side.error && ofStatus(side.error, false),
    }));
  }

  /** Takes no more calls, and ends the connection once those that are under way are answered. */
  async close(): Promise<void> {
    this.session.connection.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

/**
 * Connects to a sidecar, by a URL (`segue://host:port`, `segue+tls://host:port`, `segue+unix:///path`) or by options,
 * and waits for one that is not up yet: connectTimeoutMs at most.
 */
export async function connect(url: string | Options, options?: Options & { signal?: AbortSignal }): Promise<Client> {
  const { signal, ...more } = options ?? {};
  const client = new Client(url, more);
  const settings = settingsOf(url, more);
  try {
    await client.info({ timeoutMs: settings.connectTimeoutMs, signal });
    return client;
  } catch (error) {
    await client.close();
    const late =
      error instanceof SegueError && (error.status === "DEADLINE_EXCEEDED" || error.status === "UNAVAILABLE");
    if (!late) throw error;
    throw new Unavailable(`no sidecar answered at ${targetOf(settings)} within ${settings.connectTimeoutMs} ms`, {
      status: "UNAVAILABLE",
      hint: "check the address, and that `segue serve` runs there (`listen.sql`)",
      cause: error,
    });
  }
}

export type { Sql };
