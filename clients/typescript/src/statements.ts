import { InterfaceError } from "./errors.js";
import type { Statement as StatementRequest } from "./protocol/segue/v1/sql.js";
import type { Value } from "./protocol/segue/v1/value.js";

// Statements about which something is remembered.
const KNOWN_MAX = 2048;

/** A statement of the sidecar's query files. */
export class Named {
  constructor(readonly name: string) {}
}

/** A statement of the sidecar's query files, in place of SQL. */
export function named(name: string): Named {
  return new Named(name);
}

/** SQL with its parameters, as the tag `sql` makes it. */
export class Sql {
  constructor(
    /** SQL with $1, $2, … for the parameters. */
    readonly text: string,
    readonly params: readonly unknown[],
  ) {}
}

/**
 * Makes a statement of a template: what stands in `${…}` becomes a parameter, but for another `Sql`, which becomes a
 * part of the statement.
 */
export function sql(texts: TemplateStringsArray, ...values: readonly unknown[]): Sql {
  const params: unknown[] = [];
  let made = "";
  texts.forEach((text, at) => {
    made += text;
    if (at >= values.length) return;
    const value = values[at];
    if (value instanceof Sql) {
      const before = params.length;
      made += value.text.replace(PARAMETER, (found, _tag?: string, number?: string) =>
        number === undefined ? found : `$${before + Number(number)}`,
      );
      params.push(...value.params);
    } else {
      params.push(value);
      made += `$${params.length}`;
    }
  });
  return new Sql(made, params);
}

// A parameter, or what only looks as if it had one: strings, names, texts between dollars and comments.
const PARAMETER = /'(?:[^']|'')*'|"(?:[^"]|"")*"|\$([A-Za-z_]\w*|)\$[\s\S]*?\$\1\$|--[^\n]*|\/\*[\s\S]*?\*\/|\$(\d+)/g;

/** A statement: SQL, one of the sidecar's query files, or what the tag `sql` made. */
export type Statement = string | Named | Sql;

/** @internal */
export interface Parsed {
  /** What is remembered of the statement stands by it. */
  readonly key: string;
  readonly sql: string | undefined;
  readonly name: string | undefined;
  readonly params: readonly unknown[];
}

/** Takes a statement and its parameters apart. */
export function parsed(statement: Statement, params: readonly unknown[] | undefined): Parsed {
  if (statement instanceof Sql) {
    if (params !== undefined && params.length > 0) {
      throw new InterfaceError("the statement has its parameters already; give none beside it");
    }
    return { key: statement.text, sql: statement.text, name: undefined, params: statement.params };
  }
  if (params !== undefined && !Array.isArray(params)) throw new InterfaceError("the parameters are no array");
  if (statement instanceof Named) {
    return { key: `-- name: ${statement.name}`, sql: undefined, name: statement.name, params: params ?? [] };
  }
  if (typeof statement !== "string") throw new InterfaceError("a statement is a string, named(…) or sql`…`");
  return { key: statement, sql: statement, name: undefined, params: params ?? [] };
}

/** A statement with its parameters, as the protocol has it. */
export function requestOf({ sql: text, name }: Parsed, params: Value[]): StatementRequest {
  return { text: name === undefined ? { $case: "sql", value: text ?? "" } : { $case: "name", value: name }, params };
}

/** What was learned of a statement. */
export interface Known {
  /** The sidecar refused it as a read. */
  writes?: boolean;
  /** Whether its columns can be read from packed rows. */
  packable?: boolean;
  /** Its last answer was short: it takes the stream that all calls share. */
  short?: boolean;
  /** It cannot have an idempotency key. */
  keyless?: boolean;
  /** The types of its parameters; undefined where no one had to ask. */
  types?: readonly string[];
}

const NOTHING: Known = {};

/** What was learned of statements: bounded, the oldest goes first. */
export class Memory {
  readonly #known = new Map<string, Known>();

  get(key: string): Known {
    return this.#known.get(key) ?? NOTHING;
  }

  learn(key: string, facts: Known): void {
    const known = this.#known.get(key);
    if (known !== undefined) {
      Object.assign(known, facts);
      return;
    }
    this.#known.set(key, { ...facts });
    if (this.#known.size <= KNOWN_MAX) return;
    for (const oldest of this.#known.keys()) {
      this.#known.delete(oldest);
      break;
    }
  }
}

const LEADING = /^(?:[\s(;]|--[^\n]*(?:\n|$)|\/\*[\s\S]*?\*\/)+/;
const READS = /^(?:select|with|values|table|show|explain)\b/i;

/** Whether a statement is worth an attempt as a read. Where it writes, the sidecar refuses it unapplied. */
export function mayRead({ sql: text }: Parsed): boolean {
  return text === undefined || READS.test(text.replace(LEADING, ""));
}
