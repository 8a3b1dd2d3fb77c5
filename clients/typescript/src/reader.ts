import { type Column, RowDecoder, type RowMode } from "./decode.js";
import { InternalError } from "./errors.js";
import type { Footer, QueryResponse } from "./protocol/segue/v1/sql.js";
import type { Rows } from "./protocol/segue/v1/value.js";
import type { Parsers } from "./values.js";

/** Reads the messages of one answer to Query. */
export class Reader {
  readonly #parsers: Parsers;
  readonly #mode: RowMode;
  readonly #effect: boolean;
  #decoder: RowDecoder | undefined;
  #footer: Footer | undefined;
  #count = 0;
  columns: Column[] = [];
  transactionId = "";
  bytes = 0;

  constructor(parsers: Parsers, mode: RowMode, effect: boolean) {
    this.#parsers = parsers;
    this.#mode = mode;
    this.#effect = effect;
  }

  /** Counts the rows of the next message and, where they are wanted, appends them. */
  read(part: QueryResponse, into: unknown[], wanted: boolean): void {
    this.#note(part);
    this.#count += countOf(part.rows);
    if (!wanted) return;
    if (part.header !== undefined) this.#decoder = new RowDecoder(this.columns, this.#parsers, this.#mode);
    this.#decoder?.read(part.rows, into);
  }

  #note(part: QueryResponse): void {
    if (part.header !== undefined) {
      this.columns = part.header.columns;
      this.transactionId = part.header.transactionId;
    }
    if (part.footer !== undefined) this.#footer = part.footer;
    if (part.rows?.encoding?.$case === "packed") this.bytes += part.rows.encoding.value.cells.length;
  }

  /** The footer; an error where the answer is not whole. */
  end(): Footer {
    const footer = this.#footer;
    if (footer !== undefined && Number(footer.rowCount) === this.#count) return footer;
    throw new InternalError("the answer ended early without saying so", {
      status: "UNAVAILABLE",
      retryable: !this.#effect,
      retryDelayMs: this.#effect ? undefined : 0,
      outcome: this.#effect ? "unknown" : "not_applied",
    });
  }
}

function countOf(rows: Rows | undefined): number {
  const encoding = rows?.encoding;
  if (encoding === undefined) return 0;
  return encoding.$case === "packed" ? encoding.value.rowCount : encoding.value.rows.length;
}
