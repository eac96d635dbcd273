// WHIP publishers of native stacks, each in a process of its own, sending a clip in real time.

import { fileURLToPath } from "node:url";

import { Child } from "./child.js";

export type PublisherStack = "libdatachannel" | "werift";

const SCRIPT = fileURLToPath(new URL("./publisher-child.js", import.meta.url));

export class NativePublisher {
  readonly child: Child;
  readonly resource: string;

  private constructor(child: Child, resource: string) {
    this.child = child;
    this.resource = resource;
  }

  /**
   * Resolves when media flows.
   *
   * @param options.ssrc whether the offer names its sources. Default true
   * @param options.transport the only one whose candidates libdatachannel uses. Default: UDP
   * @throws Error with status and body when WHIP refuses
   */
  static async start(
    stack: PublisherStack,
    url: string,
    clip: string,
    options: { readonly ssrc?: boolean; readonly transport?: "udp" | "tcp" | "any" } = {},
  ): Promise<NativePublisher> {
    const child = new Child("node", [
      SCRIPT,
      stack,
      url,
      clip,
      options.ssrc === false ? "no-ssrc" : "ssrc",
      options.transport ?? "",
    ]);
    try {
      const [, resource = ""] = (await child.line(/^resource /)).split(" ");
      await child.line(/^publishing$/);
      return new NativePublisher(child, resource);
    } catch (error) {
      await child.stop();
      throw error;
    }
  }

  /** @param politely with a DELETE; else it is gone without a word */
  async stop(politely = true): Promise<void> {
    if (politely && this.child.exit === undefined) await fetch(this.resource, { method: "DELETE" });
    await this.child.stop();
  }
}
