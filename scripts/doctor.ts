// npm run doctor -- URL: walks the way of a WebRTC session against a running gateway, over UDP and then over TCP, and says in plain
// words how far it came. Exit code 0 when one of them gets through, 1 when none does, 2 for a command line that makes no sense.

import { parseArgs } from "node:util";

import { report } from "./doctor-report.js";
import { type Walk, walk } from "./doctor-walk.js";

const USAGE = `usage: npm run doctor -- URL [--timeout SECONDS] [--insecure] [--json]
  URL         of WHEP or WHIP: http://host:1985/rtc/v1/whep/?app=live&stream=livestream
              or only the API's address: http://host:1985
  --timeout   for each step. Default 3
  --insecure  takes any HTTPS certificate
  --json      for programs`;

process.exitCode = await main();

async function main(): Promise<number> {
  let url: string;
  let options: { timeout?: string; insecure?: boolean; json?: boolean };
  try {
    const { values, positionals } = parseArgs({
      options: { timeout: { type: "string" }, insecure: { type: "boolean" }, json: { type: "boolean" } },
      allowPositionals: true,
    });
    options = values;
    url = endpointOf(positionals);
  } catch (error) {
    console.error(error instanceof Error ? error.message : String(error));
    console.error(USAGE);
    return 2;
  }
  const seconds = Number(options.timeout ?? 3);
  const patience = seconds > 0 && seconds <= 60 ? seconds * 1000 : 3_000;
  if (options.insecure) {
    process.removeAllListeners("warning"); // Node's own warning about exactly this
    process.env["NODE_TLS_REJECT_UNAUTHORIZED"] = "0";
  }
  const walks: Walk[] = [];
  for (const transport of ["udp", "tcp"] as const) walks.push(await walk(transport, { url, patience }));
  const { lines, isWell } = report(url, walks);
  console.log(options.json ? JSON.stringify({ url, isWell, walks }, undefined, 2) : lines.join("\n"));
  return isWell ? 0 : 1;
}

/** @throws Error saying what is wrong with it */
function endpointOf([text, ...others]: readonly string[]): string {
  if (text === undefined) throw new Error("a URL is missing");
  if (others.length > 0) throw new Error("one URL is expected");
  const url = new URL(/^https?:\/\//i.test(text) ? text : `http://${text}`);
  if (url.pathname === "/") url.pathname = "/rtc/v1/whep/";
  if (!/\/rtc\/v1\/wh[ie]p\/?$/.test(url.pathname)) throw new Error(`${url.pathname} is no WHIP or WHEP address`);
  return url.href;
}
