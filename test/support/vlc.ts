// VLC as an ordinary user runs it, asked for its statistics.

import { chownSync, mkdtempSync, rmSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { Child, eventually } from "./child.js";
import { freeTcpPort } from "./gateway-process.js";

export type VlcFigures = {
  readonly displayed: number;
  readonly lost: number;
  readonly corrupted: number;
  readonly discontinuities: number;
  /** All that it said. */
  readonly text: string;
};

/** Plays until so many pictures were shown, then has the figures judged. @throws Error when that takes over 25 s */
export async function playByVlc(url: string, pictures: number, judge: (figures: VlcFigures) => void): Promise<void> {
  const port = await freeTcpPort();
  const home = mkdtempSync(join(tmpdir(), "vlc-"));
  const dummies = ["--intf", "dummy", "--extraintf", "oldrc", "--rc-fake-tty", "--no-dbus", "--aout", "dummy", "--vout", "dummy"];
  const command = ["vlc", ...dummies, `--rc-host=127.0.0.1:${port}`, url];
  const isRoot = process.getuid?.() === 0; // VLC refuses to run as root
  if (isRoot) chownSync(home, NOBODY, NOBODY);
  const user = isRoot ? ["setpriv", `--reuid=${NOBODY}`, `--regid=${NOBODY}`, "--clear-groups"] : ["env"];
  const [program = "", ...args] = [...user, ...command];
  const vlc = new Child(program, args, { HOME: home });
  try {
    const said = await eventually(
      "VLC shows pictures",
      async () => {
        const figures = await ask(port);
        return figureOf(figures, "frames displayed") > pictures ? figures : undefined;
      },
      25_000,
      500,
    );
    judge({
      displayed: figureOf(said, "frames displayed"),
      lost: figureOf(said, "frames lost"),
      corrupted: figureOf(said, "demux corrupted"),
      discontinuities: figureOf(said, "discontinuities"),
      text: said,
    });
  } finally {
    await vlc.stop("SIGKILL");
    rmSync(home, { recursive: true, force: true });
  }
}

const NOBODY = 65_534;

function figureOf(text: string, name: string): number {
  return Number(new RegExp(`${name} +: +(\\d+)`).exec(text)?.[1]);
}

/** What VLC says to `stats`, or nothing when it does not listen yet. */
async function ask(port: number): Promise<string> {
  return await new Promise((resolve) => {
    const socket = connect(port, "127.0.0.1");
    let said = "";
    socket.on("connect", () => socket.write("stats\n"));
    socket.on("data", (bytes) => {
      said += bytes.toString();
      if (said.includes("stats: returned")) socket.destroy();
    });
    socket.setTimeout(2000, () => socket.destroy());
    socket.on("error", () => {});
    socket.on("close", () => resolve(said));
  });
}
