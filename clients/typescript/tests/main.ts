/** All tests, on two servers that they share. Arguments name the groups to run. */

import { after, before } from "node:test";
import { applicationTests } from "./application.js";
import { conformanceTests } from "./conformance.js";
import { migrationTests } from "./migration_load.js";
import { Servers } from "./servers.js";

let servers: Servers | undefined;

before(async () => {
  servers = await Servers.start();
});
after(async () => {
  await servers?.close();
});

const groups: Readonly<Record<string, (servers: () => Servers) => void>> = {
  conformance: conformanceTests,
  migration: migrationTests,
  application: applicationTests,
};
const asked = process.argv.slice(2);
for (const [name, tests] of Object.entries(groups)) {
  if (asked.length === 0 || asked.includes(name)) {
    tests(() => {
      if (servers === undefined) throw new Error("the servers have not started");
      return servers;
    });
  }
}
