/**
 * The Node client of segue, the sidecar that moves a live application from one PostgreSQL database to another.
 *
 * @packageDocumentation
 */

export {
  type BatchStatement,
  Client,
  connect,
  type Description,
  type Info,
  Queryable,
  type RetryOptions,
  type Row,
  type RunOptions,
  retried,
  Transaction,
} from "./client.js";
export type { Column, RowMode } from "./decode.js";
export * from "./errors.js";
export { JsonNumber, parseJson, stringifyJson } from "./json.js";
export type { Options, TlsOptions } from "./options.js";
export type { BatchResult, CallOptions, Result } from "./results.js";
export { Named, named, Sql, type Statement, sql } from "./statements.js";
export { Tokens } from "./tokens.js";
export type { Isolation, TransactionOptions } from "./transaction.js";
export {
  BoundedArray,
  type Dimension,
  epochMicros,
  exactJson,
  Interval,
  Json,
  json,
  jsonTextParsers,
  Numeric,
  nodePostgresParsers,
  numeric,
  Opaque,
  type Parser,
  type Parsers,
  Range,
  toDate,
  toNumber,
} from "./values.js";
