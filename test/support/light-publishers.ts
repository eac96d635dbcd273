// WHIP publishers in child processes, as a benchmark sees them.

import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";

export type PublisherCommand = { readonly id: number } & (
  | { readonly act: "publish"; readonly url: string }
  | { readonly act: "count" }
);

export type PublisherReply = { readonly id: number; readonly packets: number; readonly error?: string };

/** A child process with room for publishers. */
export class PublisherHost {
  readonly child: ChildProcess;
  readonly #pending = new Map<number, { resolve: (packets: number) => void; reject: (error: Error) => void }>();
  #nextId = 1;

  /** @param payload bytes of each packet of a picture. Default 1000, for 600 kbit/s */
  constructor(room: number, payload = 1000) {
    const script = fileURLToPath(new URL("./light-publisher-child.js", import.meta.url));
    this.child = fork(script, [String(room), String(payload)], { stdio: ["ignore", "inherit", "inherit", "ipc"] });
    this.child.on("message", (reply: PublisherReply) => {
      const waiting = this.#pending.get(reply.id);
      this.#pending.delete(reply.id);
      if (reply.error !== undefined) waiting?.reject(new Error(reply.error));
      else waiting?.resolve(reply.packets);
    });
    this.child.on("exit", (code, signal) => {
      for (const { reject } of this.#pending.values()) reject(new Error(`the publishers' process ended with ${code ?? signal}`));
      this.#pending.clear();
    });
    const kill = (): boolean => this.child.kill("SIGKILL");
    process.once("exit", kill);
    this.child.once("exit", () => process.off("exit", kill));
  }

  /** Resolves when the publisher's media flows. */
  publish(url: string): Promise<number> {
    return this.#ask({ act: "publish", url });
  }

  /** Packets sent so far by all of them. */
  packets(): Promise<number> {
    return this.#ask({ act: "count" });
  }

  /** Ends the process; its publishers vanish without a word. */
  async stop(): Promise<void> {
    if (this.child.exitCode !== null || this.child.signalCode !== null) return;
    this.child.kill("SIGKILL");
    await once(this.child, "exit");
  }

  #ask(command: { readonly act: "publish"; readonly url: string } | { readonly act: "count" }): Promise<number> {
    const id = this.#nextId++;
    return new Promise((resolve, reject) => {
      this.#pending.set(id, { resolve, reject });
      this.child.send({ ...command, id });
    });
  }
}
