import type { Repeat } from "./call.js";
import { InterfaceError, InternalError, type SegueError } from "./errors.js";
import type { Duration } from "./protocol/google/protobuf/duration.js";
import {
  Isolation as IsolationNumber,
  type TransactionOptions as OptionsMessage,
  type TransactionSelector,
} from "./protocol/segue/v1/sql.js";

/** Isolation levels. */
export type Isolation = "read committed" | "repeatable read" | "serializable";

/** Options of a transaction. */
export interface TransactionOptions {
  /** The database's default where it is left out. */
  isolation?: Isolation | undefined;
  /** Refuses writes. */
  readOnly?: boolean | undefined;
  /** How long the transaction may be without a call before it is rolled back. */
  idleTimeoutMs?: number | undefined;
  /** How long the transaction may be open before it is rolled back. */
  totalTimeoutMs?: number | undefined;
}

const LEVELS: Readonly<Record<string, IsolationNumber>> = {
  "": IsolationNumber.UNSPECIFIED,
  "read committed": IsolationNumber.READ_COMMITTED,
  "repeatable read": IsolationNumber.REPEATABLE_READ,
  serializable: IsolationNumber.SERIALIZABLE,
};

/** The options as the protocol has them. */
export function messageOf(options: TransactionOptions): OptionsMessage {
  const isolation = LEVELS[options.isolation ?? ""];
  if (isolation === undefined) {
    throw new InterfaceError(
      `there is no isolation level ${String(options.isolation)}; there are read committed, repeatable read and serializable`,
    );
  }
  return {
    isolation,
    readOnly: options.readOnly ?? false,
    idleTimeout: durationOf(options.idleTimeoutMs),
    totalTimeout: durationOf(options.totalTimeoutMs),
  };
}

function durationOf(ms: number | undefined): Duration | undefined {
  if (ms === undefined) return undefined;
  if (!(Number.isFinite(ms) && ms > 0))
    throw new InterfaceError(`a timeout cannot be ${ms} ms; expected a number above zero`);
  const whole = Math.ceil(ms);
  return { seconds: BigInt(Math.floor(whole / 1000)), nanos: (whole % 1000) * 1_000_000 };
}

/** Where a call runs in its transaction. */
export interface Place {
  readonly selector: TransactionSelector;
  readonly begins: boolean;
  readonly commits: boolean;
}

/** The state of a transaction, which begins with its first call. One call runs in it at a time. */
export class TransactionState {
  readonly #options: OptionsMessage;
  #state: "new" | "open" | "committing" | "committed" | "rolled back" = "new";
  #failure: SegueError | undefined;
  #last: Promise<unknown> = Promise.resolve();
  #streams = false;
  /** Whether a call was made that may write. A query never does. */
  wrote = false;
  id = "";
  writeId = "";

  constructor(options: OptionsMessage) {
    this.#options = options;
  }

  /** Runs one call after the other. */
  async exclusive<T>(call: () => Promise<T>): Promise<T> {
    const release = await this.#lock();
    try {
      return await call();
    } finally {
      release();
    }
  }

  /** The same for a stream, which is a call until its last row is read. */
  async lockForStream(): Promise<() => void> {
    const release = await this.#lock();
    this.#streams = true;
    return () => {
      this.#streams = false;
      release();
    };
  }

  /** Waits until no call runs; gives what ends the caller's own. */
  async #lock(): Promise<() => void> {
    if (this.#streams) {
      throw new InterfaceError("a stream of the transaction is not read to its end yet, and no other call can run");
    }
    const before = this.#last;
    let release = (): void => {};
    this.#last = new Promise<void>((resolve) => {
      release = resolve;
    });
    await before;
    return release;
  }

  /** Whether anything is left to commit or to roll back. */
  get open(): boolean {
    return this.#state === "open";
  }

  /** Whether it took effect, or may have: what is run again would be there twice. */
  get tookEffect(): boolean {
    if (this.#failure !== undefined) return this.#failure.outcome !== "not_applied";
    return this.#state === "committed" || this.#state === "committing";
  }

  get committed(): boolean {
    return this.#state === "committed";
  }

  /** Whether the caller itself rolled it back. */
  get abandoned(): boolean {
    return this.#state === "rolled back" && this.#failure === undefined;
  }

  get over(): boolean {
    return this.#state === "committed" || this.#state === "rolled back";
  }

  /** What a call says of its transaction. */
  enter(commit: boolean): Place {
    this.check();
    const begins = this.#state === "new";
    const selector: TransactionSelector = {
      selector: begins ? { $case: "begin", value: this.#options } : { $case: "id", value: this.id },
      commit,
    };
    return { selector, begins, commits: commit };
  }

  /** Fails where the transaction takes no call any more. */
  check(): void {
    if (this.#failure !== undefined) {
      throw new InternalError(`the transaction was rolled back by an earlier error: ${this.#failure.message}`, {
        code: "25P02",
        hint: "run the whole transaction again",
        retryable: this.#failure.retryable && this.#failure.outcome === "not_applied",
        cause: this.#failure,
      });
    }
    if (this.#state === "new" || this.#state === "open") return;
    throw new InterfaceError("the transaction has ended");
  }

  /** When the next call may be made again: without a commit nothing stays of the first one. */
  repeat(commit: boolean): Repeat {
    if (this.#state !== "new") return "never";
    return commit ? "unapplied" : "read";
  }

  /** A call was answered. */
  done(place: Place, id: string, writeId: string): void {
    if (place.commits) {
      this.#state = "committed";
      this.writeId = writeId;
    } else if (place.begins) {
      this.#state = "open";
      this.id = id;
    }
  }

  /** The answer of a call has begun, which ends the transaction where it commits. */
  opened(place: Place, id: string): void {
    if (place.commits) this.#state = "committing";
    else this.done(place, id, "");
  }

  /** A call failed. */
  failed(place: Place, error: SegueError): void {
    if (error.reason === "transaction.in_use") return;
    if (!error.answered && !place.commits) {
      // Whatever the call did is rolled back: what did not come to its commit has no effect.
      error.outcome = "not_applied";
      error.retryable = error.status !== "CANCELLED" && error.status !== "DEADLINE_EXCEEDED";
    }
    const ended = place.begins || place.commits || !error.answered || error.reason === "transaction.not_found";
    if (!ended) return;
    if (place.begins && error.outcome === "not_applied") {
      this.#state = "new";
      return;
    }
    this.#state = "rolled back";
    this.#failure = error;
  }

  /** It ended without a call. */
  end(how: "committed" | "rolled back", writeId = ""): void {
    this.#state = how;
    this.writeId = writeId;
  }
}
