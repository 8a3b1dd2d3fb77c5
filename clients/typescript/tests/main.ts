/** All tests, on two servers that they share. Arguments name the groups to run. */

import { after, before } from "node:test";
import { applicationTests } from "./application.js";
import { builderTests } from "./builders.js";
import { clientTests } from "./client.js";
import { conformanceTests } from "./conformance.js";
import { migrationTests } from "./migration_load.js";
import { peerTests } from "./peers.js";
import { Servers } from "./servers.js";
import { tourTests } from "./tour.js";
import { unitTests } from "./units.js";
import { valueTests } from "./values.js";
import { wireTests } from "./wire.js";

const GROUPS: Readonly<Record<string, (servers: () => Servers) => void>> = {
  units: unitTests,
  wire: wireTests,
  values: valueTests,
  client: clientTests,
  builders: builderTests,
  tour: tourTests,
  conformance: conformanceTests,
  migration: migrationTests,
  application: applicationTests,
  peers: peerTests,
};
const WITHOUT_SERVERS: ReadonlySet<string> = new Set(["units", "wire"]);

const asked = process.argv.length > 2 ? process.argv.slice(2) : Object.keys(GROUPS);
let servers: Servers | undefined;

before(async () => {
  if (asked.some((name) => !WITHOUT_SERVERS.has(name))) servers = await Servers.start();
});
after(async () => {
  await servers?.close();
});

for (const name of asked) {
  const group = GROUPS[name];
  if (group === undefined) throw new Error(`there is no group ${name}; there are ${Object.keys(GROUPS).join(", ")}`);
  group(() => {
    if (servers === undefined) throw new Error("the servers have not started");
    return servers;
  });
}
