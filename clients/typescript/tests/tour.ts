/** What the README shows is what runs, and it prints what it says. */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { inspect } from "node:util";
import { tour } from "../examples/tour.js";
import { Migration } from "./migration.js";
import { REPOSITORY, type Servers } from "./servers.js";

const SETUP = [
  "CREATE TABLE orders (id bigint PRIMARY KEY, customer bigint NOT NULL, total numeric(10,2) NOT NULL, items jsonb)",
  "CREATE TABLE stock (item text PRIMARY KEY, amount int NOT NULL)",
  "CREATE TABLE sales (order_id bigint, item text, PRIMARY KEY (order_id, item))",
  "INSERT INTO orders VALUES (1, 7, 5, '[]')",
  "INSERT INTO stock VALUES ('pen', 10)",
];
const FOLDER = join(REPOSITORY, "clients/typescript");

export function tourTests(servers: () => Servers): void {
  test("the README's example is the one that runs, and prints what it says", async () => {
    const readme = readFileSync(join(FOLDER, "README.md"), "utf8");
    const source = readFileSync(join(FOLDER, "examples/tour.ts"), "utf8");
    const body = /\/\/ README: begin\n([\s\S]*?) *\/\/ README: end/.exec(source)?.[1] ?? "";
    const shown = `import { connect, json } from "segue-client";\n\n${body.replace(/^ {2}/gm, "")}`
      .replace("connect(url)", 'connect("segue://127.0.0.1:7400")')
      .replace(/\blog\(/g, "console.log(")
      .trimEnd();
    assert.ok(
      readme.includes(`<!-- example: begin -->\n\`\`\`ts\n${shown}\n\`\`\`\n<!-- example: end -->`),
      `README.md does not show\n${shown}`,
    );
    const printed = /It prints\n\n```\n([\s\S]*?)```/.exec(readme)?.[1];
    const migration = await Migration.start(servers(), SETUP);
    await migration.enter("dual_write");
    let output = "";
    await tour(migration.url, (...what) => {
      output += `${what.map((one) => (typeof one === "string" ? one : inspect(one))).join(" ")}\n`;
    });
    assert.equal(output, printed);
    await migration.close();
  });
}
