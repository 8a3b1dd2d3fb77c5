import { status as Codes, Metadata, Server, ServerCredentials } from "@grpc/grpc-js";
import { RetryInfo } from "#internal/protocol/google/rpc/error_details.js";
import { Status } from "#internal/protocol/google/rpc/status.js";
import { type Outcome, type Side, SqlError } from "#internal/protocol/segue/v1/error.js";
import {
  type PipelineRequest,
  type PipelineResponse,
  type QueryResponse,
  SqlService,
} from "#internal/protocol/segue/v1/sql.js";

export type Call = NonNullable<PipelineRequest["call"]>;
export type Answer = NonNullable<PipelineResponse["answer"]>;

/** What a fake sidecar does with a call: answers, or ends the stream with a code. */
export type Script = (call: Call, request: PipelineRequest) => Answer | { code: number } | undefined;

/** An answer to a query of one column and row. */
export function oneRow(consistencyToken = "", footer = true, transactionId = ""): QueryResponse {
  return {
    header: { columns: [{ name: "n", typeName: "int4", typeOid: 23, typeModifier: -1 }], transactionId },
    rows: { encoding: { $case: "packed", value: { rowCount: 1, cells: Buffer.from([0, 0, 0, 4, 0, 0, 0, 7]) } } },
    footer: footer ? { rowCount: 1n, side: 1, writeId: "", consistencyToken } : undefined,
  };
}

export function written(consistencyToken = "", transactionId = ""): Answer {
  const result = { affectedRows: 1n, columns: [], rows: undefined };
  return {
    $case: "execute",
    value: { result, transactionId, writeId: "w", consistencyToken, alreadyApplied: false },
  };
}

export function commit(): Answer {
  return { $case: "commit", value: { writeId: "w", consistencyToken: "" } };
}

/** A failure as the sidecar tells it. */
export function failure(
  code: number,
  fields: { outcome?: Outcome; retryable?: boolean; reason?: string; sqlstate?: string; consistencyToken?: string },
  retryDelayMs?: number,
): Answer {
  const error: SqlError = { ...SqlError.decode(new Uint8Array()), ...fields, side: 1 satisfies Side };
  const details = [
    { typeUrl: "type.googleapis.com/segue.v1.SqlError", value: Buffer.from(SqlError.encode(error).finish()) },
  ];
  if (retryDelayMs !== undefined) {
    const retryDelay = { seconds: 0n, nanos: retryDelayMs * 1_000_000 };
    details.push({
      typeUrl: "type.googleapis.com/google.rpc.RetryInfo",
      value: Buffer.from(RetryInfo.encode({ retryDelay }).finish()),
    });
  }
  return { $case: "status", value: { code, message: "it failed", details } };
}

/** A sidecar that does as a script says. */
export class Fake {
  readonly #server = new Server();
  /** What was asked of it, in order. */
  readonly requests: PipelineRequest[] = [];
  readonly metadata: Metadata[] = [];
  port = 0;

  static async start(script: Script, options: { pipeline?: boolean } = {}): Promise<Fake> {
    const fake = new Fake();
    const answered = (call: Call, metadata: Metadata): ReturnType<Script> => {
      const request: PipelineRequest = { id: 0n, timeout: undefined, traceparent: "", call };
      fake.requests.push(request);
      fake.metadata.push(metadata);
      return script(call, request);
    };
    fake.#server.addService(
      SqlService as never,
      {
        info: (_: unknown, done: (error: null, answer: object) => void) =>
          done(null, { version: "1", phase: 2, epoch: 1n, limits: undefined, features: [1, 2, 99] }),
        query: (call: {
          request: never;
          metadata: Metadata;
          write(part: object): void;
          end(): void;
          emit(event: string, error: object): void;
        }) => {
          const answer = answered({ $case: "query", value: call.request }, call.metadata);
          if (answer !== undefined && "$case" in answer && answer.$case === "query") {
            call.write(answer.value);
            call.end();
          } else {
            call.emit("error", errorOf(answer));
          }
        },
        execute: (
          call: { request: never; metadata: Metadata },
          done: (error: object | null, answer?: object) => void,
        ) => {
          const answer = answered({ $case: "execute", value: call.request }, call.metadata);
          if (answer !== undefined && "$case" in answer && answer.$case === "execute") done(null, answer.value);
          else done(errorOf(answer));
        },
        pipeline: (stream: {
          on(event: string, then: (request: PipelineRequest) => void): void;
          write(answer: PipelineResponse): void;
          emit(event: string, error: object): void;
          end(): void;
        }) => {
          if (options.pipeline === false) {
            stream.emit("error", { code: Codes.UNIMPLEMENTED, details: "there is none" });
            return;
          }
          stream.on("data", (request) => {
            fake.requests.push(request);
            const answer = script(request.call as Call, request);
            if (answer === undefined) return;
            if ("$case" in answer) stream.write({ id: request.id, answer });
            else stream.emit("error", { code: answer.code, details: "the stream is over" });
          });
          stream.on("end", () => stream.end());
        },
      } as never,
    );
    fake.port = await new Promise<number>((done, failed) => {
      fake.#server.bindAsync("127.0.0.1:0", ServerCredentials.createInsecure(), (error, port) => {
        if (error === null) done(port);
        else failed(error);
      });
    });
    return fake;
  }

  /** The calls of a kind. */
  of<K extends Call["$case"]>(kind: K): Extract<Call, { $case: K }>["value"][] {
    return this.requests.flatMap(({ call }) => (call?.$case === kind ? [call.value as never] : []));
  }

  close(): void {
    this.#server.forceShutdown();
  }
}

function errorOf(answer: ReturnType<Script>): object {
  if (answer !== undefined && "$case" in answer && answer.$case === "status") {
    const metadata = new Metadata();
    metadata.set("grpc-status-details-bin", Buffer.from(Status.encode(answer.value).finish()));
    return { code: answer.value.code, details: answer.value.message, metadata };
  }
  return { code: answer !== undefined && "code" in answer ? answer.code : Codes.UNAVAILABLE, details: "it is over" };
}
