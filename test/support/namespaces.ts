// Three network namespaces in a row: this process's own (the gateway), a router, a client. They are held by sleeping processes and go
// with them; nothing of the machine's own network is touched, since the caller has been started in a namespace of its own.

import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { chmodSync, existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

export const GATEWAY_ADDRESS = "10.99.2.2";
export const GATEWAY_ADDRESS_V6 = "fd99:2::2";
/** The router's, on the client's side. */
export const ROUTER_ADDRESS = "198.51.100.1";
export const CLIENT_ADDRESS = "198.51.100.2";

/** @returns why namespaces cannot be had here, or undefined */
export function namespacesObstacle(): string | undefined {
  if (process.platform !== "linux") return "namespaces are Linux's";
  for (const program of ["unshare", "nsenter", "ip", "nft"]) {
    if (!(process.env["PATH"] ?? "").split(":").some((folder) => existsSync(join(folder, program))))
      return `${program} is not installed`;
  }
  const probe = [
    "-n",
    "sh",
    "-c",
    "ip link set lo up && ip link add p0 type veth peer name p1 && echo 1 > /proc/sys/net/ipv4/ip_forward && nft add table ip nat && nft 'add chain ip nat pre { type nat hook prerouting priority -100; }'",
  ];
  const { status, stderr } = spawnSync("unshare", probe, { encoding: "utf8" });
  return status === 0 ? undefined : `no right to make network namespaces: ${stderr.trim().slice(0, 200)}`;
}

export class Namespaces {
  readonly #router: ChildProcess;
  readonly #client: ChildProcess;
  readonly #folder = mkdtempSync(join(tmpdir(), "sluice-ns-"));

  /** The calling process must be alone in its namespace. */
  constructor() {
    run("ip", "link", "set", "lo", "up");
    this.#router = hold();
    this.#client = hold();
    const [router, client] = [this.#router.pid ?? 0, this.#client.pid ?? 0];
    run("ip", "link", "add", "g0", "type", "veth", "peer", "name", "r0", "netns", String(router));
    run("ip", "address", "add", `${GATEWAY_ADDRESS}/24`, "dev", "g0");
    run("ip", "link", "set", "g0", "up");
    run("ip", "route", "add", "default", "via", "10.99.2.1");
    inside(router, `ip link set lo up; ip address add 10.99.2.1/24 dev r0; ip link set r0 up`);
    inside(router, `ip link add r1 type veth peer name c0 netns ${client}`);
    inside(router, `ip address add ${ROUTER_ADDRESS}/24 dev r1; ip link set r1 up; echo 1 > /proc/sys/net/ipv4/ip_forward`);
    inside(client, `ip link set lo up; ip address add ${CLIENT_ADDRESS}/24 dev c0; ip link set c0 up`);
    inside(client, `ip route add default via ${ROUTER_ADDRESS}`);
    // IPv6 where the machine has it; nodad: usable at once.
    if (!existsSync("/proc/net/if_inet6")) return;
    run("ip", "address", "add", `${GATEWAY_ADDRESS_V6}/64`, "dev", "g0", "nodad");
    run("ip", "route", "add", "default", "via", "fd99:2::1");
    inside(router, "echo 1 > /proc/sys/net/ipv6/conf/all/forwarding; ip address add fd99:2::1/64 dev r0 nodad");
    inside(router, "ip address add fd99:1::1/64 dev r1 nodad");
    inside(client, "ip address add fd99:1::2/64 dev c0 nodad; ip route add default via fd99:1::1");
  }

  /** Replaces the router's rules, in nft's language. */
  rules(text: string): void {
    inside(this.#router.pid ?? 0, `nft flush ruleset; nft -f - <<'END'\n${text}\nEND`);
  }

  /** What to start instead of a program so that it runs where the client is. */
  clientCommand(program: string): string {
    const path = join(this.#folder, "client");
    writeFileSync(path, `#!/bin/sh\nexec nsenter -t ${this.#client.pid} -n ${program} "$@"\n`);
    chmodSync(path, 0o755);
    return path;
  }

  close(): void {
    this.#client.kill("SIGKILL");
    this.#router.kill("SIGKILL");
    rmSync(this.#folder, { recursive: true, force: true });
  }
}

/** A process in a namespace of its own; returns when it is there. */
function hold(): ChildProcess {
  const child = spawn("unshare", ["-n", "sleep", "600"], { stdio: "ignore" });
  const isThere = (): boolean =>
    spawnSync("sh", ["-c", `test "$(readlink /proc/${child.pid}/ns/net)" != "$(readlink /proc/self/ns/net)"`]).status === 0;
  for (let attempt = 0; !isThere(); attempt++) {
    if (attempt > 100) throw new Error("no namespace came about");
    spawnSync("sleep", ["0.05"]);
  }
  return child;
}

function inside(pid: number, script: string): void {
  run("nsenter", "-t", String(pid), "-n", "sh", "-e", "-c", script);
}

function run(program: string, ...words: string[]): void {
  const { status, stderr } = spawnSync(program, words, { encoding: "utf8" });
  if (status !== 0) throw new Error(`${program} ${words.join(" ")}: ${stderr}`);
}
