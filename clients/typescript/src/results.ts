import type { Column, RowMode } from "./decode.js";
import type { Side } from "./errors.js";
import type { Tokens } from "./tokens.js";
import type { Parsers } from "./values.js";

/** Options of one call. */
export interface CallOptions {
  /** Milliseconds that the call may take, repeats included; null leaves it to the sidecar. */
  timeoutMs?: number | null | undefined;
  /** Cancels the call, and its statement in the database. */
  signal?: AbortSignal | undefined;
  /** Reads with the same key see the same database while reads are being shifted: the id of a user, for example. */
  routingKey?: string | undefined;
  /** Makes a single write or a batch have effect once, whichever process makes it. False for none at all. */
  idempotencyKey?: string | false | undefined;
  /** In a transaction: this call is the last one, and commits. */
  commit?: boolean | undefined;
  /** How rows are given: as objects by the columns' names, which is the default, or as arrays. */
  rowMode?: RowMode | undefined;
  /** Parsers for this call, in place of the client's. */
  parsers?: Parsers | undefined;
  /** Tokens that the call brings and replaces in place of the client's: those of one user's session, for example. */
  tokens?: Tokens | undefined;
  /** The W3C trace context, where OpenTelemetry gives none. */
  traceparent?: string | undefined;
}

/** What a statement gave. */
export interface Result<T> {
  readonly rows: T[];
  readonly columns: Column[];
  /** Rows inserted, updated or deleted; of a read, the number of its rows. */
  readonly affectedRows: number;
  /** The database that answered a read. */
  readonly side: Side | undefined;
  /** The id of the write, as traces and the outbox have it; empty where nothing was committed. */
  readonly writeId: string;
  /** An earlier call with the same idempotency key made the write: this is its answer. */
  readonly alreadyApplied: boolean;
}

/** What a batch gave. */
export interface BatchResult {
  /** One for each statement, in order. */
  readonly results: Result<Record<string, unknown>>[];
  readonly writeId: string;
  readonly alreadyApplied: boolean;
}
