/** Tests of drivers that others publish: those of Any-DB's adapters. */

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { join } from "node:path";
import { test } from "node:test";
import { promisify } from "node:util";
import { Migration } from "./migration.js";
import { environment, REPOSITORY, type Servers } from "./servers.js";

const TYPESCRIPT = join(REPOSITORY, "clients/typescript");

export function peerTests(servers: () => Servers): void {
  test("the tests of Any-DB's adapters pass", async (t) => {
    const migration = await Migration.start(servers(), []);
    try {
      const program = join(TYPESCRIPT, "node_modules/any-db-adapter-spec/bin/test-any-db-adapter");
      const { stdout } = await promisify(execFile)(
        process.execPath,
        [program, "--adapter-path", join(TYPESCRIPT, "build/tests/any_db.cjs"), "--url", migration.url],
        {
          timeout: 60_000,
          env: {
            ...environment(),
            SEGUE_URL: migration.url,
            SOURCE_URL: migration.urlOf("source"),
            TARGET_URL: migration.urlOf("target"),
          },
        },
      ).catch((error: { stdout?: string; message: string }) => assert.fail(error.stdout ?? error.message));
      assert.match(stdout, /^# pass {2}\d\d/m, stdout);
      assert.doesNotMatch(stdout, /^not ok/m);
      // PostgreSQL has no id of the last insert: all its adapters leave that test out.
      assert.equal(stdout.match(/# SKIP/gi)?.length, 1, stdout);
      t.diagnostic(`${stdout.match(/^ok /gm)?.length} checks`);
    } finally {
      await migration.close();
    }
  });
}
