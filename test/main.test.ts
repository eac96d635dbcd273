import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { connect, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { fileURLToPath } from "node:url";

const MAIN = fileURLToPath(new URL("../gateway/main.js", import.meta.url));
const folder = mkdtempSync(join(tmpdir(), "sluice-main-"));
after(() => rmSync(folder, { recursive: true }));

const CONFIG = `
  listen 127.0.0.1:0;
  http_api { listen 127.0.0.1:0; }
  http_server { listen 127.0.0.1:0; }
  rtc_server { enabled on; listen 127.0.0.1:0; candidate 127.0.0.1; }
  vhost __defaultVhost__ { rtc { enabled on; rtmp_to_rtc on; } }
`;

function file(name: string, text: string): string {
  const path = join(folder, name);
  writeFileSync(path, text);
  return path;
}

/** The command in a process of its own; what it writes is kept. */
class Command {
  readonly child: ChildProcess;
  stdout = "";
  stderr = "";
  readonly #exited: Promise<unknown[]>;

  constructor(
    argv: readonly string[],
    environment: Readonly<Record<string, string>> = {},
    nodeArguments: readonly string[] = [],
  ) {
    const inherited = Object.entries(process.env).filter(([name]) => !name.startsWith("SRS_") && name !== "CANDIDATE");
    const env = { ...Object.fromEntries(inherited), ...environment };
    this.child = spawn(process.execPath, [...nodeArguments, MAIN, ...argv], { env, stdio: ["ignore", "pipe", "pipe"] });
    this.#exited = once(this.child, "exit");
    this.child.stdout?.setEncoding("utf8").on("data", (text: string) => {
      this.stdout += text;
    });
    this.child.stderr?.setEncoding("utf8").on("data", (text: string) => {
      this.stderr += text;
    });
  }

  /** Waits until the output matches; fails when the process ends before. */
  async seen(pattern: RegExp): Promise<void> {
    while (!pattern.test(this.stdout + this.stderr)) {
      if (this.child.exitCode !== null) assert.fail(`ended without ${pattern}:\n${this.stdout}${this.stderr}`);
      const { stdout, stderr } = this.child;
      assert.ok(stdout !== null && stderr !== null);
      await Promise.race([once(stdout, "data"), once(stderr, "data"), this.#exited]);
    }
  }

  async exitCode(): Promise<number | null> {
    await this.#exited;
    return this.child.exitCode;
  }
}

async function running(
  argv: readonly string[],
  use: (command: Command) => Promise<void>,
  nodeArguments: readonly string[] = [],
): Promise<void> {
  const command = new Command(argv, {}, nodeArguments);
  try {
    await command.seen(/is running/);
    await use(command);
  } finally {
    if (command.child.exitCode === null) command.child.kill("SIGKILL");
  }
}

test("-t tests a configuration", async () => {
  const good = new Command(["-t", "-c", file("good.conf", CONFIG)]);
  assert.equal(await good.exitCode(), 0);
  assert.match(good.stdout, /good\.conf: the configuration is good/);

  const bad = new Command(["-t", "-c", file("bad.conf", "listen 1935\nhtp_api { }\n")]);
  assert.equal(await bad.exitCode(), 1);
  assert.equal(bad.stdout, "");
  assert.match(bad.stderr, /bad\.conf:1: /);
  assert.match(bad.stderr, /bad\.conf:2: unknown directive "htp_api"; did you mean "http_api"\?/);
  assert.match(bad.stderr, /problems in the configuration/);
});

test("without arguments the packaged configuration is used", async () => {
  const command = new Command(["-t"]);
  assert.equal(await command.exitCode(), 0);
  assert.match(command.stdout, /conf\/gateway\.conf: the configuration is good/);
});

test("-e takes the environment only", async () => {
  const good = new Command(["-e", "-t"], { SRS_LISTEN: "1936" });
  assert.equal(await good.exitCode(), 0);
  const bad = new Command(["-e", "-t"], { SRS_LISTEN: "x" });
  assert.equal(await bad.exitCode(), 1);
  assert.match(bad.stderr, /environment SRS_LISTEN: expected PORT/);
});

test("a bad configuration or argument starts nothing: exit code 1", async () => {
  const missing = new Command(["-c", join(folder, "none.conf")]);
  const unknown = new Command(["--frobnicate"]);
  const both = new Command(["-e", "-c", "x.conf"]);
  assert.deepEqual([await missing.exitCode(), await unknown.exitCode(), await both.exitCode()], [1, 1, 1]);
  assert.match(missing.stderr, /none\.conf: cannot be read: no such file/);
  assert.match(unknown.stderr, /--frobnicate[\s\S]*usage: sluice/);
});

test("-v and -h print and end", async () => {
  const [version, help] = [new Command(["-v"]), new Command(["-h"])];
  assert.deepEqual([await version.exitCode(), await help.exitCode()], [0, 0]);
  assert.match(version.stdout, /^sluice \d+\.\d+\.\d+\n$/);
  assert.match(help.stdout, /^usage: sluice/);
});

test("says where to push and watch, and ends on SIGTERM with exit code 0", async () => {
  await running(["-c", file("run.conf", CONFIG)], async (command) => {
    assert.match(command.stdout, /push to +rtmp:\/\/127\.0\.0\.1:\d+\/live\/livestream/);
    assert.match(command.stdout, /watch at +http:\/\/127\.0\.0\.1:\d+\/players\/whep\.html/);
    const started = performance.now();
    command.child.kill("SIGTERM");
    assert.equal(await command.exitCode(), 0);
    assert.ok(performance.now() - started < 5_000);
    assert.match(command.stderr, /ending.*signal=SIGTERM[\s\S]*ended/);
  });
});

test("a Ctrl-C that arrives twice, from the terminal and from npm, is one", async () => {
  await running(["-c", file("echo.conf", CONFIG)], async (command) => {
    command.child.kill("SIGINT");
    command.child.kill("SIGINT");
    assert.equal(await command.exitCode(), 0);
    assert.doesNotMatch(command.stderr, /second signal/);
  });
});

test("a taken port ends the start with its directive and exit code 1", async () => {
  const holder = createServer().listen(0, "127.0.0.1");
  await once(holder, "listening");
  const address = holder.address();
  assert.ok(address !== null && typeof address === "object");
  try {
    const command = new Command([
      "-c",
      file("taken.conf", CONFIG.replace("listen 127.0.0.1:0", `listen 127.0.0.1:${address.port}`)),
    ]);
    assert.equal(await command.exitCode(), 1);
    assert.match(command.stderr, new RegExp(`cannot start: .*listen.*127\\.0\\.0\\.1:${address.port}.*taken`));
    assert.doesNotMatch(command.stderr, /\n +at /);
  } finally {
    holder.close();
  }
});

test("SIGHUP reloads, and a configuration that does not parse leaves the running one in place", async () => {
  const path = file("reload.conf", CONFIG);
  await running(["-c", path], async (command) => {
    file("reload.conf", `${CONFIG}\nnonsense;`);
    command.child.kill("SIGHUP");
    await command.seen(/reload refused.*nonsense/);
    file("reload.conf", CONFIG.replace("rtmp_to_rtc on", "rtmp_to_rtc off"));
    command.child.kill("SIGHUP");
    await command.seen(/configuration reloaded/);
    file("reload.conf", CONFIG.replace("http_api {", "http_api { crossdomain off;"));
    command.child.kill("SIGHUP");
    await command.seen(/configuration reloaded; these changes wait for a restart.*http_api/);
    command.child.kill("SIGTERM");
    assert.equal(await command.exitCode(), 0);
  });
});

test("an error that nobody caught is logged with its stack, and the gateway serves on", async () => {
  const bug = 'process.on("SIGUSR2", () => { Promise.reject(new Error("bang")); throw new Error("boom"); })';
  await running(
    ["-c", file("bug.conf", CONFIG)],
    async (command) => {
      command.child.kill("SIGUSR2");
      await command.seen(/uncaught exception: a bug in Sluice; it goes on serving.*boom\n +Error: boom\n +at /);
      await command.seen(/unhandled rejection: .*bang/);
      const [, port] = /rtmp:\/\/127\.0\.0\.1:(\d+)/.exec(command.stdout) ?? [];
      const socket = connect(Number(port), "127.0.0.1");
      await once(socket, "connect");
      socket.destroy();
      command.child.kill("SIGTERM");
      assert.equal(await command.exitCode(), 0);
    },
    ["--import", `data:text/javascript,${encodeURIComponent(bug)}`],
  );
});
