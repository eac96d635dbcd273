// @ts-check
// What the npm commands run: installs and builds whatever is missing or old, then runs the command in this same process, so that
// signals and exit codes are its own. Plain JavaScript without packages, because it runs before there are any.
//
//   node scripts/bootstrap.mjs start | test [--unit] | bench | demo | doctor | soak   [arguments for the command]

import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, lstatSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { delimiter, dirname, join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";

const ROOT = dirname(dirname(fileURLToPath(import.meta.url)));

/** @type {Readonly<Record<string, string>>} */
const COMMANDS = {
  start: "dist/gateway/main.js",
  test: "dist/scripts/test.js",
  bench: "dist/scripts/bench.js",
  demo: "dist/scripts/demo.js",
  doctor: "dist/scripts/doctor.js",
  soak: "dist/scripts/soak.js",
};

const SOURCE_FOLDERS = ["gateway", "transcoder", "scripts", "test"]; // as in tsconfig.json
const STAMP = join(ROOT, "dist/.sources"); // what dist was built from
const LOCK = join(ROOT, "dist/.setup-lock"); // holds the id of the process that sets up

/** A failure that has been explained already. */
class SetupFailure extends Error {}

try {
  await main(process.argv[2] ?? "", process.argv.slice(3));
} catch (error) {
  if (!(error instanceof SetupFailure)) throw error;
  console.error(error.message);
  process.exit(1);
}

/** @param {string} command @param {readonly string[]} commandArguments */
async function main(command, commandArguments) {
  const script = COMMANDS[command];
  if (script === undefined) fail(`usage: node scripts/bootstrap.mjs ${Object.keys(COMMANDS).join(" | ")} [arguments]`);
  checkNode();
  setUp(command);
  if (command === "test" && !commandArguments.includes("--unit")) provideClients();
  if (!existsSync(join(ROOT, script))) fail(`${command}: ${script} is not part of this version`);
  if (process.env.npm_lifecycle_event !== undefined) endWithParent();
  // npm runs scripts in the package's folder; `npm start -- -c my.conf` means the folder it was typed in.
  const { INIT_CWD } = process.env;
  if (command === "start" && INIT_CWD !== undefined && existsSync(INIT_CWD)) process.chdir(INIT_CWD);
  process.argv = [process.execPath, join(ROOT, script), ...commandArguments];
  await import(pathToFileURL(join(ROOT, script)).href);
}

function checkNode() {
  const major = Number(process.versions.node.split(".")[0]);
  if (major < 20) fail(`Node ${process.versions.node} is too old: Sluice needs Node 20 or newer (https://nodejs.org)`);
}

/**
 * npm runs this by a shell and passes a SIGTERM on to that shell, which dies of it and tells nobody: what was started would run on and
 * hold its ports. So the end of the shell counts as the signal.
 */
function endWithParent() {
  const parent = process.ppid;
  const timer = setInterval(() => {
    if (process.ppid === parent) return;
    clearInterval(timer);
    process.kill(process.pid, "SIGTERM");
  }, 250);
  timer.unref();
}

/**
 * Installs packages and builds, each only when needed. A gateway that was built elsewhere (an image that got dist/ and
 * `npm ci --omit=dev`) starts without the packages for development.
 * @param {string} command
 */
function setUp(command) {
  const isCurrent = () => isBuilt() && missingPackage(command === "start") === undefined;
  if (isCurrent()) return;
  withLock(() => {
    if (isCurrent()) return; // somebody else just did it
    installPackages();
    if (!isBuilt()) build();
  });
}

function installPackages() {
  const missing = missingPackage(false);
  if (missing === undefined) return;
  const folder = join(ROOT, "node_modules");
  if (existsSync(folder) && lstatSync(folder).isSymbolicLink()) {
    fail(`node_modules is a link, and what it points to lacks ${missing}: run "npm install" there`);
  }
  console.error("Installing packages (the first time takes a minute) …");
  // Scripts of packages are not needed: everything native here is prebuilt and in the packages themselves.
  const options = ["--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"];
  const result = run(npm(["ci", ...options]));
  if (result.status === 0) return;
  // npm refuses a lock file that does not list the binaries of every platform, which registries with only some of them lead to;
  // an install by the same lock file does as well. It must not write to the clone.
  if (!/in sync/.test(result.stderr)) explain(result, "npm ci");
  runQuietly(npm(["install", "--no-save", ...options]), "npm install");
}

function build() {
  console.error("Building …");
  runQuietly([process.execPath, join(ROOT, "node_modules/typescript/bin/tsc")], "tsc");
  removeOrphans(join(ROOT, "dist"), ROOT);
  writeFileSync(STAMP, fingerprint());
}

/**
 * The first package of the lock file that is not installed in the wanted version, by npm's own record of what it installed.
 * @param {boolean} productionOnly
 * @returns {string | undefined}
 */
function missingPackage(productionOnly) {
  const installed = readPackages("node_modules/.package-lock.json");
  if (installed === undefined) return "every package";
  for (const [path, wanted] of Object.entries(readPackages("package-lock.json") ?? {})) {
    if (path === "" || wanted.optional || wanted.devOptional || wanted.link) continue; // may rightly be missing on this platform
    if (productionOnly && wanted.dev) continue;
    if (installed[path]?.version !== wanted.version) return path.replace(/^.*node_modules\//, "");
  }
  return undefined;
}

/**
 * @param {string} file
 * @returns {Record<string, { version?: string, dev?: boolean, optional?: boolean, devOptional?: boolean, link?: boolean }> | undefined}
 */
function readPackages(file) {
  try {
    return JSON.parse(readFileSync(join(ROOT, file), "utf8")).packages;
  } catch {
    return undefined; // not there, or cut off by an install that was interrupted
  }
}

function isBuilt() {
  try {
    return readFileSync(STAMP, "utf8") === fingerprint();
  } catch {
    return false;
  }
}

/** A digest of names, sizes and times of all sources: some milliseconds instead of a compiler run. */
function fingerprint() {
  const hash = createHash("sha256");
  for (const file of ["package.json", "tsconfig.json", ...SOURCE_FOLDERS.flatMap((folder) => listFiles(folder, ".ts"))]) {
    const { size, mtimeMs } = statSync(join(ROOT, file));
    hash.update(`${file} ${size} ${mtimeMs}\n`);
  }
  return hash.digest("hex");
}

/**
 * @param {string} folder relative to the root
 * @param {string} ending
 * @returns {string[]}
 */
function listFiles(folder, ending) {
  if (!existsSync(join(ROOT, folder))) return [];
  return readdirSync(join(ROOT, folder), { recursive: true, encoding: "utf8" })
    .filter((name) => name.endsWith(ending))
    .map((name) => join(folder, name))
    .sort();
}

/**
 * Takes away what was built from sources that are gone: a deleted test must not run on.
 * @param {string} built @param {string} sources
 */
function removeOrphans(built, sources) {
  for (const file of SOURCE_FOLDERS.flatMap((folder) => listFiles(join("dist", folder), ".js"))) {
    const source = join(sources, file.slice("dist/".length).replace(/\.js$/, ".ts"));
    if (existsSync(source)) continue;
    const stem = join(built, file.slice("dist/".length)).replace(/\.js$/, "");
    for (const ending of [".js", ".js.map", ".d.ts"]) rmSync(stem + ending, { force: true });
  }
}

/**
 * Two commands started at once on a fresh clone must not install into each other.
 * @param {() => void} work
 */
function withLock(work) {
  mkdirSync(dirname(LOCK), { recursive: true });
  for (let waited = 0; !takeLock(); waited++) {
    if (waited === 0) console.error("Another command is setting up; waiting for it …");
    if (waited > 600) fail(`waited ten minutes for another set-up; if there is none, remove ${LOCK}`);
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1000);
  }
  try {
    work();
  } finally {
    rmSync(LOCK, { force: true });
  }
}

function takeLock() {
  try {
    writeFileSync(LOCK, String(process.pid), { flag: "wx" });
    return true;
  } catch {
    if (isRunning(Number(readOr(LOCK, "0")))) return false;
    rmSync(LOCK, { force: true }); // its owner was killed; the next round takes it
    return false;
  }
}

/** @param {number} pid */
function isRunning(pid) {
  if (!(pid > 0)) return false;
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

/** @param {string} file @param {string} otherwise */
function readOr(file, otherwise) {
  try {
    return readFileSync(file, "utf8");
  } catch {
    return otherwise;
  }
}

/**
 * End-to-end tests run real clients: sees that they are there, and installs them where it may. Without a browser and ffmpeg nothing
 * can be tested; the tests of other players are skipped when those are not there.
 */
function provideClients() {
  const missing = missingClients();
  const players = missingPlayers();
  if (missing.length + players.length === 0) return;
  if (process.platform === "linux" && process.getuid?.() === 0 && isOnPath("apt-get")) {
    console.error(`Installing ${[...missing, ...players].join(", ")} for the tests (apt-get) …`);
    const options = { env: { ...process.env, DEBIAN_FRONTEND: "noninteractive" } };
    const update = ["apt-get", "update", "-q"];
    const install = ["apt-get", "install", "-y", "-q", "--no-install-recommends"];
    if (missing.length > 0) {
      runQuietly(update, "apt-get update", options);
      runQuietly([...install, ...missing], "apt-get install", options);
    } else run(update, options);
    if (players.length > 0) run([...install, ...players], options);
  }
  const absent = missingPlayers();
  if (absent.length > 0) console.error(`Tests that play in ${absent.join(", ")} are skipped: not installed.`);
  const still = missingClients();
  if (still.length === 0) return;
  fail(
    `The end-to-end tests run real clients, and these are missing: ${still.join(", ")}.\n` +
      `On Debian or Ubuntu:  sudo apt-get install --no-install-recommends ${still.join(" ")}\n` +
      "Without them:         npm run test:unit",
  );
}

/** Names of Debian's packages. */
function missingClients() {
  const missing = [];
  if (!["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"].some(isOnPath)) missing.push("chromium");
  if (!isOnPath("ffmpeg")) missing.push("ffmpeg");
  // The clock in the test picture is drawn with this one; elsewhere than on Debian any font will do.
  const fonts = "/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf";
  if (isOnPath("apt-get") && !existsSync(fonts)) missing.push("fonts-dejavu-core");
  return missing;
}

/** Players that some tests use when they are there; small beside a browser. Names of Debian's packages. */
function missingPlayers() {
  const missing = ["rtmpdump", "mpv"].filter((program) => !isOnPath(program));
  if (!["/usr/sbin/nft", "/sbin/nft"].some((path) => existsSync(path))) missing.push("nftables"); // for networks that block
  if (!isOnPath("vlc")) missing.push("vlc-bin", "vlc-plugin-base");
  return missing;
}

/** @param {string} program */
function isOnPath(program) {
  return (process.env.PATH ?? "").split(delimiter).some((folder) => folder !== "" && existsSync(join(folder, program)));
}

/** npm as it was called, or the one on PATH. @param {readonly string[]} npmArguments */
function npm(npmArguments) {
  const script = process.env.npm_execpath;
  if (script?.endsWith("js") && existsSync(script)) return [process.execPath, script, ...npmArguments];
  return [process.platform === "win32" ? "npm.cmd" : "npm", ...npmArguments];
}

/**
 * @param {readonly string[]} commandLine
 * @param {{ env?: NodeJS.ProcessEnv }} [options]
 */
function run([program = "", ...programArguments], options = {}) {
  const shell = program.endsWith(".cmd");
  return spawnSync(program, programArguments, { cwd: ROOT, encoding: "utf8", maxBuffer: 64 << 20, shell, ...options });
}

/**
 * Runs a program and shows its output only when it fails.
 * @param {readonly string[]} commandLine
 * @param {string} name
 * @param {{ env?: NodeJS.ProcessEnv }} [options]
 */
function runQuietly(commandLine, name, options) {
  const result = run(commandLine, options);
  if (result.status !== 0) explain(result, name);
}

/** @param {ReturnType<typeof run>} result @param {string} name @returns {never} */
function explain(result, name) {
  const output = `${result.stdout ?? ""}${result.stderr ?? ""}`.trim();
  const reason = result.error?.message ?? (result.signal ? `ended by ${result.signal}` : `exit code ${result.status}`);
  fail(`${output === "" ? "" : `${output}\n`}${name} failed (${reason})`);
}

/** @param {string} message @returns {never} */
function fail(message) {
  throw new SetupFailure(message);
}
