import assert from "node:assert/strict";
import type { Migration } from "./migration.js";
import { eventually } from "./servers.js";

/** Takes one step of a caller's: writes, and reads what it wrote. */
export type Caller = (round: number) => Promise<number>;

/** Callers that go on until they are stopped, and what they saw. */
export class Load {
  readonly #written: number[];
  readonly problems: string[] = [];
  readonly #callers: Promise<void>[];
  #stopped = false;

  constructor(callers: readonly Caller[]) {
    this.#written = callers.map(() => 0);
    this.#callers = callers.map((caller, at) => this.#run(caller, at));
  }

  async #run(caller: Caller, at: number): Promise<void> {
    try {
      for (let round = 1; !this.#stopped; round++) this.#written[at] = (this.#written[at] ?? 0) + (await caller(round));
    } catch (error) {
      const fields = JSON.stringify(error, (_, value: unknown) => (typeof value === "bigint" ? String(value) : value));
      this.problems.push(`caller ${at}: ${(error as Error).stack ?? String(error)} ${fields}`);
    }
  }

  /** Writes that callers were told of. */
  get total(): number {
    return this.#written.reduce((sum, one) => sum + one, 0);
  }

  /** Waits until each caller has written more. */
  async goesOn(what: string): Promise<void> {
    const before = [...this.#written];
    await eventually(`all callers go on after ${what}`, () => {
      assert.deepEqual(this.problems, []);
      return this.#written.every((now, at) => now > (before[at] ?? 0));
    });
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    await Promise.all(this.#callers);
  }
}

/** Takes a migration from source_only over reversed back, and does something in each phase. */
export async function everyPhase(migration: Migration, then: (phase: string) => Promise<void>): Promise<void> {
  await then("source_only");
  for (const phase of ["dual_write", "shadow_read", "shift"]) {
    await migration.enter(phase);
    await then(phase);
  }
  await migration.change("cutover");
  assert.equal((await migration.status()).phase, "reversed");
  await then("reversed");
  await migration.change("rollback");
  assert.notEqual((await migration.status()).phase, "reversed");
  await then("rolled back");
}
