/** pg-boss by a sidecar: `new PgBoss({ db: connection(client), migrate: false })`. */

import { type Client, nodePostgresParsers, type Row } from "segue-client";

/** The option `db` of pg-boss. */
export interface Connection {
  // biome-ignore lint/suspicious/noExplicitAny: the type is pg-boss's.
  executeSql(text: string, values?: any[]): Promise<{ rows: any[] }>;
}

/**
 * Runs what pg-boss asks for. Its texts of several statements are transactions: `BEGIN; …; COMMIT`. A sidecar takes
 * one statement at a time, and the transaction by its own calls.
 */
export function connection(client: Client): Connection {
  const options = { parsers: nodePostgresParsers };
  return {
    async executeSql(text, values = []) {
      const statements = split(text);
      if (statements.length === 1) {
        const params = values.map((value: unknown) => value ?? null);
        return { rows: (await client.any(text, params, options)).rows };
      }
      const inner = statements.filter((one) => !/^(begin|commit)$/i.test(one));
      const rows = await client.transaction(async (transaction) => {
        let last: Row[] = [];
        for (const [at, statement] of inner.entries()) {
          const commit = at === inner.length - 1;
          last = (await transaction.execute(statement, [], { ...options, commit })).rows;
        }
        return last;
      });
      return { rows };
    },
  };
}

// Semicolons inside strings, names, comments and texts between dollars part nothing.
const PIECES = /'(?:[^']|'')*'|"(?:[^"]|"")*"|\$(\w*)\$[\s\S]*?\$\1\$|--[^\n]*|\/\*[\s\S]*?\*\/|;|[^;'"$/-]+|[\s\S]/g;

function split(text: string): string[] {
  const statements = [""];
  for (const [piece] of text.matchAll(PIECES)) {
    if (piece === ";") statements.push("");
    else statements[statements.length - 1] += piece;
  }
  return statements.map((statement) => statement.trim()).filter((statement) => statement !== "");
}
