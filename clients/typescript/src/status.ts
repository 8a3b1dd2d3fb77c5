import { status as Codes, type Metadata } from "@grpc/grpc-js";
import { type ErrorFields, errorOf, type Outcome, type SegueError, type Side } from "./errors.js";
import { RetryInfo } from "./protocol/google/rpc/error_details.js";
import { Status } from "./protocol/google/rpc/status.js";
import { Outcome as OutcomeNumber, Side as SideNumber, SqlError } from "./protocol/segue/v1/error.js";

const DETAILS_KEY = "grpc-status-details-bin";
const SQL_ERROR = "type.googleapis.com/segue.v1.SqlError";
const RETRY_INFO = "type.googleapis.com/google.rpc.RetryInfo";
// What gRPC says where it had no connection, so that nothing was sent.
const NEVER_SENT = ["No connection established", "Name resolution failed"];
// The transport's own codes for an answer that was lost.
const LOST: ReadonlySet<number> = new Set([Codes.UNAVAILABLE, Codes.UNKNOWN, Codes.INTERNAL]);
const RETRY_LOST_MS = 50;

/** A side of the protocol. */
export function sideOf(side: SideNumber): Side | undefined {
  if (side === SideNumber.SOURCE) return "source";
  return side === SideNumber.TARGET ? "target" : undefined;
}

function outcomeOf(outcome: OutcomeNumber, writes: boolean): Outcome {
  switch (outcome) {
    case OutcomeNumber.NOT_APPLIED:
      return "not_applied";
    case OutcomeNumber.APPLIED:
      return "applied";
    default:
      return writes ? "unknown" : "not_applied";
  }
}

/** What gRPC rejects a call with. */
export interface RpcFailure {
  code: number;
  details: string;
  metadata?: Metadata;
}

/** The error of a call that failed. `writes` says whether the call can have had an effect. */
export function ofRpc(failure: RpcFailure, writes: boolean): SegueError {
  const details = failure.metadata?.get(DETAILS_KEY)[0];
  if (details instanceof Buffer) return ofStatus(Status.decode(details), writes);
  return lost(failure.code, failure.details, writes);
}

function messageOf(code: number, details: string): string {
  if (code === Codes.DEADLINE_EXCEEDED) return "the call was not answered within its deadline";
  if (code === Codes.CANCELLED) return "the call was cancelled";
  return `the sidecar did not answer: ${details}`;
}

/** The error of a call to which no answer came. */
export function lost(code: number, details: string, writes: boolean, cause?: unknown): SegueError {
  const neverSent = code === Codes.UNAVAILABLE && NEVER_SENT.some((start) => details.startsWith(start));
  const notTaken = neverSent || code === Codes.UNIMPLEMENTED;
  const unknown = writes && !notTaken;
  const again = LOST.has(code) && !unknown;
  const message = messageOf(code, details);
  const fields: Partial<ErrorFields> = {
    status: Codes[code] ?? "UNKNOWN",
    retryable: again,
    retryDelayMs: again ? RETRY_LOST_MS : undefined,
    outcome: unknown ? "unknown" : "not_applied",
    cause,
  };
  return errorOf(unknown ? `${message}; no one can tell whether the write was made` : message, fields, unknown);
}

/** The error of a status with its details. */
export function ofStatus(status: Status, writes: boolean): SegueError {
  let found = SqlError.decode(new Uint8Array());
  let retryDelayMs: number | undefined;
  for (const detail of status.details) {
    if (detail.typeUrl === SQL_ERROR) {
      found = SqlError.decode(detail.value);
    } else if (detail.typeUrl === RETRY_INFO) {
      const delay = RetryInfo.decode(detail.value).retryDelay;
      retryDelayMs = delay ? Number(delay.seconds) * 1000 + delay.nanos / 1e6 : 0;
    }
  }
  const outcome = outcomeOf(found.outcome, writes);
  const fields: Partial<ErrorFields> = {
    status: Codes[status.code] ?? "UNKNOWN",
    code: found.sqlstate,
    detail: found.detail,
    hint: found.hint,
    position: found.position,
    constraint: found.constraint,
    schema: found.schema,
    table: found.table,
    column: found.column,
    side: sideOf(found.side),
    reason: found.reason,
    retryable: found.retryable,
    retryDelayMs,
    outcome,
    consistencyToken: found.consistencyToken,
    answered: true,
  };
  return errorOf(status.message || found.message, fields, outcome === "unknown" && writes);
}
