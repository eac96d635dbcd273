// node-media-server as a peer that is not ours: an RTMP server in a process of its own, because malformed input ends it.

import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { Child } from "./child.js";
import { freePorts } from "./gateway-process.js";

export class MediaServer {
  readonly child: Child;
  readonly port: number;
  readonly #folder: string;

  private constructor(child: Child, port: number, folder: string) {
    this.child = child;
    this.port = port;
    this.#folder = folder;
  }

  static async start(): Promise<MediaServer> {
    const { rtmp, http } = await freePorts();
    const folder = mkdtempSync(join(tmpdir(), "media-server-"));
    const config = join(folder, "config.json"); // it writes secrets into its config: not into the package's
    const auth = { play: false, publish: false, secret: "test" };
    writeFileSync(
      config,
      JSON.stringify({ bind: "127.0.0.1", rtmp: { port: rtmp }, http: { port: http }, auth, store: { path: folder } }),
    );
    const program = createRequire(import.meta.url).resolve("node-media-server/bin/app.js");
    const child = new Child("node", [program, "-c", config, "--no-admin"]);
    const server = new MediaServer(child, rtmp, folder);
    try {
      await child.line(/Rtmp Server listening/);
    } catch (error) {
      await server.stop();
      throw new Error(`${String(error)}\n${child.log}`);
    }
    return server;
  }

  url(stream = "livestream", app = "live"): string {
    return `rtmp://127.0.0.1:${this.port}/${app}/${stream}`;
  }

  async stop(): Promise<void> {
    await this.child.stop("SIGKILL");
    rmSync(this.#folder, { recursive: true, force: true });
  }
}
