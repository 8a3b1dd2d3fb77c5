/** What is known about the effect of a call that failed. */
export type Outcome = "not_applied" | "applied" | "unknown";

/** One of the two databases of a migration. */
export type Side = "source" | "target";

/** What is known of an error. */
export interface ErrorFields {
  /** The gRPC status, such as "ABORTED"; empty where the client itself refused. */
  status: string;
  /** SQLSTATE; empty where the error did not come from a database. */
  code: string;
  /** The database's DETAIL. */
  detail: string;
  /** The database's HINT, or what to do. */
  hint: string;
  /** The place in the statement, in characters from 1; 0 where it is not known. */
  position: number;
  /** The constraint that the database named. */
  constraint: string;
  /** The schema that the database named. */
  schema: string;
  /** The table that the database named. */
  table: string;
  /** The column that the database named. */
  column: string;
  /** The database that the error came from; undefined where it came from neither. */
  side: Side | undefined;
  /** The stable name of an error of segue's own, such as "refused.ddl". */
  reason: string;
  /** Whether the same call, or the same transaction, may succeed when it is run again. */
  retryable: boolean;
  /** Milliseconds to wait before that; undefined where the call is not to be repeated as it is. */
  retryDelayMs: number | undefined;
  /** Whether the call had an effect. */
  outcome: Outcome;
  /** What a later read must bring; the client keeps it by itself. */
  consistencyToken: string;
  /** Whether the sidecar answered; false where only the connection failed. */
  answered: boolean;
  /** What caused it on this side, such as the reason of an AbortSignal. */
  cause: unknown;
}

/** All errors of this package. Its fields have the names that node-postgres has, where that has them. */
export class SegueError extends Error {
  readonly status: string;
  readonly code: string;
  readonly detail: string;
  readonly hint: string;
  readonly position: number;
  readonly constraint: string;
  readonly schema: string;
  readonly table: string;
  readonly column: string;
  readonly side: Side | undefined;
  readonly reason: string;
  retryable: boolean;
  readonly retryDelayMs: number | undefined;
  outcome: Outcome;
  readonly consistencyToken: string;
  answered: boolean;
  /** The key of a write of its own: pass it to repeat the write safely. */
  idempotencyKey = "";

  constructor(message: string, fields: Partial<ErrorFields> = {}) {
    super(message, fields.cause === undefined ? undefined : { cause: fields.cause });
    this.name = new.target.name;
    this.status = fields.status ?? "";
    this.code = fields.code ?? "";
    this.detail = fields.detail ?? "";
    this.hint = fields.hint ?? "";
    this.position = fields.position ?? 0;
    this.constraint = fields.constraint ?? "";
    this.schema = fields.schema ?? "";
    this.table = fields.table ?? "";
    this.column = fields.column ?? "";
    this.side = fields.side;
    this.reason = fields.reason ?? "";
    this.retryable = fields.retryable ?? false;
    this.retryDelayMs = fields.retryDelayMs;
    this.outcome = fields.outcome ?? "not_applied";
    this.consistencyToken = fields.consistencyToken ?? "";
    this.answered = fields.answered ?? false;
  }
}

/** The package was used in a way that cannot work. */
export class InterfaceError extends SegueError {}

/** A database, or segue, refused or failed. */
export class DatabaseError extends SegueError {}

/** A value does not fit. */
export class DataError extends DatabaseError {}

/** Something outside of the program's control. */
export class OperationalError extends DatabaseError {}

/** A constraint was violated. */
export class IntegrityError extends DatabaseError {}

/** The database is in a state that does not allow the statement, or an answer cannot be read. */
export class InternalError extends DatabaseError {}

/** The statement is wrong. */
export class ProgrammingError extends DatabaseError {}

/** The database or segue does not have it, such as DDL through the sidecar. */
export class NotSupportedError extends DatabaseError {}

/** SQLSTATE 23505. */
export class UniqueViolation extends IntegrityError {}

/** SQLSTATE 40001: run the whole transaction again. */
export class SerializationFailure extends OperationalError {}

/** SQLSTATE 40P01: run the whole transaction again. */
export class DeadlockDetected extends OperationalError {}

/** The call was cancelled, by its AbortSignal or in the database. */
export class Cancelled extends OperationalError {}

/** The call took longer than its deadline. */
export class DeadlineExceeded extends OperationalError {}

/** The sidecar, or the database behind it, cannot be reached. */
export class Unavailable extends OperationalError {}

/** No one can tell whether the write was made. Look before you repeat it. */
export class OutcomeUnknown extends OperationalError {}

type ErrorClass = new (message: string, fields: Partial<ErrorFields>) => DatabaseError;

const BY_SQLSTATE: Readonly<Record<string, ErrorClass>> = {
  "23505": UniqueViolation,
  "40001": SerializationFailure,
  "40P01": DeadlockDetected,
  "57014": Cancelled,
};

const BY_SQLSTATE_CLASS: Readonly<Record<string, ErrorClass>> = {
  "0A": NotSupportedError,
  "20": ProgrammingError,
  "21": ProgrammingError,
  "22": DataError,
  "23": IntegrityError,
  "24": InternalError,
  "25": InternalError,
  "26": ProgrammingError,
  "2B": InternalError,
  "2D": InternalError,
  "34": ProgrammingError,
  "3D": ProgrammingError,
  "3F": ProgrammingError,
  "42": ProgrammingError,
  "44": ProgrammingError,
  P0: ProgrammingError,
  XX: InternalError,
};

const BY_REASON: Readonly<Record<string, ErrorClass>> = {
  "refused.outside_transaction": ProgrammingError,
  "refused.write_in_query": ProgrammingError,
  "refused.empty": ProgrammingError,
  "refused.multiple": ProgrammingError,
  "invalid.parameter": DataError,
};

const BY_REASON_FAMILY: Readonly<Record<string, ErrorClass>> = {
  refused: NotSupportedError,
  invalid: ProgrammingError,
  unavailable: Unavailable,
  transaction: OperationalError,
};

const BY_STATUS: Readonly<Record<string, ErrorClass>> = {
  UNAVAILABLE: Unavailable,
  INVALID_ARGUMENT: ProgrammingError,
  NOT_FOUND: ProgrammingError,
  UNIMPLEMENTED: NotSupportedError,
  INTERNAL: InternalError,
  DATA_LOSS: InternalError,
};

/** The class of an error by what is known of it. */
function classOf(fields: Partial<ErrorFields>, unknown: boolean): ErrorClass {
  const { status = "", code = "", reason = "" } = fields;
  if (status === "DEADLINE_EXCEEDED") return DeadlineExceeded;
  if (status === "CANCELLED") return Cancelled;
  if (unknown) return OutcomeUnknown;
  const bySqlstate = BY_SQLSTATE[code] ?? BY_SQLSTATE_CLASS[code.slice(0, 2)];
  const byReason = BY_REASON[reason] ?? BY_REASON_FAMILY[reason.split(".")[0] ?? ""];
  return bySqlstate ?? byReason ?? BY_STATUS[status] ?? OperationalError;
}

/** Makes the error whose class says what is known. `unknown`: no one can tell whether it had an effect. */
export function errorOf(message: string, fields: Partial<ErrorFields>, unknown: boolean): SegueError {
  const made = classOf(fields, unknown);
  return new made(message, fields);
}

/** Whether a transaction that failed so may be run again: nothing of it was applied. */
export function isRetryable(error: unknown): boolean {
  return error instanceof SegueError && error.retryable && error.outcome === "not_applied";
}
