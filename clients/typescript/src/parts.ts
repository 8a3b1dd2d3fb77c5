import { type ClientReadableStream, status as Codes, type ServiceError } from "@grpc/grpc-js";
import type { Patience } from "./call.js";
import { lost, ofRpc } from "./status.js";

// Parts that are read ahead: the next one is on its way while the rows of one are given out.
const AHEAD = 2;

/** The parts of an answer, which come as they are read: the sidecar waits for a slow reader. */
export class Parts<T> {
  readonly #stream: ClientReadableStream<T>;
  readonly #patience: Patience;
  readonly #writes: boolean;
  readonly #queue: T[] = [];
  #ended = false;
  #failure: Error | undefined;
  #wake: (() => void) | undefined;

  constructor(stream: ClientReadableStream<T>, patience: Patience, writes: boolean) {
    this.#stream = stream;
    this.#patience = patience;
    this.#writes = writes;
    patience.signal?.addEventListener("abort", this.#abort, { once: true });
    stream.on("data", (part: T) => {
      this.#queue.push(part);
      if (this.#queue.length >= AHEAD) stream.pause();
      this.#wake?.();
    });
    stream.on("error", (error: ServiceError) => this.#end(this.#errorOf(error)));
    stream.on("end", () => this.#end(undefined));
  }

  readonly #abort = (): void => this.cancel();

  /** The next part; undefined behind the last one. */
  async next(): Promise<T | undefined> {
    for (;;) {
      const part = this.#queue.shift();
      if (part !== undefined) {
        if (this.#queue.length < AHEAD) this.#stream.resume();
        return part;
      }
      if (this.#failure !== undefined) throw this.#failure;
      if (this.#ended) return undefined;
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
      this.#wake = undefined;
    }
  }

  /** Ends the answer, and the statement with it. */
  cancel(): void {
    this.#stream.cancel();
    // Nothing is read any more: what is buffered must not keep the stream from ending.
    this.#stream.resume();
  }

  #errorOf(error: ServiceError): Error {
    const signal = this.#patience.signal;
    return signal?.aborted === true
      ? lost(Codes.CANCELLED, "", this.#writes, signal.reason)
      : ofRpc(error, this.#writes);
  }

  #end(failure: Error | undefined): void {
    // The end of the stream comes behind its error as well.
    this.#failure ??= this.#ended ? undefined : failure;
    this.#ended = true;
    this.#patience.signal?.removeEventListener("abort", this.#abort);
    this.#wake?.();
  }
}
