// GStreamer's player by its Python binding: Debian has it without the command line tools.

import { execFile } from "node:child_process";
import { promisify } from "node:util";

const run = promisify(execFile);
const PYTHON = "/usr/bin/python3"; // the one that Debian's python3-gi belongs to

/** Whether the elements are there. */
export async function hasGstreamer(elements: readonly string[]): Promise<boolean> {
  try {
    await run(PYTHON, [
      "-c",
      `${IMPORT}\nsys.exit(not all(Gst.ElementFactory.find(name) for name in sys.argv[1:]))`,
      ...elements,
    ]);
    return true;
  } catch {
    return false;
  }
}

export type GstreamerPlay = { readonly pictures: number; readonly sounds: number; readonly elements: readonly string[] };

/** Plays until so many pictures and sounds have come out of the decoders. @throws Error with its words when it complains or gives up */
export async function playByGstreamer(url: string, pictures: number, timeoutMs = 25_000): Promise<GstreamerPlay> {
  const { stdout } = await run(PYTHON, ["-c", PLAY, url, `${pictures}`], { timeout: timeoutMs });
  return JSON.parse(stdout) as GstreamerPlay;
}

const IMPORT = `
import sys, json, gi
gi.require_version("Gst", "1.0")
from gi.repository import Gst
Gst.init(None)`;

const PLAY = `${IMPORT}
url, wanted = sys.argv[1], int(sys.argv[2])
counts = {"pictures": 0, "sounds": 0}
names = set()
player = Gst.ElementFactory.make("playbin3")
player.set_property("uri", url)
def sink(kind):
    element = Gst.ElementFactory.make("fakesink")
    element.set_property("sync", True)
    element.set_property("signal-handoffs", True)
    def count(*_):
        counts[kind] += 1
    element.connect("handoff", count)
    return element
player.set_property("video-sink", sink("pictures"))
player.set_property("audio-sink", sink("sounds"))
player.connect("deep-element-added", lambda _bin, _sub, element: names.add(element.get_factory().get_name()))
bus = player.get_bus()
player.set_state(Gst.State.PLAYING)
failure = None
while failure is None and (counts["pictures"] < wanted or counts["sounds"] == 0):
    message = bus.timed_pop_filtered(100 * Gst.MSECOND, Gst.MessageType.ERROR | Gst.MessageType.WARNING | Gst.MessageType.EOS)
    if message is None: continue
    failure = message.type.first_value_nick
    if message.type == Gst.MessageType.ERROR: failure = str(message.parse_error())
    if message.type == Gst.MessageType.WARNING: failure = str(message.parse_warning())
player.set_state(Gst.State.NULL)
if failure is not None: sys.exit(failure)
print(json.dumps({**counts, "elements": sorted(names)}))`;
