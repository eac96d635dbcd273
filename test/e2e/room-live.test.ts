// A room becomes one live stream: every participant's picture and sound, through a join and a leave, and nothing is left behind.

import assert from "node:assert/strict";
import { once } from "node:events";
import { after, before, suite, test } from "node:test";

import { pino } from "pino";
import { WebSocket } from "ws";

import { Gateway, parseConfig } from "../../gateway/gateway.js";
import { Child, childrenOf, eventually } from "../support/child.js";
import { MixViewer } from "../support/mix-viewer.js";

const CONFIG = `listen 127.0.0.1:0; http_api { listen 127.0.0.1:0; } http_server { listen 127.0.0.1:0; }
  signaling { enabled on; } transcode { enabled on; max_children 1; }
  vhost __defaultVhost__ { rtc { enabled on; rtc_to_rtmp on; } publish { grace 10000; } }`;

/** What the API says of the room. */
type Live = {
  state: string;
  inputs: string[];
  left_out: { display: string; reason: string }[];
  command?: string;
  error?: string;
};

suite("a room as a live stream", () => {
  let gateway: Gateway;
  let ports: Record<string, number>;
  let rtmpPort: number;
  let viewer: MixViewer | undefined;
  const people = new Map<string, { socket: WebSocket; media: Child }>();

  before(async () => {
    gateway = new Gateway({ config: parseConfig(CONFIG).config, log: pino({ level: "silent" }) });
    await gateway.start();
    ports = Object.fromEntries(gateway.addresses.http.map(({ directive, port }) => [directive, port]));
    rtmpPort = gateway.addresses.rtmp[0]?.port ?? 0;
  });

  after(async () => {
    await viewer?.stop();
    await Promise.all([...people.keys()].map(leave));
    await gateway.close();
    assert.deepEqual(
      childrenOf(process.pid).filter(({ command }) => command.includes("merge")),
      [],
    );
  });

  /** A participant as the room sees one: joined by signaling, its media under its name (here by RTMP). */
  async function join(display: string, colour: string, tone: number, tracks: "both" | "audio" = "both"): Promise<void> {
    const socket = new WebSocket(`ws://127.0.0.1:${ports["http_server.listen"]}/sig/v1/rtc`);
    await once(socket, "open");
    socket.send(JSON.stringify({ tid: "1", msg: { action: "join", room: "stage", display } }));
    await once(socket, "message");
    const picture = ["-f", "lavfi", "-i", `color=${colour}:s=320x180:r=15`];
    const sound = ["-f", "lavfi", "-i", `sine=f=${tone}:r=48000`];
    const encoder = "-c:v libx264 -preset ultrafast -tune zerolatency -pix_fmt yuv420p -g 15 -c:a aac -f flv".split(" ");
    const media = new Child("ffmpeg", [
      ...[
        "-hide_banner",
        "-nostdin",
        "-loglevel",
        "error",
        "-re",
        ...(tracks === "both" ? picture : []),
        "-re",
        ...sound,
        ...encoder,
      ],
      `rtmp://127.0.0.1:${rtmpPort}/stage/${display}`,
    ]);
    people.set(display, { socket, media });
    await eventually(`${display} publishes`, () =>
      gateway.streams.some(({ name, received }) => name.stream === display && received.units > 5) ? true : undefined,
    );
  }

  async function leave(display: string): Promise<void> {
    const person = people.get(display);
    people.delete(display);
    person?.socket.terminate();
    await person?.media.stop();
  }

  async function api(method: string, body?: object): Promise<{ status: number; answer: { live: Live; error?: string } }> {
    const response = await fetch(`http://127.0.0.1:${ports["http_api.listen"]}/api/v1/rooms/stage/live`, {
      method,
      ...(body !== undefined && { body: JSON.stringify(body), headers: { "Content-Type": "application/json" } }),
    });
    return { status: response.status, answer: (await response.json()) as { live: Live; error?: string } };
  }

  /** Waits until the viewer sees these colours at these places and hears just these tones. */
  async function seen(places: readonly [x: number, y: number, colour: string][], tones: readonly number[]): Promise<void> {
    let last = "";
    await eventually(
      `${JSON.stringify(places)} ${tones}`,
      () => {
        viewer?.requireRunning();
        const colours = places.map(([x, y]) => viewer?.colourAt(x, y));
        const heard = viewer?.tones([400, 900, 1700]) ?? [];
        last = `${colours} ${heard}`;
        const isSo = places.every(([, , colour], index) => colours[index] === colour) && String(heard) === String(tones);
        return isSo ? true : undefined;
      },
      20_000,
    ).catch((error: Error) => {
      throw new Error(`${error.message}; last seen ${last}`);
    });
  }

  test("nobody is there, nothing to mix: the API says so", async () => {
    assert.equal((await api("POST", {})).status, 404);
    assert.equal((await api("GET")).status, 404);
  });

  test("two participants become one picture with both sounds", async () => {
    await Promise.all([join("Ann", "red", 400), join("Bob", "blue", 900)]);
    const off = await api("GET");
    assert.equal(off.answer.live.state, "off");
    assert.match(
      off.answer.live.command ?? "",
      new RegExp(`^ffmpeg .*/stage/Ann.* .*/stage/Bob .*overlay.*amix.*:${rtmpPort}/stage/merge$`),
    );
    assert.equal((await api("POST", { layout: "mosaic" })).status, 400);
    assert.equal((await api("POST", { layout: "grid" })).status, 200);
    assert.equal((await api("POST", { layout: "grid" })).status, 409);
    await eventually("the room is live", async () => ((await api("GET")).answer.live.state === "live" ? true : undefined));
    viewer = new MixViewer(`rtmp://127.0.0.1:${rtmpPort}/stage/merge`);
    const order = (await api("GET")).answer.live.inputs;
    const [left, right] = order[0] === "Ann" ? ["red", "blue"] : ["blue", "red"];
    await seen(
      [
        [320, 360, left ?? ""],
        [960, 360, right ?? ""],
      ],
      [400, 900],
    );
  });

  test("a third one joins with sound alone and a fourth with both, and the viewer goes on", async () => {
    const before = viewer?.pictures ?? 0;
    await join("Dan", "black", 1700, "audio");
    await join("Cy", "lime", 1700);
    // Three pictures: two above, the third in the middle below.
    await seen([[640, 540, "green"]], [400, 900, 1700]);
    assert.ok((viewer?.pictures ?? 0) > before);
    assert.deepEqual([...(await api("GET")).answer.live.inputs].sort(), ["Ann", "Bob", "Cy", "Dan"]);
  });

  test("two leave, and the others go on without them", async () => {
    await Promise.all([leave("Cy"), leave("Dan"), leave("Bob")]);
    await seen([[640, 360, "red"]], [400]);
  });

  test("ends by DELETE, and again when the room is empty; no child is left", async () => {
    assert.equal((await api("DELETE")).status, 200);
    assert.equal((await api("DELETE")).status, 404);
    const running = (): unknown =>
      childrenOf(process.pid).some(({ command }) => command.includes("merge?mix")) ? undefined : true;
    await eventually("the child is gone", running);
    assert.equal((await api("POST", { layout: "pip" })).status, 200);
    await eventually("live again", async () => ((await api("GET")).answer.live.state === "live" ? true : undefined));
    await leave("Ann");
    await eventually("the child is gone", running);
    assert.equal((await api("GET")).status, 404);
  });
});
