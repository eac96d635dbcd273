import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { test } from "node:test";

const ROOT = new URL("../../gateway/", import.meta.url).href;

/** Runs a script in a Node where loading `koffi` behaves as `koffi` says. */
function runWith(koffi: string, script: string): string {
  const hook = `
    const Module = require("node:module");
    const load = Module._load;
    Module._load = function (request, ...rest) {
      if (request !== "koffi") return load.call(this, request, ...rest);
      ${koffi}
    };`;
  const child = spawnSync(
    process.execPath,
    [
      "--input-type=module",
      "--eval",
      `import { createRequire } from "node:module";
      const require = createRequire(import.meta.url);
      ${hook}
      ${script}`,
    ],
    { encoding: "utf8", timeout: 20_000 },
  );
  assert.equal(child.status, 0, child.stderr);
  return child.stdout.trim();
}

const TRY_BOTH = `
  const { createDtlsContext } = await import("${ROOT}native/dtls.js");
  const { openUdpSockets } = await import("${ROOT}native/udp.js");
  const { createEgress } = await import("${ROOT}rtc/egress-create.js");
  try {
    createDtlsContext({ ecdsa: true });
    console.log("works");
  } catch (error) {
    console.log(error.name, error.code, error.message);
  }
  const sockets = await openUdpSockets({ listen: [{ host: "127.0.0.1", port: 0 }], onDatagram: () => {} });
  const egress = createEgress(sockets);
  console.log(egress.constructor.name);
  egress.close();
  await sockets.close();`;

test("without koffi DTLS says so by name, and sockets and egress are the portable ones", () => {
  const output = runWith(`throw new Error("no prebuilt binary");`, TRY_BOTH);
  assert.match(output, /^NativeUnavailable koffi koffi cannot be loaded on \S+: no prebuilt binary\nPortableEgress$/);
});

test("without OpenSSL's symbols DTLS says where it looked", () => {
  const output = runWith(
    `const koffi = load.call(this, request, ...rest);
     return { ...koffi, load: (name) => ({ func: () => { throw new Error("cannot find function"); }, symbol: () => { throw new Error(); } }) };`,
    TRY_BOTH,
  );
  assert.match(
    output,
    /^NativeUnavailable openssl no OpenSSL 3 found \(node: .*libssl\.so\.3: .*libcrypto\.so\.3: .*\)\nPortableEgress$/,
  );
});
