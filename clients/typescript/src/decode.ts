import { InternalError } from "./errors.js";
import { parseJson } from "./json.js";
import { Infinity as InfinityNumber, type Rows, type Timestamp, type Value } from "./protocol/segue/v1/value.js";
import {
  clockText,
  type Dimension,
  dateText,
  floatText,
  intervalText,
  MICROS_PER_DAY,
  networkText,
  quotedBound,
  shortestSingle,
  timestampText,
  zoneText,
} from "./text.js";
import { nested, Opaque, type Parsers } from "./values.js";

/** One column of an answer. */
export interface Column {
  name: string;
  /** The type's name without its schema: "int4", "_text" for an array. */
  typeName: string;
  /** The type's oid on the database that answered. */
  typeOid: number;
  /** PostgreSQL's type modifier; -1 where the type has none. */
  typeModifier: number;
}

/** Reads the cell that stands between two places. */
type Cell<T = unknown> = (buffer: Buffer, start: number, end: number) => T;

interface Scalar {
  name: string;
  text: Cell<string>;
  /** What it is by default, where that is not its text. */
  value?: Cell;
}

const DAYS_TO_2000 = 10_957;
const INT4_MAX = 2_147_483_647;
const INT4_MIN = -2_147_483_648;
const UINT4_MAX = 4_294_967_295;
const INT8_MAX = 9_223_372_036_854_775_807n;
const INT8_MIN = -9_223_372_036_854_775_808n;
// Below it, a count of microseconds is exact as a number: 142 years.
const HIGH_EXACT = 0x100000;
const DIMENSIONS_MAX = 6;

function fault(what: string): InternalError {
  return new InternalError(`the answer cannot be read: ${what}`, {
    status: "DATA_LOSS",
    outcome: "unknown",
    answered: true,
  });
}

function sized<T>(length: number, read: Cell<T>): Cell<T> {
  return (buffer, start, end) => {
    if (end - start !== length) throw fault("a cell has another length than its type");
    return read(buffer, start, end);
  };
}

const utf8: Cell<string> = (buffer, start, end) => buffer.toString("utf8", start, end);
const bool = sized(1, (buffer, start) => buffer[start] !== 0);
const int2 = sized(2, (buffer, start) => buffer.readInt16BE(start));
const int4 = sized(4, (buffer, start) => buffer.readInt32BE(start));
const oid = sized(4, (buffer, start) => buffer.readUInt32BE(start));
const int8 = sized(8, (buffer, start) => buffer.readBigInt64BE(start));
const float4 = sized(4, (buffer, start) => shortestSingle(buffer.readFloatBE(start)));
const float8 = sized(8, (buffer, start) => buffer.readDoubleBE(start));
const bytes: Cell<Buffer> = (buffer, start, end) => Buffer.from(buffer.subarray(start, end));

const jsonb: Cell<string> = (buffer, start, end) => {
  if (buffer[start] !== 1) throw fault("a jsonb has an unknown version");
  return utf8(buffer, start + 1, end);
};

const uuid = sized(16, (buffer, start) => {
  const hex = buffer.toString("hex", start, start + 16);
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`;
});

function timestampAt(zoned: boolean): Cell<string> {
  return sized(8, (buffer, start) => {
    const high = buffer.readInt32BE(start);
    const low = buffer.readUInt32BE(start + 4);
    if (high > -HIGH_EXACT && high < HIGH_EXACT) {
      const micros = high * (UINT4_MAX + 1) + low;
      const days = Math.floor(micros / MICROS_PER_DAY);
      return timestampText(days + DAYS_TO_2000, micros - days * MICROS_PER_DAY, zoned);
    }
    if (high === INT4_MAX && low === UINT4_MAX) return "infinity";
    if (high === INT4_MIN && low === 0) return "-infinity";
    const micros = buffer.readBigInt64BE(start);
    const perDay = BigInt(MICROS_PER_DAY);
    const ofDay = ((micros % perDay) + perDay) % perDay;
    return timestampText(Number((micros - ofDay) / perDay) + DAYS_TO_2000, Number(ofDay), zoned);
  });
}

const date = sized(4, (buffer, start) => {
  const days = buffer.readInt32BE(start);
  if (days === INT4_MAX) return "infinity";
  return days === INT4_MIN ? "-infinity" : dateText(days + DAYS_TO_2000);
});

function clockAt(buffer: Buffer, start: number): string {
  const micros = Number(buffer.readBigInt64BE(start));
  if (micros < 0 || micros > MICROS_PER_DAY) throw fault("a time is out of range");
  return clockText(micros);
}

const time = sized(8, clockAt);
// Its zone counts seconds west.
const timetz = sized(12, (buffer, start) => clockAt(buffer, start) + zoneText(-buffer.readInt32BE(start + 8)));

const interval = sized(16, (buffer, start) => {
  const micros = buffer.readBigInt64BE(start);
  const days = buffer.readInt32BE(start + 8);
  const months = buffer.readInt32BE(start + 12);
  // PostgreSQL 17 and later write infinities as the ends of all three.
  if (micros === INT8_MAX && days === INT4_MAX && months === INT4_MAX) return "infinity";
  if (micros === INT8_MIN && days === INT4_MIN && months === INT4_MIN) return "-infinity";
  return intervalText(months, days, micros);
});

const NUMERIC_SPECIAL: Readonly<Record<number, string>> = { 49152: "NaN", 53248: "Infinity", 61440: "-Infinity" };

/** Groups of four digits, with all digits that the scale asks for. */
const numeric: Cell<string> = (buffer, start, end) => {
  if (end - start < 8) throw fault("a numeric is too short");
  const count = buffer.readUInt16BE(start);
  const weight = buffer.readInt16BE(start + 2);
  const sign = buffer.readUInt16BE(start + 4);
  const scale = buffer.readUInt16BE(start + 6);
  const special = NUMERIC_SPECIAL[sign];
  if (special !== undefined) return special;
  if ((sign !== 0 && sign !== 0x4000) || end - start !== 8 + 2 * count) throw fault("a numeric has an unknown form");
  const group = (at: number): number => (at < 0 || at >= count ? 0 : buffer.readUInt16BE(start + 8 + 2 * at));
  let text = weight < 0 ? "0" : String(group(0));
  for (let at = 1; at <= weight; at++) text += String(group(at)).padStart(4, "0");
  if (scale > 0) {
    let fraction = "";
    for (let at = weight + 1; fraction.length < scale; at++) fraction += String(group(at)).padStart(4, "0");
    text += `.${fraction.slice(0, scale)}`;
  }
  return sign === 0 ? text : `-${text}`;
};

function networkAt(alwaysBits: boolean): Cell<string> {
  return (buffer, start, end) => {
    const length = buffer[start + 3];
    if (end - start < 4 || (length !== 4 && length !== 16) || end - start !== 4 + length) {
      throw fault("a network address has an unknown form");
    }
    return networkText(buffer.subarray(start + 4, end), buffer[start + 1] ?? 0, alwaysBits);
  };
}

const asText =
  <T>(read: Cell<T>, write: (value: T) => string = String): Cell<string> =>
  (buffer, start, end) =>
    write(read(buffer, start, end));
const parsed =
  (read: Cell<string>): Cell =>
  (buffer, start, end) =>
    parseJson(read(buffer, start, end));

/** By oid, which all databases have in common for built-in types. */
const SCALARS: ReadonlyMap<number, Scalar> = new Map<number, Scalar>([
  [16, { name: "bool", text: asText(bool, (value) => (value ? "t" : "f")), value: bool }],
  [17, { name: "bytea", text: (buffer, start, end) => `\\x${buffer.toString("hex", start, end)}`, value: bytes }],
  [19, { name: "name", text: utf8 }],
  [20, { name: "int8", text: asText(int8), value: int8 }],
  [21, { name: "int2", text: asText(int2), value: int2 }],
  [23, { name: "int4", text: asText(int4), value: int4 }],
  [25, { name: "text", text: utf8 }],
  [26, { name: "oid", text: asText(oid), value: oid }],
  [114, { name: "json", text: utf8, value: parsed(utf8) }],
  [650, { name: "cidr", text: networkAt(true) }],
  [700, { name: "float4", text: asText(float4, (value) => floatText(value, true)), value: float4 }],
  [701, { name: "float8", text: asText(float8, (value) => floatText(value, false)), value: float8 }],
  [869, { name: "inet", text: networkAt(false) }],
  [1042, { name: "bpchar", text: utf8 }],
  [1043, { name: "varchar", text: utf8 }],
  [1082, { name: "date", text: date }],
  [1083, { name: "time", text: time }],
  [1114, { name: "timestamp", text: timestampAt(false) }],
  [1184, { name: "timestamptz", text: timestampAt(true) }],
  [1186, { name: "interval", text: interval }],
  [1266, { name: "timetz", text: timetz }],
  [1700, { name: "numeric", text: numeric }],
  [2950, { name: "uuid", text: uuid }],
  [3802, { name: "jsonb", text: jsonb, value: parsed(jsonb) }],
]);

/** Ranges, by oid: their name and what they range over. */
const RANGES: ReadonlyMap<number, readonly [string, number]> = new Map([
  [3904, ["int4range", 23]],
  [3906, ["numrange", 1700]],
  [3908, ["tsrange", 1114]],
  [3910, ["tstzrange", 1184]],
  [3912, ["daterange", 1082]],
  [3926, ["int8range", 20]],
]);

/** Arrays, by oid: the element's oid. */
const ARRAYS: ReadonlyMap<number, number> = new Map([
  [1000, 16],
  [1001, 17],
  [1003, 19],
  [1005, 21],
  [1007, 23],
  [1009, 25],
  [1014, 1042],
  [1015, 1043],
  [1016, 20],
  [1021, 700],
  [1022, 701],
  [1028, 26],
  [1041, 869],
  [651, 650],
  [1115, 1114],
  [1182, 1082],
  [1183, 1083],
  [1185, 1184],
  [1187, 1186],
  [1231, 1700],
  [1270, 1266],
  [2951, 2950],
  [199, 114],
  [3807, 3802],
  [3905, 3904],
  [3907, 3906],
  [3909, 3908],
  [3911, 3910],
  [3913, 3912],
  [3927, 3926],
]);

function rangeAt(bound: Cell<string>): Cell<string> {
  return (buffer, start, end) => {
    const flags = buffer[start] ?? 0;
    if (flags & 0x01) return "empty";
    let at = start + 1;
    const next = (none: number): string => {
      if (flags & none) return "";
      const length = buffer.readInt32BE(at);
      at += 4 + length;
      if (length < 0 || at > end) throw fault("a range ends early");
      return quotedBound(bound(buffer, at - length, at));
    };
    const text = `${flags & 0x02 ? "[" : "("}${next(0x08)},${next(0x10)}${flags & 0x04 ? "]" : ")"}`;
    if (at !== end) throw fault("a range does not end where it should");
    return text;
  };
}

function arrayAt(element: Cell): Cell {
  return (buffer, start, end) => {
    const count = end - start < 12 ? -1 : buffer.readInt32BE(start);
    if (count < 0 || count > DIMENSIONS_MAX || end - start < 12 + 8 * count)
      throw fault("an array has an unknown form");
    let at = start + 12;
    let product = count === 0 ? 0 : 1;
    const dimensions: Dimension[] = [];
    for (let index = 0; index < count; index++, at += 8) {
      const dimension = { length: buffer.readInt32BE(at), lowerBound: buffer.readInt32BE(at + 4) };
      product *= dimension.length;
      dimensions.push(dimension);
      // Each element has a length of its own of four bytes.
      if (dimension.length <= 0 || product > (end - start) / 4) throw fault("an array has an unknown form");
    }
    const elements: unknown[] = [];
    while (elements.length < product) {
      if (at + 4 > end) throw fault("an array ends early");
      const length = buffer.readInt32BE(at);
      at += 4;
      if (length < 0) {
        elements.push(null);
        continue;
      }
      if (at + length > end) throw fault("an array ends early");
      elements.push(element(buffer, at, at + length));
      at += length;
    }
    if (at !== end) throw fault("an array does not end where it should");
    return nested(dimensions, elements);
  };
}

/** What reads the cells of a built-in type; undefined where it is not known here. */
function cellOf(typeOid: number, parsers: Parsers): Cell | undefined {
  const scalar = SCALARS.get(typeOid);
  const range = RANGES.get(typeOid);
  const bound = SCALARS.get(range?.[1] ?? 0);
  const text = scalar?.text ?? (bound && rangeAt(bound.text));
  if (text !== undefined) {
    const parser = parsers[scalar?.name ?? range?.[0] ?? ""];
    if (parser !== undefined) return (buffer, start, end) => parser(text(buffer, start, end));
    return scalar?.value ?? text;
  }
  const element = ARRAYS.get(typeOid);
  const read = element === undefined ? undefined : cellOf(element, parsers);
  return read && arrayAt(read);
}

/** Whether packed rows with these columns can be read. */
export function decodable(columns: readonly Column[]): boolean {
  return columns.every(({ typeOid }) => SCALARS.has(typeOid) || RANGES.has(typeOid) || ARRAYS.has(typeOid));
}

/** How rows are given: as an object by the columns' names, or as an array. */
export type RowMode = "object" | "array";

/** Reads the rows of one answer. */
export class RowDecoder {
  readonly #columns: readonly Column[];
  readonly #parsers: Parsers;
  readonly #names: readonly string[] | undefined;
  readonly #template: Record<string, unknown>;
  #cells: Cell[] | undefined;

  constructor(columns: readonly Column[], parsers: Parsers, mode: RowMode) {
    this.#columns = columns;
    this.#parsers = parsers;
    const names = columns.map((column) => column.name);
    this.#names = mode === "object" ? names : undefined;
    // Its entries are own properties, so that no column's name means anything to JavaScript.
    this.#template = Object.fromEntries(names.map((name) => [name, null]));
    if (mode === "object" && new Set(names).size !== names.length) {
      const twice = names.find((name, at) => names.indexOf(name) !== at);
      throw new InternalError(`the answer has two columns ${JSON.stringify(twice)}, of which an object holds one`, {
        hint: 'name them apart by AS, or ask for rows as arrays: { rowMode: "array" }',
        answered: true,
        outcome: "unknown",
      });
    }
  }

  /** Appends the rows of one message. */
  read(rows: Rows | undefined, into: unknown[]): void {
    const encoding = rows?.encoding;
    if (encoding === undefined) return;
    if (encoding.$case === "packed") {
      this.#packed(encoding.value.cells, encoding.value.rowCount, into);
      return;
    }
    for (const row of encoding.value.rows) {
      if (row.values.length !== this.#columns.length) throw fault("a row has another number of values than columns");
      into.push(this.#row((at) => decodeValue(row.values[at], this.#columns[at]?.typeName ?? "", this.#parsers)));
    }
  }

  #row(value: (at: number) => unknown): unknown {
    const names = this.#names;
    if (names === undefined) return this.#columns.map((_, at) => value(at));
    const row = { ...this.#template };
    for (let at = 0; at < names.length; at++) row[names[at] as string] = value(at);
    return row;
  }

  #packed(cells: Buffer, count: number, into: unknown[]): void {
    this.#cells ??= this.#columns.map(({ typeOid, typeName, name }) => {
      const cell = cellOf(typeOid, this.#parsers);
      if (cell === undefined) throw fault(`column ${name} of type ${typeName} has no packed form here`);
      return cell;
    });
    const readers = this.#cells;
    const end = cells.length;
    let at = 0;
    const next = (column: number): unknown => {
      if (at + 4 > end) throw fault("packed rows end early");
      const length = cells.readInt32BE(at);
      at += 4;
      if (length < 0) return null;
      const start = at;
      at += length;
      if (at > end) throw fault("packed rows end early");
      return (readers[column] as Cell)(cells, start, at);
    };
    for (let row = 0; row < count; row++) into.push(this.#row(next));
    if (at !== end) throw fault("packed rows do not end where they should");
  }
}

function infinityOf(infinity: InfinityNumber): string | undefined {
  if (infinity === InfinityNumber.POSITIVE) return "infinity";
  return infinity === InfinityNumber.NEGATIVE ? "-infinity" : undefined;
}

function typedTimestamp(given: Timestamp, zoned: boolean): string {
  const seconds = Number(given.seconds);
  const days = Math.floor(seconds / 86_400);
  const ofDay = (seconds - days * 86_400) * 1_000_000 + given.micros;
  return infinityOf(given.infinity) ?? timestampText(days, ofDay, zoned);
}

/** The text of a typed value, and what it is by default where that is not its text. */
function typedForms(value: Value, typeName: string): { text: string; value?: unknown } {
  const kind = value.kind;
  switch (kind?.$case) {
    case "bool":
      return { text: kind.value ? "t" : "f", value: kind.value };
    case "int64":
      return { text: String(kind.value), value: typeName === "int8" ? kind.value : Number(kind.value) };
    case "double": {
      const single = typeName === "float4";
      const number = single ? shortestSingle(kind.value) : kind.value;
      return { text: floatText(number, single), value: number };
    }
    case "bytes":
      return { text: `\\x${kind.value.toString("hex")}`, value: Buffer.from(kind.value) };
    case "json":
      return { text: kind.value, value: parseJson(kind.value) };
    case "timestamp":
    case "timestamptz":
      return { text: typedTimestamp(kind.value, kind.$case === "timestamptz") };
    case "date":
      return { text: infinityOf(kind.value.infinity) ?? dateText(kind.value.days) };
    case "time":
      return { text: clockText(Number(kind.value)) };
    case "interval":
      return {
        text: infinityOf(kind.value.infinity) ?? intervalText(kind.value.months, kind.value.days, kind.value.micros),
      };
    case "other":
      return { text: kind.value.text };
    case "numeric":
    case "text":
    case "uuid":
      return { text: kind.value };
    default:
      throw fault("a value has no kind that is known here");
  }
}

/** Reads a typed value into what the packed cells become. */
export function decodeValue(value: Value | undefined, typeName: string, parsers: Parsers): unknown {
  const kind = value?.kind;
  if (value === undefined || kind === undefined) throw fault("a value has no kind");
  if (kind.$case === "null") return null;
  if (kind.$case === "opaque") return new Opaque(kind.value.typeName, Buffer.from(kind.value.data));
  if (kind.$case === "array") {
    const elements = kind.value.elements.map((element) => decodeValue(element, kind.value.elementType, parsers));
    return nested(kind.value.dimensions, elements);
  }
  const parser = parsers[kind.$case === "other" ? kind.value.typeName : typeName];
  const forms = typedForms(value, typeName);
  if (parser !== undefined) return parser(forms.text);
  return "value" in forms ? forms.value : forms.text;
}
