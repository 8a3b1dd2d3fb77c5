/** What needs no sidecar: options, texts of values, JSON, statements. */

import assert from "node:assert/strict";
import { test } from "node:test";
import {
  epochMicros,
  InterfaceError,
  Interval,
  JsonNumber,
  nodePostgresParsers,
  parseJson,
  Range,
  sql,
  stringifyJson,
  toDate,
  toNumber,
} from "segue-client";
import { settingsOf, targetOf } from "#internal/options.js";
import { floatText, shortestSingle, timestampText } from "#internal/text.js";

export function unitTests(): void {
  test("a URL names the sidecar", () => {
    for (const [url, target, tls] of [
      ["segue://127.0.0.1:7400", "dns:127.0.0.1:7400", false],
      ["segue://", "dns:127.0.0.1:7400", false],
      ["segue://:7500", "dns:127.0.0.1:7500", false],
      ["segue://side.car/", "dns:side.car:7400", false],
      ["segue://[::1]:9", "dns:[::1]:9", false],
      ["segue+tls://side.car:443", "dns:side.car:443", true],
      ["segue+unix:///run/segue%20a.sock", "unix:/run/segue a.sock", false],
    ] as const) {
      const settings = settingsOf(url);
      assert.equal(targetOf(settings), target);
      assert.equal(settings.tls !== undefined, tls);
    }
  });

  test("options come from the URL, and those that are given take precedence", () => {
    const url =
      "segue://h?timeout=2&connect_timeout=500ms&retry_timeout=1m&keepalive=0&idempotency_keys=false&routing_key=k&application_name=a";
    const settings = settingsOf(url, { routingKey: "other", timeoutMs: undefined });
    const { timeoutMs, connectTimeoutMs, retryTimeoutMs, keepaliveMs, idempotencyKeys, routingKey, applicationName } =
      settings;
    assert.deepEqual(
      { timeoutMs, connectTimeoutMs, retryTimeoutMs, keepaliveMs, idempotencyKeys, routingKey, applicationName },
      {
        timeoutMs: 2000,
        connectTimeoutMs: 500,
        retryTimeoutMs: 60_000,
        keepaliveMs: 0,
        idempotencyKeys: false,
        routingKey: "other",
        applicationName: "a",
      },
    );
    assert.equal(settingsOf("segue://h?timeout=none").timeoutMs, null);
    assert.equal(settingsOf("segue://h?retry=false").retryTimeoutMs, 0);
    assert.equal(settingsOf("segue://h?idempotency=off").idempotencyKeys, false);
  });

  test("a wrong URL or option says what is wrong", () => {
    for (const [url, says] of [
      ["postgres://h", /segue:\/\/host:port/],
      ["segue://me:secret@h", /has a user/],
      ["segue://h/shop", /path \/shop/],
      ["segue://h:x", /host and port/],
      ["segue://h:70000", /port cannot be 70000/],
      ["segue+unix://h", /no socket/],
      ["segue://h?fast=1", /no option fast/],
      ["segue://h?timeout=soon", /timeout cannot be soon/],
      ["segue://h?retry=maybe", /retry cannot be maybe/],
      ["segue://h?retry=constructor", /retry cannot be constructor/],
      ["segue://h?constructor=1", /no option constructor/],
      ["segue://h?timeout=1&timeout=2", /timeout is given twice/],
      ["segue://h?idempotency=on&idempotency_keys=off", /idempotency_keys is given twice/],
      ["segue://h?retry=true&retry_timeout=1", /exclude each other/],
      ["segue://h?ca=/x", /segue\+tls only/],
      ["segue+tls://h?ca_file=/no/such/file", /cannot be read/],
      ["segue+tls://h?ca=/no/such/file", /cannot be read/],
    ] as const) {
      assert.throws(
        () => settingsOf(url),
        (error: Error) => {
          assert.ok(error instanceof InterfaceError);
          assert.match(error.message, says);
          assert.doesNotMatch(error.message, /secret/);
          return true;
        },
      );
    }
    assert.throws(() => settingsOf({ hots: "h" } as object), /no option hots/);
    assert.throws(() => settingsOf({ tls: { cert: "c" } }), /go together/);
  });

  test("JSON comes back with all its digits", () => {
    for (const text of [
      "null",
      '"9007199254740993"',
      "[0.1,1e+21,-0,12345678901234567890,0.12345678901234567890123]",
      '{"a":1e400,"__proto__":[1.10]}',
      '"\\"12345678901234567890"',
      "[9007199254740991,9007199254740993]",
    ]) {
      const read = parseJson(text);
      assert.deepEqual(parseJson(stringifyJson(read) ?? ""), read, text);
    }
    assert.deepEqual(parseJson('{"n":9007199254740993,"d":0.1,"s":"1e5"}'), { n: 9007199254740993n, d: 0.1, s: "1e5" });
    assert.equal((parseJson("[1.00000000000000000001]") as JsonNumber[])[0]?.text, "1.00000000000000000001");
    assert.equal(stringifyJson([1n, new JsonNumber("1.10"), "x"]), '[1,1.10,"x"]');
    assert.throws(() => new JsonNumber("1; x"), TypeError);
    assert.throws(() => stringifyJson(Number.NaN), TypeError);
  });

  test("intervals and ranges come back from their text", () => {
    for (const text of [
      "00:00:00",
      "1 year 2 mons 3 days 04:05:06.000007",
      "-1 mons +2 days -00:00:00.000001",
      "30:00:00",
      "-00:30:00",
      "2562047788:00:54.775807",
      "1 day",
    ]) {
      assert.equal(String(Interval.parse(text)), text);
    }
    for (const text of ["empty", "[1,10)", "(,5)", "(,)", '["0044-03-15 BC",infinity)', '["a""b","c,d"]']) {
      assert.equal(String(Range.parse(text)), text);
    }
    assert.deepEqual(Range.parse('["a""b\\\\",)'), new Range('a"b\\', null, "[)"));
    for (const text of ["", "1 fortnight", "[1;2)"]) {
      assert.throws(() => Interval.parse(text), InterfaceError);
      assert.throws(() => Range.parse(text), InterfaceError);
    }
  });

  test("timestamps become numbers and Dates, or an error", () => {
    assert.equal(epochMicros("1970-01-01 00:00:00"), 0n);
    assert.equal(epochMicros("2024-02-29 23:59:59.999999+00"), 1709251199999999n);
    assert.equal(epochMicros("2024-02-29 23:59:59.5-05:30"), 1709270999500000n);
    assert.equal(epochMicros("294276-12-31 23:59:59.999999"), 9224318015999999999n);
    assert.equal(epochMicros("4713-01-01 00:00:00 BC"), BigInt(Date.UTC(-4712, 0, 1)) * 1000n);
    assert.equal(toDate("0044-03-15 BC").toISOString(), "-000043-03-15T00:00:00.000Z");
    for (const text of ["infinity", "2024-01-01 00:00:00.000001", "294276-12-31", "x"])
      assert.throws(() => toDate(text), InterfaceError);
    assert.equal(toNumber("9007199254740991"), 9007199254740991);
    assert.equal(toNumber("0.1"), 0.1);
    for (const text of ["9007199254740993", "0.10000000000000000001", ""])
      assert.throws(() => toNumber(text), InterfaceError);
    const given = nodePostgresParsers.timestamp?.("2024-05-01 12:30:00.1234");
    assert.deepEqual(given, new Date(2024, 4, 1, 12, 30, 0, 123));
  });

  test("texts are those of PostgreSQL", () => {
    assert.equal(
      timestampText(-719_529, 1, true),
      "0001-12-31 00:00:00.000001+00 BC".replace("0001-12-31", "0002-12-31"),
    );
    assert.equal(floatText(1e-5, false), "1e-05");
    assert.equal(floatText(0.0001, false), "0.0001");
    assert.equal(floatText(1e15, false), "1e+15");
    assert.equal(floatText(-123.5, false), "-123.5");
    assert.equal(floatText(1e6, true), "1e+06");
    assert.equal(shortestSingle(Math.fround(0.1)), 0.1);
    assert.equal(shortestSingle(Math.fround(1e-45)), 1e-45);
  });

  test("a template becomes a statement with parameters", () => {
    const where = sql`id = ${7} AND name <> '$1'`;
    const { text, params } = sql`SELECT ${"x"}::text FROM t WHERE ${where} LIMIT ${1n}`;
    assert.equal(text, "SELECT $1::text FROM t WHERE id = $2 AND name <> '$1' LIMIT $3");
    assert.deepEqual(params, ["x", 7, 1n]);
  });
}
