/**
 * Drizzle through its proxy driver: `drizzle(proxy(client))` of `drizzle-orm/pg-proxy`.
 *
 * @packageDocumentation
 */

import type { Queryable } from "./client.js";
import type { CallOptions } from "./results.js";
import { jsonTextParsers } from "./values.js";

/** What `drizzle-orm/pg-proxy` calls. */
// biome-ignore lint/suspicious/noExplicitAny: the type is Drizzle's.
export type RemoteCallback = (sql: string, params: any[], method: "all" | "execute") => Promise<{ rows: any[] }>;

/**
 * Makes Drizzle's callback of a client or of a transaction. Drizzle's proxy has no transactions of its own: run
 * `client.transaction((tx) => … drizzle(proxy(tx)) …)`.
 */
export function proxy(where: Queryable, options: CallOptions = {}): RemoteCallback {
  return async (sql, params, method) => {
    const { rows } = await where.any(
      sql,
      params.map((param: unknown) => param ?? null),
      // Drizzle reads JSON itself, and takes the rows of its own queries as arrays.
      { parsers: jsonTextParsers, ...options, rowMode: method === "all" ? "array" : "object" },
    );
    return { rows };
  };
}
