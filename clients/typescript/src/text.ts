/** Values as PostgreSQL writes them. */

export const MICROS_PER_SECOND = 1_000_000;
export const MICROS_PER_HOUR = 3_600 * MICROS_PER_SECOND;
export const MICROS_PER_DAY = 24 * MICROS_PER_HOUR;
const DAYS_PER_ERA = 146_097;

const TWO = Array.from({ length: 100 }, (_, number) => String(number).padStart(2, "0"));

function two(number: number): string {
  return TWO[number] ?? String(number);
}

interface Day {
  text: string;
  bc: boolean;
}

let lastDays = Number.NaN;
let lastDay: Day = { text: "", bc: false };

/** The day so many days after 1970-01-01, without its era. Rows that follow each other often share it. */
function dayOf(days: number): Day {
  if (days === lastDays) return lastDay;
  // Years that begin in March, in eras of 400 of them.
  const shifted = days + 719_468;
  const era = Math.floor(shifted / DAYS_PER_ERA);
  const dayOfEra = shifted - era * DAYS_PER_ERA;
  const yearOfEra = Math.floor(
    (dayOfEra - Math.floor(dayOfEra / 1460) + Math.floor(dayOfEra / 36_524) - Math.floor(dayOfEra / 146_096)) / 365,
  );
  const dayOfYear = dayOfEra - (365 * yearOfEra + Math.floor(yearOfEra / 4) - Math.floor(yearOfEra / 100));
  const monthFromMarch = Math.floor((5 * dayOfYear + 2) / 153);
  const day = dayOfYear - Math.floor((153 * monthFromMarch + 2) / 5) + 1;
  const month = monthFromMarch < 10 ? monthFromMarch + 3 : monthFromMarch - 9;
  const year = yearOfEra + era * 400 + (month <= 2 ? 1 : 0);
  const bc = year <= 0;
  lastDays = days;
  lastDay = { text: `${String(bc ? 1 - year : year).padStart(4, "0")}-${two(month)}-${two(day)}`, bc };
  return lastDay;
}

/** A day by its number of days after 1970-01-01. */
export function dateText(days: number): string {
  const day = dayOf(days);
  return day.bc ? `${day.text} BC` : day.text;
}

/** A time of day by its microseconds after midnight. */
export function clockText(micros: number): string {
  const seconds = Math.floor(micros / MICROS_PER_SECOND);
  const fraction = micros - seconds * MICROS_PER_SECOND;
  const minutes = Math.floor(seconds / 60);
  const text = `${two(Math.floor(minutes / 60))}:${two(minutes % 60)}:${two(seconds % 60)}`;
  return fraction === 0 ? text : `${text}.${String(fraction).padStart(6, "0").replace(/0+$/, "")}`;
}

/** A point in time; where it has a zone, in UTC. */
export function timestampText(days: number, microsOfDay: number, zoned: boolean): string {
  const day = dayOf(days);
  const text = `${day.text} ${clockText(microsOfDay)}${zoned ? "+00" : ""}`;
  return day.bc ? `${text} BC` : text;
}

/** A zone by its seconds east of UTC. */
export function zoneText(seconds: number): string {
  const size = Math.abs(seconds);
  let text = `${seconds < 0 ? "-" : "+"}${two(Math.floor(size / 3600))}`;
  if (size % 3600 !== 0) text += `:${two(Math.floor(size / 60) % 60)}`;
  if (size % 60 !== 0) text += `:${two(size % 60)}`;
  return text;
}

/** A span of time in PostgreSQL's three units. */
export function intervalText(months: number, days: number, micros: bigint): string {
  const parts: string[] = [];
  let negative = false;
  const add = (value: number, unit: string): void => {
    if (value === 0) return;
    parts.push(`${negative && value > 0 ? "+" : ""}${value} ${unit}${value === 1 ? "" : "s"}`);
    negative = value < 0;
  };
  add(Math.trunc(months / 12), "year");
  add(months % 12, "mon");
  add(days, "day");
  if (micros === 0n && parts.length > 0) return parts.join(" ");
  const size = micros < 0n ? -micros : micros;
  const hours = size / BigInt(MICROS_PER_HOUR);
  const rest = clockText(Number(size % BigInt(MICROS_PER_HOUR)));
  const sign = micros < 0n ? "-" : negative ? "+" : "";
  parts.push(`${sign}${String(hours).padStart(2, "0")}${rest.slice(2)}`);
  return parts.join(" ");
}

/** The shortest digits that read back the same, in PostgreSQL's form. */
export function floatText(number: number, single: boolean): string {
  if (Number.isNaN(number)) return "NaN";
  if (!Number.isFinite(number)) return number > 0 ? "Infinity" : "-Infinity";
  if (number === 0) return Object.is(number, -0) ? "-0" : "0";
  const [mantissa = "", exponent = ""] = number.toExponential().split("e");
  const power = Number(exponent);
  if (power < -4 || power >= (single ? 6 : 15)) {
    return `${mantissa}e${power < 0 ? "-" : "+"}${two(Math.abs(power))}`;
  }
  return power < 0
    ? `${number < 0 ? "-" : ""}0.${"0".repeat(-power - 1)}${mantissa.replace(/[-.]/g, "")}`
    : String(number);
}

/** The number with the fewest digits that is the same float4. */
export function shortestSingle(number: number): number {
  if (number === 0 || Number.isInteger(number) || !Number.isFinite(number)) return number;
  for (let digits = Math.abs(number) < 1.2e-38 ? 1 : 6; digits < 9; digits++) {
    const shorter = Number(number.toPrecision(digits));
    if (Math.fround(shorter) === number) return shorter;
  }
  return Number(number.toPrecision(9));
}

/** An IP address, and its prefix where that is not the whole address or is always written. */
export function networkText(address: Uint8Array, bits: number, alwaysBits: boolean): string {
  const text = address.length === 4 ? address.join(".") : ipv6Text(address);
  return alwaysBits || bits !== address.length * 8 ? `${text}/${bits}` : text;
}

function ipv6Text(address: Uint8Array): string {
  const words = Array.from({ length: 8 }, (_, at) => ((address[2 * at] ?? 0) << 8) | (address[2 * at + 1] ?? 0));
  let best = { at: -1, length: 1 };
  for (let at = 0; at < 8; at++) {
    let length = 0;
    while (words[at + length] === 0) length++;
    if (length > best.length) best = { at, length };
    at += length;
  }
  const ended = best.at === 0 && (best.length === 6 || (best.length === 5 && words[5] === 0xffff));
  if (ended) return `${best.length === 6 ? "::" : "::ffff:"}${address.subarray(12).join(".")}`;
  const hex = words.map((word) => word.toString(16));
  if (best.at < 0) return hex.join(":");
  return `${hex.slice(0, best.at).join(":")}::${hex.slice(best.at + best.length).join(":")}`;
}

/** One dimension of an array. */
export interface Dimension {
  /** The number of elements along it. */
  length: number;
  /** The index of the first one: 1 unless the array says otherwise. */
  lowerBound: number;
}

/** An array; an element of null is NULL. */
export function arrayText(dimensions: readonly Dimension[], elements: readonly (string | null)[]): string {
  if (dimensions.length === 0) return "{}";
  const shifted = dimensions.some((dimension) => dimension.lowerBound !== 1);
  const bounds = dimensions.map(({ length, lowerBound }) => `[${lowerBound}:${lowerBound + length - 1}]`).join("");
  let next = 0;
  const level = (depth: number): string => {
    const inner: string[] = [];
    for (let at = 0; at < (dimensions[depth]?.length ?? 0); at++) {
      if (depth + 1 < dimensions.length) {
        inner.push(level(depth + 1));
      } else {
        const element = elements[next++] ?? null;
        inner.push(element === null ? "NULL" : quotedElement(element));
      }
    }
    return `{${inner.join(",")}}`;
  };
  return `${shifted ? `${bounds}=` : ""}${level(0)}`;
}

function quotedElement(text: string): string {
  if (text !== "" && !/^null$/i.test(text) && !/[{},"\\\s]/.test(text)) return text;
  return `"${text.replace(/["\\]/g, "\\$&")}"`;
}

/** A bound of a range as PostgreSQL quotes it. */
export function quotedBound(text: string): string {
  if (text !== "" && !/["\\()[\],\s]/.test(text)) return text;
  return `"${text.replace(/["\\]/g, "$&$&")}"`;
}
