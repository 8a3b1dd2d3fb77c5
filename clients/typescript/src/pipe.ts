import { type ClientDuplexStream, status as Codes, Metadata, type ServiceError } from "@grpc/grpc-js";
import type { Patience } from "./call.js";
import type { Answer, Call } from "./connection.js";
import type { SegueError } from "./errors.js";
import type { PipelineRequest, PipelineResponse, SqlClient } from "./protocol/segue/v1/sql.js";
import { lost, ofRpc, ofStatus } from "./status.js";

// More calls of one stream the sidecar does not take (max_pipeline_calls is 512).
const CALLS_MAX = 500;
// How long a call that was cancelled waits for what it came to.
const CANCEL_GRACE_MS = 1000;
const NANOS_PER_MS = 1_000_000;

interface Waiting {
  parts: Answer[];
  done(found: Answer[]): void;
  failed(error: ServiceError): void;
}

/** One stream of many calls: Sql.Pipeline. */
export class Pipe {
  readonly #stream: ClientDuplexStream<PipelineRequest, PipelineResponse>;
  readonly #calls = new Map<bigint, Waiting>();
  #next = 0n;
  #failure: ServiceError | undefined;
  #retired = false;

  constructor(stub: SqlClient) {
    this.#stream = stub.pipeline(new Metadata());
    this.#stream.on("data", (answer: PipelineResponse) => this.#take(answer));
    this.#stream.on("error", (error: ServiceError) => this.#fail(error));
    this.#stream.on("end", () => {
      this.#fail(
        Object.assign(new Error(), {
          code: Codes.UNAVAILABLE,
          details: "it ended the stream",
          metadata: new Metadata(),
        }),
      );
    });
  }

  /** Whether it takes another call. */
  get takes(): boolean {
    return this.#failure === undefined && !this.#retired && this.#calls.size < CALLS_MAX;
  }

  /** Takes no more calls, and ends once those that it has are answered. */
  retire(): void {
    this.#retired = true;
    if (this.#calls.size === 0) this.end();
  }

  /** Says that no more calls come. */
  end(): void {
    if (this.#failure === undefined) this.#stream.end();
  }

  /**
   * Makes a call and waits for its whole answer. A caller that waits no longer cancels it, and the call waits for
   * what it came to, for a moment: that it was applied, or surely not, is better than not to know.
   */
  ask(call: Call, patience: Patience, traceparent: string, writes: boolean): Promise<Answer[] | "absent"> {
    return new Promise((resolve, reject) => {
      const id = ++this.#next;
      let grace: NodeJS.Timeout | undefined;
      const finish = (): void => {
        clearTimeout(grace);
        stop();
        this.#calls.delete(id);
        if (this.#retired && this.#calls.size === 0) this.end();
      };
      const over = (): void => {
        this.#send({ id, timeout: undefined, traceparent: "", call: { $case: "cancel", value: {} } });
        grace = setTimeout(() => {
          finish();
          reject(this.#given(patience, writes));
        }, CANCEL_GRACE_MS);
      };
      const stop = patience.onOver(over);
      this.#calls.set(id, {
        parts: [],
        done: (found) => {
          finish();
          const last = found[found.length - 1];
          if (last?.$case === "status") {
            const error = ofStatus(last.value, writes);
            reject(error.status === "CANCELLED" ? (this.#caused(error, patience) ?? error) : error);
          } else {
            resolve(found);
          }
        },
        failed: (error) => {
          finish();
          // Of a sidecar that has no pipeline the stream ends with this code, and nothing was begun.
          if (error.code === Codes.UNIMPLEMENTED) resolve("absent");
          else reject(patience.over(writes) ?? ofRpc(error, writes));
        },
      });
      this.#send({ id, timeout: timeoutOf(patience), traceparent, call });
    });
  }

  #given(patience: Patience, writes: boolean): SegueError {
    return patience.over(writes) ?? lost(Codes.DEADLINE_EXCEEDED, "", writes);
  }

  /** The same error with the reason of the caller's signal. */
  #caused(error: SegueError, patience: Patience): SegueError | undefined {
    if (patience.signal?.aborted !== true) return undefined;
    return Object.defineProperty(error, "cause", { value: patience.signal.reason, configurable: true, writable: true });
  }

  #send(request: PipelineRequest): void {
    const failure = this.#failure;
    if (failure === undefined) this.#stream.write(request);
    else this.#calls.get(request.id)?.failed(failure);
  }

  #take({ id, answer }: PipelineResponse): void {
    const call = this.#calls.get(id);
    // One that no one waits for any more was cancelled.
    if (call === undefined || answer === undefined) return;
    call.parts.push(answer);
    if (answer.$case !== "query" || answer.value.footer !== undefined) call.done(call.parts);
  }

  #fail(failure: ServiceError): void {
    if (this.#failure !== undefined) return;
    this.#failure = failure;
    for (const call of [...this.#calls.values()]) call.failed(failure);
  }
}

function timeoutOf(patience: Patience): PipelineRequest["timeout"] {
  const left = patience.leftMs();
  if (left === Infinity) return undefined;
  const whole = Math.max(Math.ceil(left), 1);
  return { seconds: BigInt(Math.floor(whole / 1000)), nanos: (whole % 1000) * NANOS_PER_MS };
}
