import { randomBytes } from "node:crypto";

/**
 * A number in JSON that no JavaScript number holds exactly, such as 1e400 or one of thirty digits behind the
 * point. Integers come as bigint instead.
 */
export class JsonNumber {
  /** Its digits, as they stand in the JSON. */
  readonly text: string;

  constructor(text: string) {
    if (!/^-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?$/.test(text)) {
      throw new TypeError(`${text} is not a number of JSON`);
    }
    this.text = text;
  }

  toString(): string {
    return this.text;
  }
}

// Fewer digits than these are held exactly by any number, so that JSON.parse alone does it.
const PERHAPS_INEXACT = /\d[\d.]{14}|\d[eE]/;
const TOKENS = /"(?:[^"\\]|\\.)*"|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?/g;
// What stands for such a number while JSON.parse or JSON.stringify works. No value of a caller's has it.
const MARK = `segue-${randomBytes(12).toString("hex")}:`;
const MARKED = new RegExp(`"${MARK}([^"]*)"`, "g");

/** Reads JSON. A number that a JavaScript number would round comes as a bigint or as a JsonNumber. */
export function parseJson(text: string): unknown {
  if (!PERHAPS_INEXACT.test(text)) return JSON.parse(text);
  const marked = text.replace(TOKENS, (token) =>
    token.startsWith('"') || isExact(token) ? token : `"${MARK}${token}"`,
  );
  return JSON.parse(marked, (_, value: unknown) => {
    if (typeof value !== "string" || !value.startsWith(MARK)) return value;
    const number = value.slice(MARK.length);
    return /[.eE]/.test(number) ? new JsonNumber(number) : BigInt(number);
  });
}

/** Writes JSON, bigints and JsonNumbers with all their digits. Undefined where the value has no JSON. */
export function stringifyJson(value: unknown): string | undefined {
  let marks = false;
  const text = JSON.stringify(value, (_, inner: unknown) => {
    if (typeof inner === "bigint" || inner instanceof JsonNumber || Object.is(inner, -0)) {
      marks = true;
      return `${MARK}${inner === 0 ? "-0" : inner}`;
    }
    if (typeof inner === "number" && !Number.isFinite(inner)) throw new TypeError(`JSON has no ${inner}`);
    return inner;
  }) as string | undefined;
  return marks ? text?.replace(MARKED, "$1") : text;
}

function isExact(token: string): boolean {
  const number = Number(token);
  if (!/[.eE]/.test(token)) return Number.isSafeInteger(number);
  return Number.isFinite(number) && digitsOf(token) === digitsOf(String(number));
}

/** The digits and their power of ten: the same for the same number. */
function digitsOf(text: string): string {
  const [mantissa = "", exponent = "0"] = text.replace("-", "").toLowerCase().split("e");
  const [whole = "", fraction = ""] = mantissa.split(".");
  const digits = (whole + fraction).replace(/^0+/, "");
  const kept = digits.replace(/0+$/, "");
  if (kept === "") return "0";
  return `${kept}e${Number(exponent) - fraction.length + digits.length - kept.length}`;
}
