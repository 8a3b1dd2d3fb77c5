import { status as Codes, connectivityState, credentials, Metadata, type ServiceError } from "@grpc/grpc-js";
import { Patience } from "./call.js";
import { InterfaceError, type SegueError } from "./errors.js";
import { type Settings, type TlsOptions, targetOf } from "./options.js";
import { Parts } from "./parts.js";
import { Pipe } from "./pipe.js";
import {
  type DescribeRequest,
  type DescribeResponse,
  type InfoResponse,
  type PipelineRequest,
  type PipelineResponse,
  type QueryRequest,
  type QueryResponse,
  SqlClient,
} from "./protocol/segue/v1/sql.js";
import { lost, ofRpc } from "./status.js";

const KEEPALIVE_TIMEOUT_MS = 10_000;
const RECONNECT_MIN_MS = 50;
const RECONNECT_MAX_MS = 1000;
// HTTP/2's own 64 KiB make a sidecar wait in the middle of a large answer.
const WINDOW_BYTES = 1 << 20;

/** A request of a pipeline, but for what the pipeline itself says. */
export type Call = NonNullable<PipelineRequest["call"]>;
export type Answer = NonNullable<PipelineResponse["answer"]>;

/** The channel to a sidecar, and the stream on which most calls are made. */
export class Connection {
  readonly #settings: Settings;
  readonly #stub: SqlClient;
  #pipe: Pipe | undefined;
  // The sidecar is older and has no pipeline.
  #plain = false;
  #closed = false;

  constructor(settings: Settings) {
    this.#settings = settings;
    const tls = settings.tls;
    this.#stub = new SqlClient(targetOf(settings), tls ? secured(tls) : credentials.createInsecure(), {
      // The sidecar has limits; a client that has others cuts answers that were allowed.
      "grpc.max_receive_message_length": -1,
      "grpc.max_send_message_length": -1,
      "grpc.initial_reconnect_backoff_ms": RECONNECT_MIN_MS,
      "grpc.max_reconnect_backoff_ms": RECONNECT_MAX_MS,
      // Which call may be repeated is decided here, not by a service configuration.
      "grpc.enable_retries": 0,
      "grpc.service_config_disable_resolution": 1,
      // A sidecar is near: a proxy of the environment is not meant for it.
      "grpc.enable_http_proxy": 0,
      "grpc.use_local_subchannel_pool": 1,
      "grpc-node.flow_control_window": WINDOW_BYTES,
      ...(settings.keepaliveMs > 0 && {
        "grpc.keepalive_time_ms": settings.keepaliveMs,
        "grpc.keepalive_timeout_ms": KEEPALIVE_TIMEOUT_MS,
      }),
      // Otherwise the path is the authority, which HTTP/2 servers refuse.
      ...(settings.socket !== "" && { "grpc.default_authority": "localhost" }),
      ...(tls?.serverName !== undefined && { "grpc.ssl_target_name_override": tls.serverName }),
      ...(settings.applicationName !== "" && { "grpc.primary_user_agent": settings.applicationName }),
    });
  }

  /** Takes no more calls, and ends once those that are under way are answered. */
  close(): void {
    this.#closed = true;
    this.#pipe?.end();
    this.#stub.close();
  }

  /** Waits until there is a connection, no longer than connectTimeoutMs. What fails here was not sent. */
  async ready(patience: Patience): Promise<void> {
    const limit = new Patience(Math.min(this.#settings.connectTimeoutMs, patience.leftMs()), patience.signal);
    const channel = this.#stub.getChannel();
    for (;;) {
      if (this.#closed) throw new InterfaceError("the client is closed", { status: "CANCELLED" });
      const over = patience.over(false);
      if (over !== undefined) throw over;
      const state = channel.getConnectivityState(true);
      if (state === connectivityState.READY) return;
      if (limit.over(false) !== undefined) throw this.#unreachable();
      await new Promise<void>((resolve) => {
        const stop = limit.onOver(resolve);
        channel.watchConnectivityState(state, Date.now() + limit.leftMs(), () => {
          stop();
          resolve();
        });
      });
    }
  }

  #unreachable(): SegueError {
    const waited = this.#settings.connectTimeoutMs;
    return lost(
      Codes.UNAVAILABLE,
      `No connection established: none to ${targetOf(this.#settings)} within ${waited} ms`,
      false,
    );
  }

  /** Makes a call of a pipeline, and gives the parts of its answer: one, but for queries. */
  async ask(call: Call, patience: Patience, traceparent: string, writes: boolean): Promise<Answer[]> {
    if (this.#plain) return this.#askPlain(call, patience, traceparent, writes);
    if (this.#pipe?.takes !== true) {
      this.#pipe?.retire();
      this.#pipe = new Pipe(this.#stub);
    }
    const found = await this.#pipe.ask(call, patience, traceparent, writes);
    if (found !== "absent") return found;
    this.#plain = true;
    return this.#askPlain(call, patience, traceparent, writes);
  }

  /** A query on a stream of its own, whose parts wait for their reader. */
  query(request: QueryRequest, patience: Patience, traceparent: string, writes: boolean): Parts<QueryResponse> {
    const stream = this.#stub.query(request, metadataOf(traceparent), deadlineOf(patience));
    return new Parts(stream, patience, writes);
  }

  info(patience: Patience, traceparent: string): Promise<InfoResponse> {
    return unary(patience, false, (done) => this.#stub.info({}, metadataOf(traceparent), deadlineOf(patience), done));
  }

  describe(request: DescribeRequest, patience: Patience, traceparent: string): Promise<DescribeResponse> {
    return unary(patience, false, (done) =>
      this.#stub.describe(request, metadataOf(traceparent), deadlineOf(patience), done),
    );
  }

  async #askPlain(call: Call, patience: Patience, traceparent: string, writes: boolean): Promise<Answer[]> {
    const metadata = metadataOf(traceparent);
    const deadline = deadlineOf(patience);
    const stub = this.#stub;
    switch (call.$case) {
      case "query": {
        const parts = this.query(call.value, patience, traceparent, writes);
        const found: Answer[] = [];
        for (let part = await parts.next(); part !== undefined; part = await parts.next()) {
          found.push({ $case: "query", value: part });
        }
        return found;
      }
      case "execute":
        return [
          {
            $case: "execute",
            value: await unary(patience, writes, (done) => stub.execute(call.value, metadata, deadline, done)),
          },
        ];
      case "batch":
        return [
          {
            $case: "batch",
            value: await unary(patience, writes, (done) => stub.batch(call.value, metadata, deadline, done)),
          },
        ];
      case "commit":
        return [
          {
            $case: "commit",
            value: await unary(patience, writes, (done) => stub.commit(call.value, metadata, deadline, done)),
          },
        ];
      case "rollback":
        return [
          {
            $case: "rollback",
            value: await unary(patience, writes, (done) => stub.rollback(call.value, metadata, deadline, done)),
          },
        ];
      default:
        throw new InterfaceError(`the call ${call.$case} is not made here`);
    }
  }
}

function secured(tls: TlsOptions): ReturnType<typeof credentials.createSsl> {
  const pem = (text: Buffer | string | undefined): Buffer | null => (text === undefined ? null : Buffer.from(text));
  return credentials.createSsl(pem(tls.ca), pem(tls.key), pem(tls.cert));
}

function metadataOf(traceparent: string): Metadata {
  const metadata = new Metadata();
  if (traceparent !== "") metadata.set("traceparent", traceparent);
  return metadata;
}

function deadlineOf(patience: Patience): { deadline?: number } {
  const left = patience.leftMs();
  return left === Infinity ? {} : { deadline: Date.now() + left };
}

function unary<T>(
  patience: Patience,
  writes: boolean,
  send: (done: (error: ServiceError | null, answer?: T) => void) => { cancel(): void },
): Promise<T> {
  return new Promise((resolve, reject) => {
    const signal = patience.signal;
    const cancel = (): void => call.cancel();
    const call = send((error, answer) => {
      signal?.removeEventListener("abort", cancel);
      if (error === null && answer !== undefined) {
        resolve(answer);
      } else if (error !== null) {
        reject(
          patience.signal?.aborted === true ? lost(Codes.CANCELLED, "", writes, signal?.reason) : ofRpc(error, writes),
        );
      }
    });
    signal?.addEventListener("abort", cancel, { once: true });
  });
}
