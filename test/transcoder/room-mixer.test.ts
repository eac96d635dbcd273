import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { test } from "node:test";
import { promisify } from "node:util";

import { CANVAS, isAddressable, type MixPlan, mixArguments, mixCommand, tilesOf } from "../../transcoder/room-mixer.js";

const input = (display: string, hasVideo = true, hasAudio = true) => ({ display, hasVideo, hasAudio, offset: -1_500_000 });

function plan(changes: Partial<MixPlan> = {}): MixPlan {
  const inputs = [input("Ann"), input("Bob")];
  return {
    server: "rtmp://127.0.0.1:1935",
    vhost: "",
    room: "r",
    layout: "grid",
    inputs,
    start: 2_000_000,
    output: "merge",
    ...changes,
  };
}

function filtersOf(mix: MixPlan): string {
  const args = mixArguments(mix, { hasFpsMode: true });
  return args[args.indexOf("-filter_complex") + 1] ?? "";
}

test("lays tiles side by side, on the canvas, of even sizes, for any number", () => {
  for (const layout of ["grid", "pip"] as const) {
    for (let count = 1; count <= 16; count++) {
      const tiles = tilesOf(layout, count);
      assert.equal(tiles.length, count);
      for (const { x, y, width, height } of tiles) {
        assert.ok(x >= 0 && y >= 0 && x + width <= CANVAS.width && y + height <= CANVAS.height, `${layout} ${count}`);
        assert.deepEqual([width % 2, height % 2, x % 2], [0, 0, 0]);
        assert.ok(width >= 60 && height >= 30);
      }
      const separate = layout === "grid" ? tiles : tiles.slice(1); // the first one fills the canvas under the others
      separate.forEach((a, i) => {
        for (const b of separate.slice(i + 1)) {
          const overlap = a.x < b.x + b.width && b.x < a.x + a.width && a.y < b.y + b.height && b.y < a.y + a.height;
          assert.ok(!overlap, `${layout} of ${count}`);
        }
      });
    }
  }
});

test("mixes every sound and every picture there is, and makes up what nobody has", () => {
  const both = filtersOf(plan());
  assert.match(both, /\[canvas0\]\[tile1\]overlay=640:0/);
  assert.match(both, /\[sound0\]\[sound1\]amix=inputs=2/);
  const quiet = filtersOf(plan({ inputs: [input("Ann", true, false), input("Bob", true, false)] }));
  assert.match(quiet, /anullsrc/);
  const dark = filtersOf(plan({ inputs: [input("Ann", false, true)] }));
  assert.match(dark, /^color=black/);
  assert.match(dark, /\[0:a:0\]aresample=[^;]*\[audio\]$/);
  const mixed = filtersOf(plan({ inputs: [input("Ann", false, true), input("Bob", true, false)] }));
  assert.match(mixed, /\[1:v:0\]trim/);
  assert.match(mixed, /\[0:a:0\]/);
});

test("each input stands at its own time, and the vhost is named where it is not the default one", () => {
  const args = mixArguments(plan({ vhost: "studio" }), { hasFpsMode: true });
  assert.equal(args[args.indexOf("-itsoffset") + 1], "-1.500");
  assert.equal(args[args.indexOf("-i") + 1], "rtmp://127.0.0.1:1935/r/Ann?vhost=studio");
  assert.equal(args.at(-1), "rtmp://127.0.0.1:1935/r/merge?vhost=studio");
});

test("names that a URL would be cut at go as names, and the rest is known as not to be had", () => {
  const args = mixArguments(plan({ inputs: [input("Ännä <b>1</b>; rm -rf /tmp/x.flv")] }), { hasFpsMode: true });
  assert.deepEqual(args.slice(args.indexOf("-rtmp_app"), args.indexOf("-i") + 2), [
    ...["-rtmp_app", "r", "-rtmp_playpath", "Ännä <b>1</b>; rm -rf /tmp/x.flv", "-i", "rtmp://127.0.0.1:1935/"],
  ]);
  for (const display of ["Ann", "Ann B.", "a/b", "50%", "#1"]) assert.ok(isAddressable(display), display);
  for (const display of ["a?b", "a@b", "a\\b", "/a", "a/", "a//b", "./a"]) assert.ok(!isAddressable(display), display);
});

test("the command that is shown means the same to a shell, whatever the names", async () => {
  const mix = plan({ inputs: [input('it\'s $HOME `id` "x"'), input("two\u00a0words & more")], layout: "pip" });
  const command = mixCommand(mix).replace(/^ffmpeg/, "printf '%s\\n'");
  const { stdout } = await promisify(execFile)("sh", ["-c", command]);
  assert.deepEqual(stdout.split("\n").slice(0, -1), ["-hide_banner", ...mixArguments(mix, { hasFpsMode: true })]);
});

test("an older ffmpeg gets the options it knows", () => {
  const args = mixArguments(plan(), { hasFpsMode: false });
  assert.ok(args.includes("-vsync") && !args.includes("-fps_mode"));
  assert.doesNotMatch(args.join(" "), /normalize/);
});
