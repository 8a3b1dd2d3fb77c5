import assert from "node:assert/strict";
import { test } from "node:test";
import {
  BoundedArray,
  type Client,
  connect,
  DataError,
  InterfaceError,
  Interval,
  JsonNumber,
  json,
  jsonTextParsers,
  nodePostgresParsers,
  numeric,
  Opaque,
  Range,
  SegueError,
  toDate,
} from "segue-client";
import { Migration } from "./migration.js";
import type { Servers } from "./servers.js";

/** What the README says that values become. */
const READ: readonly (readonly [string, unknown])[] = [
  ["true", true],
  ["32767::int2", 32767],
  ["7::int4", 7],
  ["9007199254740993::int8", 9007199254740993n],
  ["4294967295::oid", 4294967295],
  ["0.1::float4", 0.1],
  ["'-infinity'::float8", -Infinity],
  ["12.3400::numeric", "12.3400"],
  ["'x'::varchar", "x"],
  ["'\\x00ff'::bytea", Buffer.from([0, 255])],
  ["'2024-02-29 12:00:00.000001'::timestamp", "2024-02-29 12:00:00.000001"],
  ["'0044-03-15 12:00:00+00 BC'::timestamptz", "0044-03-15 12:00:00+00 BC"],
  ["'infinity'::date", "infinity"],
  ["'24:00:00'::time", "24:00:00"],
  ["'12:00:00-05:30'::timetz", "12:00:00-05:30"],
  ["'1 mon -1 day'::interval", "1 mon -1 days"],
  ["'F81D4FAE-7DEC-11D0-A765-00A0C91E6BF6'::uuid", "f81d4fae-7dec-11d0-a765-00a0c91e6bf6"],
  ["'{\"a\": [1, 9007199254740993, 0.1]}'::jsonb", { a: [1, 9007199254740993n, 0.1] }],
  ["'0.12345678901234567890'::json", new JsonNumber("0.12345678901234567890")],
  [
    "'{{1,2},{3,NULL}}'::int4[]",
    [
      [1, 2],
      [3, null],
    ],
  ],
  ["'[0:1]={a,b}'::text[]", new BoundedArray([{ length: 2, lowerBound: 0 }], ["a", "b"])],
  ["'{1.10}'::numeric[]", ["1.10"]],
  ["'[1,5)'::int4range", "[1,5)"],
  ["'{[1,2),[5,7)}'::int4multirange", "{[1,2),[5,7)}"],
  ["'10.1.2.3/8'::inet", "10.1.2.3/8"],
  ["'::ffff:1.2.3.4'::inet", "::ffff:1.2.3.4"],
  ["'::1.2.3.4'::inet", "::1.2.3.4"],
  ["'1:0:0:2::3'::inet", "1:0:0:2::3"],
  ["'ok'::mood", "ok"],
  ["'{ok,NULL}'::mood[]", ["ok", null]],
  ["ROW(1, 'b c')::pair", '(1,"b c")'],
];

/** JavaScript's values in columns of every type that takes them, and PostgreSQL's text of what was stored. */
const SENT: readonly (readonly [string, unknown, string])[] = [
  ["int8", 7n, "7"],
  ["int8", "9223372036854775807", "9223372036854775807"],
  ["numeric", 2n ** 70n, "1180591620717411303424"],
  ["numeric", "1.10", "1.10"],
  ["numeric", 1e-7, "0.0000001"],
  ["numeric", 1.5e21, "1500000000000000000000"],
  ["numeric", numeric("1.50"), "1.50"],
  ["numeric", Number.NaN, "NaN"],
  ["float4", 0.1, "0.1"],
  ["float8", -0, "-0"],
  ["float8", "1e300", "1e+300"],
  ["float8", 3, "3"],
  ["bool", "false", "false"],
  ["text", 7, "7"],
  ["text", 7.5, "7.5"],
  ["text", true, "true"],
  ["text", { a: 1 }, '{"a":1}'],
  ["text", Buffer.from("ä"), "ä"],
  ["timestamptz", new Date(Date.UTC(2024, 1, 29, 12, 0, 0, 5)), "2024-02-29 12:00:00.005+00"],
  ["timestamp", new Date(Date.UTC(-43, 2, 15)), "0044-03-15 00:00:00 BC"],
  ["date", new Date(Date.UTC(2024, 1, 29)), "2024-02-29"],
  ["timestamptz", "2024-02-29T12:00:00.000001Z", "2024-02-29 12:00:00.000001+00"],
  ["interval", new Interval(1, -1, 1n), "1 mon -1 days +00:00:00.000001"],
  ["interval", "1 day", "1 day"],
  ["jsonb", { b: 9007199254740993n }, '{"b": 9007199254740993}'],
  ["jsonb", '{"a": 1}', '{"a": 1}'],
  ["jsonb", ["a", 1], '["a", 1]'],
  ["jsonb", json("text"), '"text"'],
  ["jsonb", 7, "7"],
  ["jsonb", new JsonNumber("0.10"), "0.10"],
  ["bytea", new Uint8Array([1, 255]), "\\x01ff"],
  ["bytea", "\\x01ff", "\\x01ff"],
  ["uuid", "F81D4FAE-7DEC-11D0-A765-00A0C91E6BF6", "f81d4fae-7dec-11d0-a765-00a0c91e6bf6"],
  ["inet", "10.0.0.1", "10.0.0.1/32"],
  ["mood", "very happy", "very happy"],
  ["int4[]", [1, null, 3], "{1,NULL,3}"],
  ["int4[]", [], "{}"],
  ["int4[]", "{1,2}", "{1,2}"],
  ["int8[]", ["1", 2n], "{1,2}"],
  ["numeric[]", ["1.10", 2], "{1.10,2}"],
  ["float8[]", [1, 0.5], "{1,0.5}"],
  [
    "text[]",
    [
      ["a", "b,c"],
      ["", "NULL"],
    ],
    '{{a,"b,c"},{"","NULL"}}',
  ],
  ["jsonb[]", [{ a: 1 }, null], '{"{\\"a\\": 1}",NULL}'],
  ["timestamptz[]", [new Date(0)], '{"1970-01-01 00:00:00+00"}'],
  ["int4[]", new BoundedArray([{ length: 2, lowerBound: 0 }], [7, 8]), "[0:1]={7,8}"],
  ["numrange", new Range("1.10", null), "[1.10,)"],
  ["point", "(1,2)", "(1,2)"],
];

async function value(client: Client, text: string, params: unknown[] = [], options = {}): Promise<unknown> {
  const { rows } = await client.query<{ v: unknown }>(`SELECT ${text} AS v`, params, options);
  assert.equal(rows.length, 1);
  return rows[0]?.v;
}

export function valueTests(servers: () => Servers): void {
  test("values", async (t) => {
    const migration = await Migration.start(servers(), [
      "CREATE TYPE mood AS ENUM ('sad', 'ok', 'very happy')",
      "CREATE TYPE pair AS (a int, b text)",
    ]);
    const client = await connect(migration.url);

    await t.test("a value comes as the type that the README names, packed or typed", async () => {
      for (const [text, wanted] of READ) {
        assert.deepEqual(await value(client, text), wanted, text);
        // The first time inside a transaction, rows come as typed values.
        await client.transaction(async (transaction) => {
          const { rows } = await transaction.query<{ v: unknown }>(`SELECT ${text} AS v -- typed`);
          assert.deepEqual(rows[0]?.v, wanted, `${text}, typed`);
        });
      }
      const point = await value(client, "'(1,2)'::point");
      assert.ok(point instanceof Opaque && point.typeName === "point" && point.data.length === 16);
    });

    await t.test("what JavaScript has goes into columns of every type that takes it", async () => {
      for (const [type, given, wanted] of SENT) {
        assert.equal(await value(client, `($1::${type})::text`, [given]), wanted, `${String(given)} as ${type}`);
        // Known types are used the second time.
        assert.equal(await value(client, `($1::${type})::text`, [given]), wanted, `${String(given)} as ${type}, again`);
      }
    });

    await t.test("what does not fit is refused and never rounded", async () => {
      for (const [type, given] of [
        ["int4", 2 ** 31],
        ["int4", 1.5],
        ["int8", 2n ** 63n],
        ["float8", 9007199254740993n],
        ["numeric", "1,5"],
        ["interval", 5],
        ["bool", 1],
        ["uuid", 7],
        ["int4[]", [1.5]],
        ["int4[]", "1,2"],
      ] as const) {
        await assert.rejects(client.query(`SELECT $1::${type}`, [given]), (error) => {
          assert.ok(error instanceof DataError, `${String(given)} as ${type}: ${String(error)}`);
          assert.equal(error.outcome, "not_applied");
          return true;
        });
      }
    });

    await t.test("rows are read in any mixture of NULLs", async () => {
      const columns = ["i::int4", "i::text", "i::numeric", "now() - now()", "ARRAY[i]", "i % 2 = 0"];
      for (let mask = 0; mask < 1 << columns.length; mask += 5) {
        const list = columns.map(
          (column, at) => `CASE WHEN ${(mask >> at) & 1} = 1 THEN NULL ELSE ${column} END AS c${at}`,
        );
        const { rows } = await client.query(`SELECT ${list.join(", ")} FROM generate_series(1, 3) AS i`);
        assert.deepEqual(
          rows.map((row) => Object.values(row).map((one) => one === null)),
          Array(3).fill(columns.map((_, at) => ((mask >> at) & 1) === 1)),
        );
      }
    });

    await t.test("parsers decide what a type becomes, in arrays as well", async () => {
      const parsers = {
        int8: Number,
        timestamptz: toDate,
        mood: (text: string) => text.toUpperCase(),
        ...jsonTextParsers,
      };
      const at = new Date(Date.UTC(2024, 0, 1));
      for (const typed of [false, true]) {
        const text = `SELECT 7::int8 AS a, '{1,NULL}'::int8[] AS b, '2024-01-01 00:00:00+00'::timestamptz AS c, 'null'::jsonb AS d -- ${typed}`;
        const where = typed ? client.begin() : client;
        const { rows } = await where.query(text, [], { parsers });
        assert.deepEqual(rows, [{ a: 7, b: [1, null], c: at, d: "null" }]);
      }
      assert.equal(await value(client, "'ok'::mood", [], { parsers }), "OK");
      const failing = {
        parsers: {
          int4: () => {
            throw new RangeError("no");
          },
        },
      };
      await assert.rejects(client.query("SELECT 1", [], failing), RangeError);
      const transaction = client.begin();
      await assert.rejects(transaction.query("SELECT 1", [], failing), RangeError);
      assert.deepEqual((await transaction.query("SELECT 2 AS n", [], { commit: true })).rows, [{ n: 2 }]);
      assert.equal(await value(client, "7::int8", [], { parsers: nodePostgresParsers }), "7");
    });

    await t.test("no column's name means anything to JavaScript, and none is lost", async () => {
      const { rows } = await client.query('SELECT 1 AS "__proto__", 2 AS "constructor", 3 AS "0"');
      assert.deepEqual(Object.entries(rows[0] as object).sort(), [
        ["0", 3],
        ["__proto__", 1],
        ["constructor", 2],
      ]);
      await assert.rejects(client.query("SELECT 1 AS a, 2 AS a"), (error) => {
        assert.ok(error instanceof SegueError && /two columns "a"/.test(error.message));
        return true;
      });
      const arrays = await client.query<number[]>("SELECT 1 AS a, 2 AS a", [], { rowMode: "array" });
      assert.deepEqual(arrays.rows, [[1, 2]]);
    });

    await t.test("undefined is no value", async () => {
      await assert.rejects(client.query("SELECT $1::int4", [undefined]), InterfaceError);
    });

    await client.close();
    await migration.close();
  });
}
