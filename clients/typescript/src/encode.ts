import { isUtf8 } from "node:buffer";
import { types } from "node:util";
import { InterfaceError } from "./errors.js";
import { JsonNumber, stringifyJson } from "./json.js";
import { NullValue } from "./protocol/google/protobuf/struct.js";
import { type Array as ArrayMessage, Infinity as InfinityNumber, type Value } from "./protocol/segue/v1/value.js";
import { type Dimension, floatText, timestampText } from "./text.js";
import { BoundedArray, Interval, Json, Numeric, Opaque, Range } from "./values.js";

type Kind = NonNullable<Value["kind"]>;

const INT8_MAX = 2n ** 63n - 1n;
const INT8_MIN = -(2n ** 63n);
const MS_PER_DAY = 86_400_000;
const DIMENSION_MAX = 2 ** 32 - 1;

/** Makes the parameters of a statement, by the types that it asks for where they are known. */
export function encodeAll(params: readonly unknown[], typeNames?: readonly string[]): Value[] {
  return params.map((param, at) => {
    try {
      return { kind: encode(param, typeNames?.[at]) };
    } catch (error) {
      throw new InterfaceError(`parameter $${at + 1}: ${(error as Error).message}`, { cause: error });
    }
  });
}

/** Whether values of its kind are often given for types that take another: see `encode`. */
export function mayMisfit(param: unknown): boolean {
  return !(
    param === null ||
    typeof param === "boolean" ||
    typeof param === "bigint" ||
    Number.isSafeInteger(param) ||
    param instanceof Numeric
  );
}

/**
 * Makes a parameter. The sidecar takes a value of its own kind only: where the statement's type is known, the
 * value is made to that kind as far as nothing is lost; what does not fit is left to the sidecar to refuse.
 */
function encode(param: unknown, typeName: string | undefined): Kind {
  if (param === null) return { $case: "null", value: NullValue.NULL_VALUE };
  const fitted = typeName === undefined ? undefined : fit(param, typeName);
  return fitted ?? plain(param, typeName);
}

function plain(param: unknown, typeName?: string): Kind {
  switch (typeof param) {
    case "string":
      return text(param);
    case "boolean":
      return { $case: "bool", value: param };
    case "bigint":
      return param >= INT8_MIN && param <= INT8_MAX ? { $case: "int64", value: param } : digits(String(param));
    case "number":
      if (Number.isSafeInteger(param) && !Object.is(param, -0)) return { $case: "int64", value: BigInt(param) };
      return { $case: "double", value: param };
    case "object":
      return ofObject(param as object, typeName);
    case "undefined":
      throw new TypeError("it is undefined; give null for NULL");
    default:
      throw new TypeError(`a ${typeof param} cannot be a parameter`);
  }
}

function ofObject(param: object, typeName: string | undefined): Kind {
  if (types.isUint8Array(param))
    return { $case: "bytes", value: Buffer.from(param.buffer, param.byteOffset, param.byteLength) };
  if (param instanceof Date) return text(dateForm(param));
  if (Array.isArray(param)) return ofArray(shapeOf(param), typeName);
  if (param instanceof Numeric) return digits(param.text);
  if (param instanceof Interval) {
    const { months, days, micros } = param;
    return { $case: "interval", value: { months, days, micros, infinity: InfinityNumber.UNSPECIFIED } };
  }
  if (param instanceof Range) return text(String(param));
  if (param instanceof BoundedArray) return ofArray(param, typeName);
  if (param instanceof Opaque) {
    return { $case: "opaque", value: { typeName: param.typeName, data: Buffer.from(param.data) } };
  }
  if (param instanceof Json) return jsonOf(param.value);
  if (param instanceof JsonNumber || isPlain(param)) return jsonOf(param);
  throw new TypeError(`a ${param.constructor.name} cannot be a parameter; give a string, or json(…)`);
}

function isPlain(param: object): boolean {
  const prototype: unknown = Object.getPrototypeOf(param);
  return prototype === Object.prototype || prototype === null || "toJSON" in param;
}

function text(value: string): Kind {
  if (!value.isWellFormed()) throw new TypeError("the string has half of a surrogate pair; give bytes as a Buffer");
  return { $case: "text", value };
}

function digits(value: string): Kind {
  return { $case: "numeric", value };
}

function jsonOf(value: unknown): Kind {
  const made = stringifyJson(value);
  if (made === undefined) throw new TypeError("the value has no JSON");
  return { $case: "json", value: made };
}

/** As a text it goes into timestamps with and without a zone and into dates alike, in UTC. */
function dateForm(date: Date): string {
  const ms = date.getTime();
  if (Number.isNaN(ms)) throw new TypeError("the Date is invalid");
  const days = Math.floor(ms / MS_PER_DAY);
  return timestampText(days, (ms - days * MS_PER_DAY) * 1000, true);
}

/** The dimensions of nested arrays, and their elements row by row. */
function shapeOf(array: readonly unknown[]): BoundedArray {
  const dimensions: Dimension[] = [];
  let level: readonly unknown[] = array;
  for (;;) {
    dimensions.push({ length: level.length, lowerBound: 1 });
    const first = level[0];
    if (!Array.isArray(first)) break;
    level = first;
  }
  const elements: unknown[] = [];
  const flatten = (inner: readonly unknown[], depth: number): void => {
    const { length } = dimensions[depth] as Dimension;
    if (inner.length !== length) {
      throw new TypeError(`its rows have ${length} and ${inner.length} elements; all must have as many`);
    }
    for (const element of inner) {
      if (depth + 1 === dimensions.length) {
        if (Array.isArray(element)) throw new TypeError("an array and an element stand side by side");
        elements.push(element);
      } else if (Array.isArray(element)) {
        flatten(element, depth + 1);
      } else {
        throw new TypeError("an array and an element stand side by side");
      }
    }
  };
  flatten(array, 0);
  return new BoundedArray(elements.length === 0 ? [] : dimensions, elements);
}

function ofArray(array: BoundedArray, typeName: string | undefined): Kind {
  const element = typeName?.startsWith("_") ? typeName.slice(1) : undefined;
  for (const { length, lowerBound } of array.dimensions) {
    if (!(Number.isInteger(length) && length >= 0 && length <= DIMENSION_MAX && (lowerBound | 0) === lowerBound)) {
      throw new TypeError(`a dimension of ${length} elements from ${lowerBound} is out of range`);
    }
  }
  const value: ArrayMessage = {
    elementType: element ?? "text",
    dimensions: array.dimensions.map(({ length, lowerBound }) => ({ length, lowerBound })),
    elements: array.elements.map((one, at) => {
      try {
        return { kind: encode(one, element) };
      } catch (error) {
        throw new TypeError(`element ${at}: ${(error as Error).message}`);
      }
    }),
  };
  return { $case: "array", value };
}

const INTEGERS: ReadonlySet<string> = new Set(["int2", "int4", "int8", "oid"]);
const TEXTS: ReadonlySet<string> = new Set(["text", "varchar", "bpchar", "name", "citext"]);
const BOOLEANS: Readonly<Record<string, boolean>> = {
  true: true,
  t: true,
  on: true,
  yes: true,
  "1": true,
  false: false,
  f: false,
  off: false,
  no: false,
  "0": false,
};

/** A value of the kind that the type takes, where it is one already by another name. */
function fit(param: unknown, typeName: string): Kind | undefined {
  if (INTEGERS.has(typeName)) return fitInteger(param);
  if (TEXTS.has(typeName)) return fitText(param);
  switch (typeName) {
    case "numeric":
      if (typeof param === "number") return digits(Number.isFinite(param) ? decimal(param) : floatText(param, false));
      return typeof param === "string" ? digits(param) : undefined;
    case "float4":
    case "float8":
      if (typeof param === "number") return { $case: "double", value: param };
      return typeof param === "string" ? fitDouble(param) : undefined;
    case "bool": {
      const value = typeof param === "string" ? BOOLEANS[param.toLowerCase()] : undefined;
      return value === undefined ? undefined : { $case: "bool", value };
    }
    case "json":
    case "jsonb":
      return fitJson(param);
    case "bytea":
      return typeof param === "string" ? fitBytes(param) : undefined;
    case "interval":
      return undefined;
    default:
      return typeof param === "string" || typeName.startsWith("_") ? undefined : fitOther(param);
  }
}

function fitInteger(param: unknown): Kind | undefined {
  const form = param instanceof Numeric ? param.text : param;
  if (typeof form !== "string" || !/^\s*[+-]?\d+\s*$/.test(form)) return undefined;
  const number = BigInt(form.trim().replace(/^\+/, ""));
  return number >= INT8_MIN && number <= INT8_MAX ? { $case: "int64", value: number } : digits(String(number));
}

const FLOAT_WORDS: Readonly<Record<string, number>> = {
  nan: Number.NaN,
  infinity: Infinity,
  inf: Infinity,
  "+infinity": Infinity,
  "-infinity": -Infinity,
  "-inf": -Infinity,
};

function fitDouble(param: string): Kind | undefined {
  const word = FLOAT_WORDS[param.trim().toLowerCase()];
  if (word !== undefined) return { $case: "double", value: word };
  return /^\s*[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?\s*$/.test(param)
    ? { $case: "double", value: Number(param) }
    : undefined;
}

/** A number without an exponent. */
function decimal(number: number): string {
  const form = floatText(number, false);
  const [mantissa = "", exponent] = form.split("e");
  if (exponent === undefined) return form;
  const sign = mantissa.startsWith("-") ? "-" : "";
  const [whole = "", fraction = ""] = mantissa.replace("-", "").split(".");
  const power = Number(exponent);
  if (power < 0) return `${sign}0.${"0".repeat(-power - 1)}${whole}${fraction}`;
  return `${sign}${whole}${fraction.padEnd(power, "0")}`;
}

/** A string is JSON's text already, as with other drivers of PostgreSQL. */
function fitJson(param: unknown): Kind | undefined {
  if (typeof param === "string" || param instanceof Json) return undefined;
  if (types.isUint8Array(param)) return ofUtf8(param);
  return jsonOf(param);
}

function ofUtf8(param: Uint8Array): Kind | undefined {
  return isUtf8(param) ? text(Buffer.from(param).toString("utf8")) : undefined;
}

function fitBytes(param: string): Kind | undefined {
  if (/^\\x(?:[0-9a-fA-F]{2})*$/.test(param)) return { $case: "bytes", value: Buffer.from(param.slice(2), "hex") };
  return param.includes("\\") ? undefined : { $case: "bytes", value: Buffer.from(param, "utf8") };
}

function fitText(param: unknown): Kind | undefined {
  switch (typeof param) {
    case "number":
      return text(floatText(param, false));
    case "bigint":
    case "boolean":
      return text(String(param));
    case "object":
      return param instanceof Numeric || param instanceof Interval ? text(String(param)) : fitOther(param);
    default:
      return undefined;
  }
}

/** What is a text already, for a type that PostgreSQL reads from its text. */
function fitOther(param: unknown): Kind | undefined {
  if (types.isUint8Array(param)) return ofUtf8(param);
  if (param instanceof Json) return text(stringifyJson(param.value) ?? "null");
  return typeof param === "object" && param !== null && Object.getPrototypeOf(param) === Object.prototype
    ? text(stringifyJson(param) ?? "null")
    : undefined;
}
