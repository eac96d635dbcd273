// WHEP viewers in child processes, as the test sees them.

import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";

import { eventually } from "./child.js";
import type { Recording } from "./judge.js";
import type { ViewerTally } from "./tally.js";
import type { ViewerTimes } from "./viewer-session.js";

export type ViewerStack = "libdatachannel" | "werift" | "light";

export type ViewerCommand = { readonly id: number; readonly viewer: number } & (
  | {
      readonly act: "join";
      readonly stack: ViewerStack;
      readonly url: string;
      readonly keep: boolean;
      readonly transport?: "udp" | "tcp" | "any";
    }
  | { readonly act: "look" }
  | { readonly act: "take" }
  | { readonly act: "nack"; readonly sequenceNumbers: readonly number[] }
  | { readonly act: "leave"; readonly politely: boolean }
);

export type ViewerReply = { readonly id: number; readonly value?: unknown; readonly error?: string };

export type ViewerLook = {
  readonly state: string;
  readonly times: ViewerTimes;
  readonly tally: ViewerTally;
  /** URL of its session. */
  readonly resource?: string;
};

type CommandBody = ViewerCommand extends infer C ? (C extends ViewerCommand ? Omit<C, "id" | "viewer"> : never) : never;

/** A child process that holds viewers. */
export class ViewerHost {
  readonly child: ChildProcess;
  readonly #pending = new Map<number, { resolve: (value: unknown) => void; reject: (error: Error) => void }>();
  #nextId = 1;
  #nextViewer = 1;
  #isEnding = false;

  constructor() {
    const script = fileURLToPath(new URL("./viewer-child.js", import.meta.url));
    this.child = fork(script, [], { serialization: "advanced", stdio: ["ignore", "inherit", "inherit", "ipc"] });
    this.child.on("message", (reply: ViewerReply) => {
      const waiting = this.#pending.get(reply.id);
      this.#pending.delete(reply.id);
      if (reply.error !== undefined) waiting?.reject(new Error(reply.error));
      else waiting?.resolve(reply.value);
    });
    this.child.on("exit", (code, signal) => {
      for (const { reject } of this.#pending.values()) reject(new Error(`the viewers' process ended with ${code ?? signal}`));
      this.#pending.clear();
    });
    const kill = (): boolean => this.child.kill("SIGKILL");
    process.once("exit", kill);
    this.child.once("exit", () => process.off("exit", kill));
  }

  /** A new viewer; resolves when the answer is applied. @throws Error when it is refused */
  async join(
    url: string,
    options: {
      readonly stack?: ViewerStack;
      readonly keep?: boolean;
      /** The only one whose candidates it uses; `any`: whichever it likes. Default: UDP, as it does by itself. */
      readonly transport?: "udp" | "tcp" | "any";
    } = {},
  ): Promise<Viewer> {
    const viewer = new Viewer(this, this.#nextViewer++);
    await viewer.ask({
      act: "join",
      stack: options.stack ?? "libdatachannel",
      url,
      keep: options.keep ?? true,
      ...(options.transport !== undefined && { transport: options.transport }),
    });
    return viewer;
  }

  ask(viewer: number, command: CommandBody): Promise<unknown> {
    const id = this.#nextId++;
    return new Promise((resolve, reject) => {
      if (this.child.exitCode !== null || this.child.signalCode !== null) {
        reject(new Error("the viewers' process has ended"));
        return;
      }
      this.#pending.set(id, { resolve, reject });
      this.child.send({ ...command, id, viewer } as ViewerCommand);
    });
  }

  /** Ends the process; its viewers vanish without a word. */
  async stop(): Promise<void> {
    if (this.#isEnding || this.child.exitCode !== null || this.child.signalCode !== null) return;
    this.#isEnding = true;
    this.child.kill("SIGKILL"); // a native library's farewell may hang
    await once(this.child, "exit");
  }
}

export class Viewer {
  readonly #host: ViewerHost;
  readonly #id: number;

  constructor(host: ViewerHost, id: number) {
    this.#host = host;
    this.#id = id;
  }

  ask(command: CommandBody): Promise<unknown> {
    return this.#host.ask(this.#id, command);
  }

  async look(): Promise<ViewerLook> {
    return (await this.ask({ act: "look" })) as ViewerLook;
  }

  /** Everything received so far, when it was told to keep it. */
  async take(): Promise<Recording> {
    const kept = (await this.ask({ act: "take" })) as Recording;
    const buffers = (track: Recording["video"]): Recording["video"] =>
      track.map((packet) => ({ ...packet, payload: Buffer.from(packet.payload) })); // arrives as Uint8Array
    return { video: buffers(kept.video), audio: buffers(kept.audio), reports: kept.reports };
  }

  nack(sequenceNumbers: readonly number[]): Promise<unknown> {
    return this.ask({ act: "nack", sequenceNumbers });
  }

  async leave(politely = true): Promise<void> {
    await this.ask({ act: "leave", politely });
  }

  /** Waits until what it received satisfies a condition. */
  until(what: string, condition: (look: ViewerLook) => boolean, timeoutMs = 10_000): Promise<ViewerLook> {
    return eventually(
      what,
      async () => {
        const look = await this.look();
        return condition(look) ? look : undefined;
      },
      timeoutMs,
    );
  }
}
