/** An adapter of Any-DB over the client, as the adapters' own tests (any-db-adapter-spec) ask for one. */

import { EventEmitter } from "node:events";

import pg = require("pg");
import segue = require("segue-client");

type Callback = (error: unknown, result?: { rows: unknown[]; fields: { name: string }[]; rowCount: number }) => void;

class Query extends EventEmitter {
  readonly text: string;
  readonly values: unknown[];
  readonly callback: Callback | undefined;

  constructor(text: string, values?: unknown[] | Callback, callback?: Callback) {
    super();
    this.text = text;
    this.values = Array.isArray(values) ? values : [];
    this.callback = typeof values === "function" ? values : callback;
  }

  pause(): void {}
  resume(): void {}
}

class Connection extends EventEmitter {
  readonly adapter = adapter;
  readonly #client = segue.connect(process.env.SEGUE_URL ?? "");
  #last: Promise<unknown>;

  constructor(done?: (error: unknown, connection: Connection) => void) {
    super();
    this.#last = this.#client.then(() => {
      this.emit("open");
      done?.(null, this);
    });
  }

  query(text: string | Query, values?: unknown[] | Callback, callback?: Callback): Query {
    const query = text instanceof Query ? text : new Query(text, values, callback);
    this.emit("query", query);
    this.#last = this.#last.then(() => this.#run(query));
    return query;
  }

  async #run(query: Query): Promise<void> {
    try {
      // The suite makes its tables by itself: an operator makes them on both databases.
      const ddl = /^\s*(create|drop)/i.test(query.text);
      const { rows, columns, affectedRows } = ddl
        ? await onBoth(query.text)
        : await (await this.#client).any(query.text, query.values);
      query.emit("fields", columns);
      for (const row of rows) query.emit("data", row);
      query.emit("close");
      query.callback?.(null, { rows, fields: columns, rowCount: affectedRows });
      if (query.callback !== undefined || query.listenerCount("data") > 0) query.emit("end");
    } catch (error) {
      query.callback?.(error);
      if (query.listenerCount("error") > 0) query.emit("error", error);
      query.emit("close");
      query.emit("end");
    }
  }

  end(): void {
    this.#last = this.#last.then(async () => (await this.#client).close());
  }
}

async function onBoth(text: string): Promise<{ rows: unknown[]; columns: { name: string }[]; affectedRows: number }> {
  for (const url of [process.env.SOURCE_URL, process.env.TARGET_URL]) {
    const client = new pg.Client({ connectionString: url });
    await client.connect();
    await client.query(text).finally(() => client.end());
  }
  return { rows: [], columns: [], affectedRows: 0 };
}

const adapter = {
  name: "postgres",
  createConnection: (_url: unknown, done?: (error: unknown, connection: Connection) => void) => new Connection(done),
  createQuery: (text: string, values?: unknown[] | Callback, callback?: Callback) => new Query(text, values, callback),
};

export = adapter;
