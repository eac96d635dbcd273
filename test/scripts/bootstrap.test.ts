import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { after, test } from "node:test";
import { fileURLToPath } from "node:url";

const BOOTSTRAP = fileURLToPath(new URL("../../../scripts/bootstrap.mjs", import.meta.url));
const folders: string[] = [];
after(() => folders.forEach((folder) => void rmSync(folder, { recursive: true })));

/** npm that notes what it was asked for and installs by its record alone. */
const NPM = `
  import { appendFileSync, copyFileSync, existsSync, mkdirSync } from "node:fs";
  appendFileSync("calls.txt", "npm " + process.argv.slice(2).filter((word) => !/audit|fund|loglevel/.test(word)).join(" ") + "\\n");
  if (process.argv[2] === "ci" && existsSync("out-of-sync")) {
    console.error("npm error package.json and package-lock.json are not in sync.");
    process.exit(1);
  }
  mkdirSync("node_modules", { recursive: true });
  copyFileSync("package-lock.json", "node_modules/.package-lock.json");
`;

/** A compiler that copies, and fails where a source says "error". */
const TSC = `
  const { appendFileSync, mkdirSync, readdirSync, readFileSync, writeFileSync } = require("node:fs");
  appendFileSync("calls.txt", "tsc\\n");
  for (const name of readdirSync("gateway").filter((name) => name.endsWith(".ts"))) {
    const text = readFileSync("gateway/" + name, "utf8");
    if (text.includes("error")) { console.log("gateway/" + name + "(1,1): error TS1: no"); process.exit(2); }
    mkdirSync("dist/gateway", { recursive: true });
    writeFileSync("dist/gateway/" + name.replace(/ts$/, "js"), text);
  }
`;

const COMMAND = 'console.log("runs", ...process.argv.slice(2)); process.exitCode = 3;';
const LOCK = {
  packages: { "": {}, "node_modules/pino": { version: "1.0.0" }, "node_modules/typescript": { version: "1.0.0", dev: true } },
};

/** A small repository that bootstrap.mjs can set up without a network. */
class Clone {
  readonly root = mkdtempSync(join(tmpdir(), "sluice-bootstrap-"));

  constructor() {
    folders.push(this.root);
    this.write("package.json", "{}");
    this.write("tsconfig.json", "{}");
    this.write("package-lock.json", JSON.stringify(LOCK));
    this.write("npm.mjs", NPM);
    this.write("node_modules/typescript/bin/tsc", TSC);
    this.write("gateway/main.ts", COMMAND);
    mkdirSync(join(this.root, "scripts"));
    copyFileSync(BOOTSTRAP, join(this.root, "scripts/bootstrap.mjs"));
  }

  write(name: string, text: string): void {
    mkdirSync(dirname(join(this.root, name)), { recursive: true });
    writeFileSync(join(this.root, name), text);
  }

  /** Programs that were called since the last time. */
  calls(): string[] {
    const path = join(this.root, "calls.txt");
    const calls = existsSync(path) ? readFileSync(path, "utf8").trim().split("\n") : [];
    rmSync(path, { force: true });
    return calls;
  }

  async run(argv: readonly string[], environment: Readonly<Record<string, string>> = {}) {
    const { npm_lifecycle_event: _, INIT_CWD: __, ...inherited } = process.env;
    const env = { ...inherited, npm_execpath: join(this.root, "npm.mjs"), ...environment };
    const child = spawn(process.execPath, ["scripts/bootstrap.mjs", ...argv], {
      cwd: this.root,
      env,
      stdio: ["ignore", "pipe", "pipe"],
    });
    let [stdout, stderr] = ["", ""];
    child.stdout.setEncoding("utf8").on("data", (text: string) => {
      stdout += text;
    });
    child.stderr.setEncoding("utf8").on("data", (text: string) => {
      stderr += text;
    });
    await once(child, "close");
    return { code: child.exitCode, stdout, stderr };
  }
}

const INSTALL = "npm ci --ignore-scripts";

test("a fresh clone is installed and built once, and the command gets its arguments and keeps its exit code", async () => {
  const clone = new Clone();
  const first = await clone.run(["start", "-c", "x.conf"]);
  assert.deepEqual([first.code, first.stdout], [3, "runs -c x.conf\n"], first.stderr);
  assert.deepEqual(clone.calls(), [INSTALL, "tsc"]);
  const second = await clone.run(["start"]);
  assert.deepEqual([second.code, second.stdout, second.stderr], [3, "runs\n", ""]);
  assert.deepEqual(clone.calls(), []);
});

test("a changed source is built again, and what came of a deleted one goes away", async () => {
  const clone = new Clone();
  clone.write("gateway/old.ts", "1;");
  await clone.run(["start"]);
  assert.ok(existsSync(join(clone.root, "dist/gateway/old.js")));
  clone.calls();
  rmSync(join(clone.root, "gateway/old.ts"));
  clone.write("gateway/main.ts", 'console.log("new");');
  assert.equal((await clone.run(["start"])).stdout, "new\n");
  assert.deepEqual(clone.calls(), ["tsc"]);
  assert.ok(!existsSync(join(clone.root, "dist/gateway/old.js")));
  utimesSync(join(clone.root, "gateway/main.ts"), 1, 1); // a checkout of an older state
  await clone.run(["start"]);
  assert.deepEqual(clone.calls(), ["tsc"]);
});

test("a changed lock file installs again", async () => {
  const clone = new Clone();
  await clone.run(["start"]);
  clone.calls();
  clone.write("package-lock.json", JSON.stringify({ packages: { ...LOCK.packages, "node_modules/pino": { version: "1.0.1" } } }));
  await clone.run(["start"]);
  assert.deepEqual(clone.calls(), [INSTALL]);
});

test("a lock file that npm ci refuses is installed by npm install, which writes nothing to the clone", async () => {
  const clone = new Clone();
  clone.write("out-of-sync", "");
  assert.equal((await clone.run(["start"])).code, 3);
  assert.deepEqual(clone.calls(), [INSTALL, "npm install --no-save --ignore-scripts", "tsc"]);
});

test("a built gateway starts without the packages for development", async () => {
  const clone = new Clone();
  await clone.run(["start"]);
  clone.calls();
  const production = { packages: { "": {}, "node_modules/pino": LOCK.packages["node_modules/pino"] } };
  clone.write("node_modules/.package-lock.json", JSON.stringify(production)); // as npm ci --omit=dev leaves it
  assert.equal((await clone.run(["start"])).code, 3);
  assert.deepEqual(clone.calls(), []);
});

test("a source that does not compile ends with the compiler's words, now and until it is mended", async () => {
  const clone = new Clone();
  clone.write("gateway/main.ts", "error");
  for (let round = 0; round < 2; round++) {
    const { code, stdout, stderr } = await clone.run(["start"]);
    assert.deepEqual([code, stdout], [1, ""]);
    assert.match(stderr, /gateway\/main\.ts\(1,1\): error TS1: no\ntsc failed \(exit code 2\)/);
  }
  clone.write("gateway/main.ts", COMMAND);
  assert.equal((await clone.run(["start"])).code, 3);
});

test("never installs into a linked node_modules", async () => {
  const clone = new Clone();
  const other = new Clone();
  rmSync(join(clone.root, "node_modules"), { recursive: true });
  symlinkSync(join(other.root, "node_modules"), join(clone.root, "node_modules"));
  const { code, stderr } = await clone.run(["start"]);
  assert.equal(code, 1);
  assert.match(stderr, /node_modules is a link/);
  assert.deepEqual(clone.calls(), []);
});

test("a set-up whose process was killed does not block the next one", async () => {
  const clone = new Clone();
  clone.write("dist/.setup-lock", "999999999");
  assert.equal((await clone.run(["start"])).code, 3);
});

test("a relative path on the command line starts where npm was called", async () => {
  const clone = new Clone();
  clone.write("gateway/main.ts", "console.log(process.cwd());");
  const { stdout } = await clone.run(["start"], { INIT_CWD: tmpdir() });
  assert.equal(stdout.trim(), tmpdir());
});

test("test names the clients that are missing and cannot be installed", async () => {
  const clone = new Clone();
  clone.write("empty/nothing", "");
  const { code, stdout, stderr } = await clone.run(["test"], { PATH: join(clone.root, "empty") });
  assert.deepEqual([code, stdout], [1, ""]);
  assert.match(stderr, /missing: chromium, ffmpeg\.[\s\S]*apt-get install .*chromium ffmpeg[\s\S]*npm run test:unit/);
});

test("an unknown command is answered with the known ones", async () => {
  const { code, stderr } = await new Clone().run(["strat"]);
  assert.equal(code, 1);
  assert.match(stderr, /usage: .*start \| test \| bench/);
});
