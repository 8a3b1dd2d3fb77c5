import { setMaxListeners } from "node:events";
import { status as Codes } from "@grpc/grpc-js";
import type { SegueError } from "./errors.js";
import { lost } from "./status.js";

const BACKOFF_MIN_MS = 20;
const BACKOFF_MAX_MS = 1000;
// Where the doubling ends, so that the power stays a number of a usual size.
const DOUBLINGS_MAX = 16;

/** When a call may be made again by itself. */
export type Repeat =
  /** Whenever it failed for a passing reason: it has no effect, or none that stays. */
  | "read"
  /** Also after a lost answer: its key makes it have effect once. */
  | "keyed"
  /** Where the sidecar says that nothing was applied. */
  | "unapplied"
  /** It stands in an open transaction. */
  | "never";

/** Whether a call that failed so may be made again. */
export function mayRepeat(error: SegueError, repeat: Repeat): boolean {
  if (repeat === "never" || error.status === "CANCELLED" || error.status === "DEADLINE_EXCEEDED") return false;
  if (error.outcome === "not_applied" && error.retryable && error.retryDelayMs !== undefined) return true;
  if (repeat === "read") return error.retryable;
  return repeat === "keyed" && error.outcome === "unknown";
}

/**
 * Whether the error of a repeat tells what the attempts before it came to: the database has run the statement and
 * refused it, which it does not do to one whose key it has seen. What may pass, and what stopped the repeat before its
 * end, tells nothing of them.
 */
export function settles(error: SegueError): boolean {
  if (!error.answered || error.outcome === "unknown") return false;
  if (error.outcome === "applied") return true;
  const passing = error.retryable || error.status === "CANCELLED" || error.status === "DEADLINE_EXCEEDED";
  return error.code !== "" && !passing;
}

/** Milliseconds before the next attempt: exponential, with full jitter, so that callers do not come back together. */
export function backoff(attempt: number, leastMs: number | undefined): number {
  const top = Math.min(BACKOFF_MAX_MS, BACKOFF_MIN_MS * 2 ** Math.min(attempt, DOUBLINGS_MAX));
  return (leastMs ?? 0) + Math.random() * top;
}

/** When a caller stops waiting: by time, or by its AbortSignal. */
export class Patience {
  readonly signal: AbortSignal | undefined;
  readonly #until: number;

  constructor(timeoutMs: number | null, signal: AbortSignal | undefined) {
    this.#until = timeoutMs === null ? Infinity : performance.now() + timeoutMs;
    this.signal = signal;
    // Any number of calls may have the same signal.
    if (signal !== undefined) setMaxListeners(0, signal);
  }

  /** Milliseconds that are left; Infinity where the sidecar decides. */
  leftMs(): number {
    return Math.max(this.#until - performance.now(), 0);
  }

  /** The error of a caller that waits no longer; undefined while it does. */
  over(writes: boolean): SegueError | undefined {
    if (this.signal?.aborted === true) return lost(Codes.CANCELLED, "", writes, this.signal.reason);
    return this.leftMs() === 0 ? lost(Codes.DEADLINE_EXCEEDED, "", writes) : undefined;
  }

  /** Calls back once when the caller waits no longer; gives what takes that back. */
  onOver(then: () => void): () => void {
    const left = this.leftMs();
    const timer = left === Infinity ? undefined : setTimeout(then, left);
    this.signal?.addEventListener("abort", then, { once: true });
    return () => {
      clearTimeout(timer);
      this.signal?.removeEventListener("abort", then);
    };
  }

  /** Waits, or less where the caller's patience ends. */
  sleep(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const done = (): void => {
        clearTimeout(timer);
        stop();
        resolve();
      };
      const timer = setTimeout(done, ms);
      const stop = this.onOver(done);
    });
  }
}
