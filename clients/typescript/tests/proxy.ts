import { createConnection, createServer, type Server, type Socket } from "node:net";

/** Passes bytes between clients and the sidecar, or swallows its answers. */
export class TcpProxy {
  readonly #upstream: number;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  #swallows = false;
  /** Connections that were passed on. */
  accepted = 0;

  private constructor(upstream: number) {
    this.#upstream = upstream;
    this.#server = createServer((client) => this.#accept(client));
    // It keeps no test from ending.
    this.#server.unref();
  }

  /** Listens on a port of its own, or on a Unix socket. */
  static async start(upstream: number, socket?: string): Promise<TcpProxy> {
    const proxy = new TcpProxy(upstream);
    await new Promise<void>((done, failed) => {
      proxy.#server.once("error", failed);
      if (socket === undefined) proxy.#server.listen(0, "127.0.0.1", done);
      else proxy.#server.listen(socket, done);
    });
    return proxy;
  }

  get port(): number {
    const address = this.#server.address();
    return typeof address === "object" && address !== null ? address.port : 0;
  }

  #accept(client: Socket): void {
    const server = createConnection(this.#upstream, "127.0.0.1");
    this.accepted++;
    for (const [from, to, answers] of [
      [client, server, false],
      [server, client, true],
    ] as const) {
      this.#sockets.add(from);
      from.setNoDelay(true);
      from.on("data", (data) => {
        if (answers && this.#swallows) return;
        if (!to.write(data)) {
          from.pause();
          to.once("drain", () => from.resume());
        }
      });
      from.on("error", () => to.destroy());
      from.on("close", () => {
        this.#sockets.delete(from);
        to.destroy();
      });
    }
  }

  /** `pass`, `swallow` or `cut`. */
  set(mode: string): void {
    if (mode === "cut") for (const socket of this.#sockets) end(socket);
    else this.#swallows = mode === "swallow";
  }

  close(): void {
    this.#server.close();
    this.set("cut");
  }
}

/** A Unix socket cannot be reset. */
function end(socket: Socket): void {
  if (socket.remoteFamily === undefined) socket.destroy();
  else socket.resetAndDestroy();
}
