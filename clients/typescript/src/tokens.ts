/**
 * Consistency tokens: a call that brings them sees the writes that they cover. A client has its own, which all
 * its calls share.
 */
export class Tokens {
  readonly #held = new Set<string>();

  /** Takes tokens of another process, as `list` gave them. */
  add(...tokens: string[]): void {
    for (const token of tokens) if (token !== "") this.#held.add(token);
  }

  /** The tokens, to be passed on to another process. */
  list(): string[] {
    return this.#held.size === 0 ? [] : [...this.#held];
  }

  /**
   * An answer's token, even an empty one, replaces what its call brought. What other calls got in the meantime
   * stays.
   * @internal
   */
  replace(brought: readonly string[], token: string): void {
    for (const old of brought) this.#held.delete(old);
    if (token !== "") this.#held.add(token);
  }
}
