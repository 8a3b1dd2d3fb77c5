import { InterfaceError } from "./errors.js";
import { parseJson } from "./json.js";
import { arrayText, type Dimension, intervalText, MICROS_PER_HOUR, MICROS_PER_SECOND, quotedBound } from "./text.js";

export type { Dimension } from "./text.js";

/** Reads PostgreSQL's text of a value. */
export type Parser = (text: string) => unknown;

/** What values of a type become, by the type's name as PostgreSQL has it ("int8", "timestamptz"), in arrays too. */
export type Parsers = Readonly<Record<string, Parser>>;

/** Exact decimal digits as a parameter: "12.3400", "NaN", "Infinity". */
export class Numeric {
  constructor(readonly text: string) {}

  toString(): string {
    return this.text;
  }
}

/** A parameter of type numeric. A string is one too, for a call more the first time that its statement runs. */
export function numeric(digits: string | number | bigint): Numeric {
  return new Numeric(String(digits));
}

/** JSON as a parameter, whatever the value: an array or a string too. */
export class Json {
  constructor(readonly value: unknown) {}
}

/** A parameter of type json or jsonb made of any value that JSON has. */
export function json(value: unknown): Json {
  return new Json(value);
}

/** An array whose indexes do not begin with 1, which a JavaScript array cannot say. */
export class BoundedArray {
  constructor(
    /** None for an empty array. */
    readonly dimensions: readonly Dimension[],
    /** Row by row. */
    readonly elements: readonly unknown[],
  ) {}
}

/** A value of a type that segue does not decode, such as point, in PostgreSQL's binary format. */
export class Opaque {
  constructor(
    /** The type's name without its schema. */
    readonly typeName: string,
    /** What the type's send function gives. */
    readonly data: Uint8Array,
  ) {}
}

/** A span of time in PostgreSQL's three units, which do not convert into each other. */
export class Interval {
  constructor(
    /** Months; twelve for a year. */
    readonly months: number,
    readonly days: number,
    readonly micros: bigint,
  ) {}

  /** Reads an interval as PostgreSQL writes it: `1 year 2 mons 3 days 04:05:06.000007`. */
  static parse(text: string): Interval {
    const parts = INTERVAL.exec(text);
    if (parts === null || text === "") throw unreadable(text, "an interval");
    const [, years = "0", months = "0", days = "0", sign = "", hours, minutes, seconds, fraction = ""] = parts;
    let micros = 0n;
    if (hours !== undefined) {
      micros = BigInt(hours) * BigInt(MICROS_PER_HOUR);
      micros += BigInt((Number(minutes) * 60 + Number(seconds)) * MICROS_PER_SECOND + Number(fraction.padEnd(6, "0")));
    }
    return new Interval(12 * Number(years) + Number(months), Number(days), sign === "-" ? -micros : micros);
  }

  /** As PostgreSQL writes it. */
  toString(): string {
    return intervalText(this.months, this.days, this.micros);
  }
}

const INTERVAL =
  /^(?:([+-]?\d+) years?)? ?(?:([+-]?\d+) mons?)? ?(?:([+-]?\d+) days?)? ?(?:([+-]?)(\d+):(\d\d):(\d\d)(?:\.(\d{1,6}))?)?$/;

/** A range; its bounds are texts, null where there is none. */
export class Range {
  constructor(
    readonly lower: string | null,
    readonly upper: string | null,
    /** Which bounds belong to the range. */
    readonly bounds: "[]" | "[)" | "(]" | "()" = "[)",
    readonly empty = false,
  ) {}

  /** Reads a range as PostgreSQL writes it: `[1,10)`, `empty`. */
  static parse(text: string): Range {
    if (text === "empty") return new Range(null, null, "()", true);
    const parts = RANGE.exec(text);
    if (parts === null) throw unreadable(text, "a range");
    const [, open = "", lower = "", upper = "", close = ""] = parts;
    return new Range(boundOf(lower), boundOf(upper), `${open}${close}` as "[)");
  }

  /** As PostgreSQL writes it. */
  toString(): string {
    if (this.empty) return "empty";
    const bound = (text: string | null): string => (text === null ? "" : quotedBound(text));
    return `${this.bounds[0]}${bound(this.lower)},${bound(this.upper)}${this.bounds[1]}`;
  }
}

const BOUND = '((?:"(?:[^"\\\\]|""|\\\\.)*"|\\\\.|[^",\\\\])*)';
const RANGE = new RegExp(`^([[(])${BOUND},${BOUND}([\\])])$`);

function boundOf(text: string): string | null {
  if (text === "") return null;
  return text.replace(/\\(.)|""|"/g, (found, escaped: string | undefined, at: number) => {
    if (escaped !== undefined) return escaped;
    return found === '""' && at > 0 && at + 2 < text.length ? '"' : "";
  });
}

function unreadable(text: string, what: string): InterfaceError {
  return new InterfaceError(`${JSON.stringify(text)} is not ${what} as PostgreSQL writes it`);
}

const TIMESTAMP =
  /^(\d{4,})-(\d\d)-(\d\d)(?: (\d\d):(\d\d):(\d\d)(?:\.(\d{1,6}))?(?:([+-])(\d\d)(?::(\d\d))?(?::(\d\d))?)?)?( BC)?$/;

/**
 * Microseconds since 1970-01-01 in UTC, of a timestamp or a date; without a zone it is taken as UTC. An infinite
 * one is an error.
 */
export function epochMicros(text: string): bigint {
  const parts = TIMESTAMP.exec(text);
  if (parts === null) throw unreadable(text, "a finite timestamp or date");
  const [, year, month, day, hour = "0", minute = "0", second = "0", fraction = ""] = parts;
  const [, , , , , , , , sign = "+", zoneHour = "0", zoneMinute = "0", zoneSecond = "0", era] = parts;
  const date = new Date(0);
  // Date holds no more than 275,760 years: whole cycles of 400 are counted apart.
  const wholeYear = era === undefined ? Number(year) : 1 - Number(year);
  const cycles = Math.floor(wholeYear / 400);
  date.setUTCFullYear(wholeYear - cycles * 400, Number(month) - 1, Number(day));
  const zone = (sign === "-" ? -1 : 1) * (Number(zoneHour) * 3600 + Number(zoneMinute) * 60 + Number(zoneSecond));
  const seconds =
    date.getTime() / 1000 +
    cycles * 146_097 * 86_400 +
    Number(hour) * 3600 +
    Number(minute) * 60 +
    Number(second) -
    zone;
  return BigInt(seconds) * BigInt(MICROS_PER_SECOND) + BigInt(fraction.padEnd(6, "0"));
}

/** Reads a timestamp or a date into a Date. One that a Date cannot hold exactly is an error. */
export function toDate(text: string): Date {
  const micros = epochMicros(text);
  const date = new Date(Number(micros / 1000n));
  if (micros % 1000n !== 0n || Number.isNaN(date.getTime())) {
    throw new InterfaceError(`a Date cannot hold ${text} exactly; read it as text, or by epochMicros`);
  }
  return date;
}

/** Reads an integer into a number. One that a number cannot hold exactly is an error. */
export function toNumber(text: string): number {
  const number = Number(text);
  if (text.trim() !== "" && (Number.isSafeInteger(number) || (!/^-?\d+$/.test(text) && String(number) === text)))
    return number;
  throw new InterfaceError(`a number cannot hold ${text} exactly; read it as a bigint or as text`);
}

/**
 * Parsers that give what node-postgres gives by default: Date for timestamps and dates, cut to milliseconds, in
 * the process's own zone where they have none; strings for int8 and JSON by JSON.parse. They lose what
 * node-postgres loses. Intervals stay texts.
 */
export const nodePostgresParsers: Parsers = {
  int8: (text) => text,
  json: (text) => JSON.parse(text) as unknown,
  jsonb: (text) => JSON.parse(text) as unknown,
  timestamptz: (text) => nodeDate(text, false),
  timestamp: (text) => nodeDate(text, true),
  date: (text) => nodeDate(text, true),
};

function nodeDate(text: string, local: boolean): Date | number {
  if (text === "infinity") return Infinity;
  if (text === "-infinity") return -Infinity;
  const micros = epochMicros(text);
  const utc = new Date(Number((micros - (((micros % 1000n) + 1000n) % 1000n)) / 1000n));
  if (!local) return utc;
  const made = new Date(
    2000,
    0,
    1,
    utc.getUTCHours(),
    utc.getUTCMinutes(),
    utc.getUTCSeconds(),
    utc.getUTCMilliseconds(),
  );
  made.setFullYear(utc.getUTCFullYear(), utc.getUTCMonth(), utc.getUTCDate());
  return made;
}

/** Parsers that give JSON as its text, so that JSON's null and SQL's NULL differ. */
export const jsonTextParsers: Parsers = { json: (text) => text, jsonb: (text) => text };

/** Reads JSON as it is read by default: see the README. */
export const exactJson: Parser = parseJson;

/** The array that elements in row-major order make. */
export function nested(dimensions: readonly Dimension[], elements: readonly unknown[]): unknown {
  if (dimensions.length === 0) return [];
  if (dimensions.some((dimension) => dimension.lowerBound !== 1)) return new BoundedArray(dimensions, elements);
  if (dimensions.length === 1) return elements;
  let made = elements;
  for (const { length } of dimensions.slice(1).reverse()) {
    const inner: unknown[] = [];
    for (let at = 0; at < made.length; at += length) inner.push(made.slice(at, at + length));
    made = inner;
  }
  return made;
}

/** PostgreSQL's text of an array of texts. */
export function boundedText(array: BoundedArray): string {
  return arrayText(
    array.dimensions,
    array.elements.map((element) => (element === null ? null : String(element))),
  );
}
