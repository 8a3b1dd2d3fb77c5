/**
 * A dialect for Kysely: queries go through a sidecar.
 *
 * @packageDocumentation
 */

import {
  type CompiledQuery,
  type DatabaseConnection,
  type DatabaseIntrospector,
  type Dialect,
  type DialectAdapter,
  type Driver,
  type IsolationLevel,
  type Kysely,
  type Transaction as KyselyTransaction,
  PostgresAdapter,
  PostgresIntrospector,
  PostgresQueryCompiler,
  type QueryCompiler,
  type QueryResult,
  type TransactionSettings,
} from "kysely";
import { type Client, type RetryOptions, type Row, retried, type Transaction } from "./client.js";
import { InterfaceError } from "./errors.js";
import type { CallOptions, Result } from "./results.js";
import type { Isolation } from "./transaction.js";
import type { Parsers } from "./values.js";

/** How the dialect is made. */
export interface SegueDialectConfig {
  /** The client, or what makes it with the first query. Kysely's `destroy` closes it. */
  client: Client | (() => Promise<Client>);
  /** What values become, in place of the client's own parsers. `nodePostgresParsers` gives what node-postgres gives. */
  parsers?: Parsers | undefined;
}

/** `new Kysely<Database>({ dialect: new SegueDialect({ client }) })` */
export class SegueDialect implements Dialect {
  readonly #config: SegueDialectConfig;

  constructor(config: SegueDialectConfig) {
    this.#config = config;
  }

  createAdapter(): DialectAdapter {
    return new PostgresAdapter();
  }

  createDriver(): Driver {
    return new SegueDriver(this.#config);
  }

  // biome-ignore lint/suspicious/noExplicitAny: the type is Kysely's.
  createIntrospector(db: Kysely<any>): DatabaseIntrospector {
    return new PostgresIntrospector(db);
  }

  createQueryCompiler(): QueryCompiler {
    return new PostgresQueryCompiler();
  }
}

/** How a function is run in a transaction of Kysely's. */
export interface RunOptions extends RetryOptions {
  isolation?: Isolation | undefined;
  readOnly?: boolean | undefined;
}

/**
 * Runs a function in a transaction of Kysely's, and again where all of it failed with an error that may pass: a
 * serialization failure, or a change of the primary.
 */
export function inTransaction<Database, T>(
  db: Kysely<Database>,
  run: (transaction: KyselyTransaction<Database>) => Promise<T>,
  options: RunOptions = {},
): Promise<T> {
  return retried(() => {
    let builder = db.transaction();
    if (options.isolation !== undefined) builder = builder.setIsolationLevel(options.isolation);
    if (options.readOnly === true) builder = builder.setAccessMode("read only");
    return builder.execute(run);
  }, options);
}

const LEVELS: Readonly<Partial<Record<IsolationLevel, Isolation>>> = {
  // PostgreSQL runs it so.
  "read uncommitted": "read committed",
  "read committed": "read committed",
  "repeatable read": "repeatable read",
  serializable: "serializable",
};

/** A savepoint's name as an identifier. */
function quoted(name: string): string {
  return `"${name.replaceAll('"', '""')}"`;
}

class SegueDriver implements Driver {
  readonly #config: SegueDialectConfig;
  #client: Promise<Client> | undefined;

  constructor(config: SegueDialectConfig) {
    this.#config = config;
  }

  async init(): Promise<void> {
    const { client } = this.#config;
    this.#client ??= typeof client === "function" ? client() : Promise.resolve(client);
    await this.#client;
  }

  async acquireConnection(): Promise<SegueConnection> {
    await this.init();
    return new SegueConnection(await (this.#client as Promise<Client>), this.#config.parsers);
  }

  async beginTransaction(connection: SegueConnection, settings: TransactionSettings): Promise<void> {
    const isolation = settings.isolationLevel === undefined ? undefined : LEVELS[settings.isolationLevel];
    if (settings.isolationLevel !== undefined && isolation === undefined) {
      throw new InterfaceError(`PostgreSQL has no isolation level ${settings.isolationLevel}`);
    }
    connection.transaction = connection.client.begin({ isolation, readOnly: settings.accessMode === "read only" });
  }

  async commitTransaction(connection: SegueConnection): Promise<void> {
    await connection.transaction?.commit();
    connection.transaction = undefined;
  }

  async rollbackTransaction(connection: SegueConnection): Promise<void> {
    await connection.transaction?.rollback();
    connection.transaction = undefined;
  }

  async savepoint(connection: SegueConnection, name: string): Promise<void> {
    await connection.transaction?.execute(`SAVEPOINT ${quoted(name)}`);
  }

  async rollbackToSavepoint(connection: SegueConnection, name: string): Promise<void> {
    await connection.transaction?.execute(`ROLLBACK TO SAVEPOINT ${quoted(name)}`);
  }

  async releaseSavepoint(connection: SegueConnection, name: string): Promise<void> {
    await connection.transaction?.execute(`RELEASE SAVEPOINT ${quoted(name)}`);
  }

  async releaseConnection(connection: SegueConnection): Promise<void> {
    await connection.transaction?.rollback();
    connection.transaction = undefined;
  }

  async destroy(): Promise<void> {
    const client = await this.#client;
    await client?.close();
  }
}

/** One of Kysely's connections, of which all go by one client. */
class SegueConnection implements DatabaseConnection {
  readonly client: Client;
  readonly #options: CallOptions;
  transaction: Transaction | undefined;

  constructor(client: Client, parsers: Parsers | undefined) {
    this.client = client;
    this.#options = { rowMode: "array", parsers };
  }

  async executeQuery<R>(query: CompiledQuery): Promise<QueryResult<R>> {
    const where = this.transaction ?? this.client;
    const result = await where.any<unknown[]>(query.sql, paramsOf(query), this.#options);
    const rows = objectsOf<R>(result);
    // What a read answered has the side that did.
    return result.side === undefined ? { rows, numAffectedRows: BigInt(result.affectedRows) } : { rows };
  }

  async *streamQuery<R>(query: CompiledQuery, chunkSize = 100): AsyncIterableIterator<QueryResult<R>> {
    if (!(Number.isInteger(chunkSize) && chunkSize > 0))
      throw new InterfaceError("chunkSize must be a positive integer");
    const where = this.transaction ?? this.client;
    let rows: R[] = [];
    for await (const row of where.stream<Row>(query.sql, paramsOf(query), { ...this.#options, rowMode: "object" })) {
      rows.push(row as R);
      if (rows.length < chunkSize) continue;
      yield { rows };
      rows = [];
    }
    if (rows.length > 0) yield { rows };
  }
}

/** Kysely's users give undefined for NULL, as with its other dialects. */
function paramsOf(query: CompiledQuery): unknown[] {
  return query.parameters.map((param) => param ?? null);
}

/** Of columns with the same name the last one counts, as with Kysely's other dialects. */
function objectsOf<R>({ columns, rows }: Result<unknown[]>): R[] {
  return rows.map((row) => {
    const made: Row = {};
    columns.forEach(({ name }, at) => {
      made[name] = row[at];
    });
    return made as R;
  });
}
