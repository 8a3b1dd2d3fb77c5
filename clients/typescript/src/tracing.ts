import type * as Otel from "@opentelemetry/api";
import { SegueError } from "./errors.js";
import type { Settings } from "./options.js";

/** What a span says of a call. */
export interface Traced {
  /** query, execute, batch, commit, rollback, describe or info. */
  method: string;
  /** The statement's text with its placeholders; empty where there is none. */
  sql?: string | undefined;
  /** The name of a named statement. */
  name?: string | undefined;
}

type Api = typeof Otel;

let loading: Promise<Api | undefined> | undefined;

/** OpenTelemetry, where the application has it. */
function load(): Promise<Api | undefined> {
  loading ??= import("@opentelemetry/api").then(
    (api) => api,
    () => undefined,
  );
  return loading;
}

/** Makes a client span of each call where OpenTelemetry is installed. */
export class Tracing {
  readonly #attributes: Record<string, string | number>;
  #api: Api | undefined;
  #loaded = false;

  constructor(settings: Settings) {
    this.#attributes = { "db.system.name": "postgresql", "server.address": settings.socket || settings.host };
    if (settings.socket === "") this.#attributes["server.port"] = settings.port;
  }

  /** Runs a call inside a span, with the traceparent to send along. */
  async run<T>(traced: Traced, given: string | undefined, call: (traceparent: string) => Promise<T>): Promise<T> {
    if (!this.#loaded) {
      this.#api = await load();
      this.#loaded = true;
    }
    const api = this.#api;
    if (api === undefined) return call(given ?? "");
    const attributes: Record<string, string | number> = { ...this.#attributes, "db.operation.name": traced.method };
    // It has placeholders for its values.
    if (traced.sql !== undefined) attributes["db.query.text"] = traced.sql;
    if (traced.name !== undefined) attributes["db.stored_procedure.name"] = traced.name;
    const span = api.trace
      .getTracer("segue-client")
      .startSpan(`segue ${traced.method}`, { kind: api.SpanKind.CLIENT, attributes });
    try {
      return await call(traceparentOf(api, span) ?? given ?? "");
    } catch (error) {
      if (error instanceof SegueError) {
        span.setAttribute("error.type", error.reason || error.code || error.status || error.name);
        if (error.code !== "") span.setAttribute("db.response.status_code", error.code);
      }
      span.setStatus({ code: api.SpanStatusCode.ERROR, message: String((error as Error).message) });
      throw error;
    } finally {
      span.end();
    }
  }
}

function traceparentOf(api: Api, span: Otel.Span): string | undefined {
  const context = span.spanContext();
  if (!api.isSpanContextValid(context)) return undefined;
  return `00-${context.traceId}-${context.spanId}-${context.traceFlags.toString(16).padStart(2, "0")}`;
}
