// The built gateway as a process of its own, on free ports with a config of its own; and what it costs.

import { createSocket } from "node:dgram";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

import { Child, childrenOf, costOf, cpuTimeOf, type Exit, eventually, openFilesOf } from "./child.js";

export type Ports = { readonly rtmp: number; readonly api: number; readonly http: number; readonly rtc: number };

export type StreamState = {
  readonly name: string;
  readonly state: string;
  readonly frames: number;
  readonly viewers: number;
  readonly video: object | null;
  readonly audio: object | null;
  readonly notes: Readonly<Record<string, string>>;
};

export type GatewayOptions = {
  /** Directives of the `rtc` section of the default vhost, beside `enabled` and `rtmp_to_rtc`. */
  readonly rtc?: string;
  /** Directives of the default vhost. */
  readonly vhost?: string;
  /** Directives of the top level. */
  readonly top?: string;
  /** The whole config instead of the one made here. */
  readonly config?: (ports: Ports) => string;
  readonly nodeArguments?: readonly string[];
  readonly environment?: NodeJS.ProcessEnv;
  /** Of a gateway that has ended, to come back in its place. Default free ones. */
  readonly ports?: Ports;
};

export const ROOT = fileURLToPath(new URL("../../../", import.meta.url)); // of dist/test/support
export const MAIN = join(ROOT, "dist/gateway/main.js");

/** What `npm start` and the command's first line give node. */
const START_ARGUMENTS = ["--max-semi-space-size=2"];

/** Node arguments with which a gateway collects its garbage and tells its memory at SIGUSR2. */
export const MEASURE_MEMORY: readonly string[] = [
  "--expose-gc",
  "--import",
  `data:text/javascript,process.on("SIGUSR2",()=>{gc();gc();console.log("memory-usage "+JSON.stringify(process.memoryUsage()))})`,
];
const MEMORY_LINE = /^memory-usage /;

export class GatewayProcess {
  readonly ports: Ports;
  readonly child: Child;
  readonly #folder: string;

  private constructor(ports: Ports, child: Child, folder: string) {
    this.ports = ports;
    this.child = child;
    this.#folder = folder;
  }

  /** Starts it and waits until it answers. @throws Error with its log when it does not */
  static async start(options: GatewayOptions = {}): Promise<GatewayProcess> {
    const ports = options.ports ?? (await freePorts());
    const folder = mkdtempSync(join(tmpdir(), "sluice-e2e-"));
    const file = join(folder, "gateway.conf");
    writeFileSync(file, options.config?.(ports) ?? configText(ports, options));
    const child = new Child(
      "node",
      [...START_ARGUMENTS, ...(options.nodeArguments ?? []), MAIN, "-c", file],
      options.environment,
    );
    const gateway = new GatewayProcess(ports, child, folder);
    try {
      await eventually("the gateway answers", () => {
        if (child.exit !== undefined) throw new Error(`the gateway ended with ${child.exit.code}`);
        return gateway.#answers();
      });
    } catch (error) {
      await child.stop("SIGKILL");
      rmSync(folder, { recursive: true, force: true });
      throw new Error(`${String(error)}\n${child.log}`);
    }
    return gateway;
  }

  get pid(): number {
    return this.child.pid;
  }

  rtmpUrl(stream = "livestream", app = "live"): string {
    return `rtmp://127.0.0.1:${this.ports.rtmp}/${app}/${stream}`;
  }

  whepUrl(stream = "livestream", app = "live"): string {
    return `http://127.0.0.1:${this.ports.api}/rtc/v1/whep/?app=${app}&stream=${stream}`;
  }

  whipUrl(stream = "livestream", query = "", app = "live"): string {
    return `http://127.0.0.1:${this.ports.api}/rtc/v1/whip/?app=${app}&stream=${stream}${query}`;
  }

  pageUrl(query = "", page = "players/whep.html"): string {
    return `http://127.0.0.1:${this.ports.http}/${page}${query}`;
  }

  /** The stream as the API shows it, or undefined. */
  async stream(name = "livestream"): Promise<StreamState | undefined> {
    const answer = await fetch(`http://127.0.0.1:${this.ports.api}/api/v1/streams?count=1000`);
    const { streams } = (await answer.json()) as { streams: StreamState[] };
    return streams.find((stream) => stream.name === name);
  }

  /** Waits until a publisher's media has come. */
  async live(name = "livestream", timeoutMs = 10_000): Promise<void> {
    await eventually(
      `${name} is live`,
      async () => {
        const stream = await this.stream(name);
        return stream?.state === "live" && stream.frames > 0 && (stream.video ?? stream.audio) !== null ? true : undefined;
      },
      timeoutMs,
    );
  }

  cost(): ReturnType<typeof costOf> {
    return costOf(this.pid);
  }

  cpuMs(): number {
    return cpuTimeOf(this.pid);
  }

  children(): ReturnType<typeof childrenOf> {
    return childrenOf(this.pid);
  }

  openFiles(): ReturnType<typeof openFilesOf> {
    return openFilesOf(this.pid);
  }

  /** Memory after a garbage collection, in bytes. Only for one started with MEASURE_MEMORY. */
  async memory(): Promise<NodeJS.MemoryUsage> {
    const seen = this.child.lines(MEMORY_LINE).length;
    this.child.process.kill("SIGUSR2");
    const line = await eventually("memory is told", () => this.child.lines(MEMORY_LINE)[seen]);
    return JSON.parse(line.replace(MEMORY_LINE, "")) as NodeJS.MemoryUsage;
  }

  /** Ends it. @throws Error when it does not end in time by itself, with code 0, or leaves a child */
  async stop(): Promise<Exit> {
    const children = this.child.exit === undefined ? this.children() : [];
    const exit = await this.child.stop("SIGTERM", 7000);
    rmSync(this.#folder, { recursive: true, force: true });
    for (const { pid, command } of children) {
      await eventually(`its child has ended: ${command}`, () => (isAlive(pid) ? undefined : true), 2000);
    }
    if (exit.code !== 0) throw new Error(`the gateway ended with ${exit.code ?? exit.signal}:\n${this.child.log.slice(-4000)}`);
    return exit;
  }

  async #answers(): Promise<true | undefined> {
    try {
      await fetch(`http://127.0.0.1:${this.ports.api}/api/v1/versions`);
      await fetch(`http://127.0.0.1:${this.ports.http}/`);
      return true;
    } catch {
      return undefined;
    }
  }
}

export async function freePorts(): Promise<Ports> {
  const [rtmp, api, http, rtc] = [await freeTcpPort(), await freeTcpPort(), await freeTcpPort(), await freeUdpPort()];
  return { rtmp, api, http, rtc };
}

export function configText(ports: Ports, options: GatewayOptions): string {
  return `
listen 127.0.0.1:${ports.rtmp};
http_api { enabled on; listen 127.0.0.1:${ports.api}; }
http_server { enabled on; listen 127.0.0.1:${ports.http}; }
rtc_server { enabled on; listen 127.0.0.1:${ports.rtc}; candidate 127.0.0.1; }
${options.top ?? ""}
vhost __defaultVhost__ {
  rtc { enabled on; rtmp_to_rtc on; ${options.rtc ?? ""} }
  ${options.vhost ?? ""}
}
`;
}

export async function freeTcpPort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  server.close();
  await once(server, "close");
  if (address === null || typeof address === "string") throw new Error("no port");
  return address.port;
}

async function freeUdpPort(): Promise<number> {
  const socket = createSocket("udp4").bind(0, "127.0.0.1");
  await once(socket, "listening");
  const { port } = socket.address();
  socket.close();
  return port;
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}
