import { readFileSync } from "node:fs";
import { InterfaceError } from "./errors.js";
import type { Parsers } from "./values.js";

const DEFAULT_PORT = 7400;
// The sidecar's own default, limits.deadline_default.
const DEFAULT_TIMEOUT_MS = 30_000;
// A sidecar that is restarted beside its application is back within seconds.
const DEFAULT_CONNECT_TIMEOUT_MS = 10_000;
// A cutover holds writes for at most ten seconds (cutover.hold_limit).
const DEFAULT_RETRY_TIMEOUT_MS = 30_000;
// Shorter than the five minutes after which many balancers drop a silent connection.
const DEFAULT_KEEPALIVE_MS = 30_000;

/** How an encrypted connection is made: to a proxy before the sidecar, which ends TLS. */
export interface TlsOptions {
  /** Certificates to trust, in PEM; those of Node where it is left out. */
  ca?: Buffer | string | undefined;
  /** This client's certificate, in PEM. */
  cert?: Buffer | string | undefined;
  /** Its key, in PEM. */
  key?: Buffer | string | undefined;
  /** The name that the server's certificate must have, where it is not the host. */
  serverName?: string | undefined;
}

/** How a sidecar is reached and how calls are made. */
export interface Options {
  /** Name or address; 127.0.0.1 by default. */
  host?: string | undefined;
  /** The port of `listen.sql`; 7400 by default. */
  port?: number | undefined;
  /** The path of a Unix socket; takes precedence over host and port. */
  socket?: string | undefined;
  /** Whether the connection is encrypted, and how. */
  tls?: boolean | TlsOptions | undefined;
  /** Milliseconds that a call may take, repeats included; 30,000 by default, null leaves it to the sidecar. */
  timeoutMs?: number | null | undefined;
  /** Milliseconds to wait for a sidecar that is not up; 10,000 by default. */
  connectTimeoutMs?: number | undefined;
  /** Milliseconds for which a call is repeated that may be repeated; 30,000 by default, 0 for not at all. */
  retryTimeoutMs?: number | undefined;
  /** Milliseconds without traffic after which the client asks whether the sidecar is there; 0 for never. */
  keepaliveMs?: number | undefined;
  /** Whether single writes get an idempotency key by themselves; true by default. */
  idempotencyKeys?: boolean | undefined;
  /** The routing key of reads that give none. */
  routingKey?: string | undefined;
  /** Comes first in the user agent. */
  applicationName?: string | undefined;
  /** What values of a type become, by the type's name; the others are as the README says. */
  parsers?: Parsers | undefined;
}

/** @internal */
export interface Settings {
  host: string;
  port: number;
  socket: string;
  tls: TlsOptions | undefined;
  timeoutMs: number | null;
  connectTimeoutMs: number;
  retryTimeoutMs: number;
  keepaliveMs: number;
  idempotencyKeys: boolean;
  routingKey: string;
  applicationName: string;
  parsers: Parsers;
}

/** The address as gRPC writes it. */
export function targetOf(settings: Settings): string {
  if (settings.socket !== "") return `unix:${settings.socket}`;
  return `dns:${settings.host.includes(":") ? `[${settings.host}]` : settings.host}:${settings.port}`;
}

/** Checks all options, and fills in the defaults. */
export function settingsOf(given: string | Options, more: Options = {}): Settings {
  const options: Options =
    typeof given === "string" ? { ...parseUrl(given), ...defined(more) } : { ...given, ...defined(more) };
  for (const name of Object.keys(options)) {
    if (!NAMES.has(name)) throw new InterfaceError(`there is no option ${name}; there are ${[...NAMES].join(", ")}`);
  }
  const tls = options.tls === true ? {} : options.tls || undefined;
  if ((tls?.cert === undefined) !== (tls?.key === undefined)) {
    throw new InterfaceError("the options cert and key of TLS go together");
  }
  return {
    host: options.host ?? "127.0.0.1",
    port: within("port", options.port ?? DEFAULT_PORT, 1, 65_535),
    socket: options.socket ?? "",
    tls,
    timeoutMs: options.timeoutMs === null ? null : positive("timeoutMs", options.timeoutMs ?? DEFAULT_TIMEOUT_MS),
    connectTimeoutMs: positive("connectTimeoutMs", options.connectTimeoutMs ?? DEFAULT_CONNECT_TIMEOUT_MS),
    retryTimeoutMs: within("retryTimeoutMs", options.retryTimeoutMs ?? DEFAULT_RETRY_TIMEOUT_MS, 0, Infinity),
    keepaliveMs: within("keepaliveMs", options.keepaliveMs ?? DEFAULT_KEEPALIVE_MS, 0, 2 ** 31 - 1),
    idempotencyKeys: options.idempotencyKeys ?? true,
    routingKey: options.routingKey ?? "",
    applicationName: options.applicationName ?? "",
    parsers: options.parsers ?? {},
  };
}

const NAMES: ReadonlySet<string> = new Set<keyof Options>([
  "host",
  "port",
  "socket",
  "tls",
  "timeoutMs",
  "connectTimeoutMs",
  "retryTimeoutMs",
  "keepaliveMs",
  "idempotencyKeys",
  "routingKey",
  "applicationName",
  "parsers",
]);

function defined(options: Options): Options {
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined));
}

function positive(name: string, value: number): number {
  return within(name, value, 1, Infinity);
}

function within(name: string, value: number, least: number, most: number): number {
  if (typeof value === "number" && value >= least && value <= most) return value;
  throw new InterfaceError(`the option ${name} cannot be ${String(value)}; expected a number from ${least} to ${most}`);
}

const URL_FORM = /^(segue|segue\+tls|segue\+unix):\/\/([^/?#]*)([^?#]*)(?:\?([^#]*))?$/;
const HOST_FORM = /^(?:\[([^\]]+)\]|([^:]*))(?::(\d+))?$/;
const FORMS = "expected segue://host:port, segue+tls://host:port or segue+unix:///path/of/socket";

function parseUrl(url: string): Options {
  const parts = URL_FORM.exec(url);
  if (parts === null) throw new InterfaceError(`this is no URL of a sidecar; ${FORMS}`);
  const [, scheme, authority = "", path = "", query = ""] = parts;
  if (authority.includes("@")) {
    throw new InterfaceError("the URL has a user: a sidecar has none, its configuration names them");
  }
  const made: Options = {};
  if (scheme === "segue+unix") {
    if (path === "" || authority !== "") throw new InterfaceError(`the URL names no socket; ${FORMS}`);
    made.socket = decodeURIComponent(path);
  } else {
    if (path !== "" && path !== "/") {
      throw new InterfaceError(`the URL has the path ${path}: a sidecar serves one database, leave it out`);
    }
    const host = HOST_FORM.exec(authority);
    if (host === null) throw new InterfaceError(`the URL has no valid host and port: ${authority}; ${FORMS}`);
    made.host = host[1] ?? (host[2] || undefined);
    if (host[3] !== undefined) made.port = Number(host[3]);
    if (scheme === "segue+tls") made.tls = {};
  }
  const seen = new Set<string>();
  for (const [given, text] of new URLSearchParams(query)) {
    const name = OTHER_NAMES.get(given) ?? given;
    if (seen.has(name)) throw new InterfaceError(`the option ${name} is given twice`);
    seen.add(name);
    setOption(made, name, text);
  }
  if (seen.has("retry") && seen.has("retry_timeout")) {
    throw new InterfaceError("the options retry and retry_timeout exclude each other");
  }
  return made;
}

/** Names that other clients of segue have, or had, for an option. */
const OTHER_NAMES: ReadonlyMap<string, string> = new Map([
  ["idempotency", "idempotency_keys"],
  ["ca_file", "ca"],
  ["cert_file", "cert"],
  ["key_file", "key"],
]);

function setOption(made: Options, name: string, text: string): void {
  switch (name) {
    case "timeout":
      made.timeoutMs = text === "none" ? null : duration(name, text);
      break;
    case "connect_timeout":
      made.connectTimeoutMs = duration(name, text);
      break;
    case "retry_timeout":
      made.retryTimeoutMs = duration(name, text);
      break;
    case "keepalive":
      made.keepaliveMs = duration(name, text);
      break;
    case "retry":
      if (!flag(name, text)) made.retryTimeoutMs = 0;
      break;
    case "idempotency_keys":
      made.idempotencyKeys = flag(name, text);
      break;
    case "routing_key":
      made.routingKey = text;
      break;
    case "application_name":
      made.applicationName = text;
      break;
    default:
      setTlsOption(made, name, text);
  }
}

const URL_OPTIONS =
  "timeout, connect_timeout, retry_timeout, retry, keepalive, idempotency_keys, routing_key, application_name, ca, cert, key and server_name";

function setTlsOption(made: Options, name: string, text: string): void {
  const file = name === "ca" || name === "cert" || name === "key" ? name : undefined;
  if (file === undefined && name !== "server_name") {
    throw new InterfaceError(`a URL has no option ${name}; there are ${URL_OPTIONS}`);
  }
  if (typeof made.tls !== "object") throw new InterfaceError(`the option ${name} is for segue+tls only`);
  if (file === undefined) {
    made.tls.serverName = text;
    return;
  }
  try {
    made.tls[file] = readFileSync(text);
  } catch (error) {
    throw new InterfaceError(`the option ${name}: ${text} cannot be read`, { cause: error });
  }
}

const UNITS: Readonly<Record<string, number>> = { "": 1000, ms: 1, s: 1000, m: 60_000, h: 3_600_000 };

/** Seconds, or a number with a unit: 10, 10s, 500ms. */
function duration(name: string, text: string): number {
  const parts = /^(\d+(?:\.\d+)?)(ms|s|m|h|)$/.exec(text);
  const unit = UNITS[parts?.[2] ?? "-"];
  if (parts === null || unit === undefined) {
    throw new InterfaceError(`the option ${name} cannot be ${text}; expected seconds, or a time such as 10s or 500ms`);
  }
  return Number(parts[1]) * unit;
}

const FLAGS: ReadonlyMap<string, boolean> = new Map([
  ["true", true],
  ["1", true],
  ["on", true],
  ["false", false],
  ["0", false],
  ["off", false],
]);

function flag(name: string, text: string): boolean {
  const found = FLAGS.get(text);
  if (found === undefined) throw new InterfaceError(`the option ${name} cannot be ${text}; expected true or false`);
  return found;
}
