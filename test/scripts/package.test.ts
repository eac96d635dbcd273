import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";

const ROOT = fileURLToPath(new URL("../../../", import.meta.url));
const folder = mkdtempSync(join(tmpdir(), "sluice-package-"));
const installed = join(folder, "node_modules/sluice");
after(() => rmSync(folder, { recursive: true }));

function run(program: string, argv: readonly string[], cwd: string) {
  const { status, stdout, stderr, error } = spawnSync(program, argv, { cwd, encoding: "utf8", timeout: 60_000 });
  return { status, stdout, stderr: `${stderr}${error?.message ?? ""}` };
}

/** Packs this package as npm would publish it, and lays it out as npm would install it, with this repository's packages beside it. */
before(() => {
  const packed = run("npm", ["pack", "--ignore-scripts", "--pack-destination", folder], ROOT); // dist is built: this test runs from it
  assert.equal(packed.status, 0, packed.stderr);
  mkdirSync(installed, { recursive: true });
  const tarball = readdirSync(folder).find((name) => name.endsWith(".tgz"));
  const unpacked = run("tar", ["-xzf", join(folder, tarball ?? ""), "-C", installed, "--strip-components=1"], folder);
  assert.equal(unpacked.status, 0, unpacked.stderr);
  for (const name of readdirSync(join(ROOT, "node_modules"))) {
    if (!name.startsWith(".")) symlinkSync(join(ROOT, "node_modules", name), join(folder, "node_modules", name));
  }
  writeFileSync(join(folder, "package.json"), '{ "type": "module" }');
});

test("the package brings what it needs to run, and none of the tests", () => {
  for (const file of [
    "dist/gateway/main.js",
    "dist/gateway/gateway.d.ts",
    "conf/gateway.conf",
    "conf/full.conf",
    "players/whep.html",
    "LICENSE",
  ]) {
    assert.ok(existsSync(join(installed, file)), file);
  }
  for (const file of ["dist/test", "dist/scripts", "test", "gateway"]) assert.ok(!existsSync(join(installed, file)), file);
});

test("sluice is a command", () => {
  const command = join(folder, "node_modules/sluice/dist/gateway/main.js");
  chmodSync(command, 0o755); // as npm does with what "bin" names
  mkdirSync(join(folder, "node_modules/.bin"));
  symlinkSync("../sluice/dist/gateway/main.js", join(folder, "node_modules/.bin/sluice"));
  const { status, stdout, stderr } = run(join(folder, "node_modules/.bin/sluice"), ["-t"], folder);
  assert.equal(status, 0, stderr);
  assert.match(stdout, /conf\/gateway\.conf: the configuration is good/);
});

test("sluice is a typed library that starts and closes", () => {
  const source = `
    import { Gateway, loadConfig, parseConfig, type Config } from "sluice";
    const config: Config = parseConfig(\`
      listen 127.0.0.1:0; http_api { listen 127.0.0.1:0; } http_server { listen 127.0.0.1:0; }
    \`).config;
    const gateway = new Gateway({ config: { ...loadConfig({ environment: {} }).config, ...config, logLevel: "error" } });
    gateway.on("publish", ({ name, peer }) => console.log(name.stream.toUpperCase(), peer.id.length));
    gateway.on("unpublish", ({ reason }) => console.log(reason.length));
    await gateway.start();
    const port: number | undefined = gateway.addresses.rtmp[0]?.port;
    console.log(port !== undefined && port > 0 ? "listens" : "does not listen");
    await gateway.close();
    // @ts-expect-error: the types are there, and they are not any
    gateway.frobnicate();
  `;
  writeFileSync(join(folder, "index.ts"), source);
  const options = { module: "NodeNext", target: "ES2023", strict: true, noEmitOnError: true, types: ["node"] };
  writeFileSync(join(folder, "tsconfig.json"), JSON.stringify({ compilerOptions: options, files: ["index.ts"] }));
  const compiled = run(process.execPath, [join(ROOT, "node_modules/typescript/bin/tsc"), "-p", "tsconfig.json"], folder);
  assert.equal(compiled.status, 0, compiled.stdout);
  const { stdout, stderr } = run(process.execPath, ["index.js"], folder);
  assert.match(stdout, /^listens$/m, stderr);
  assert.match(stderr, /gateway\.frobnicate is not a function/); // it came that far
});
