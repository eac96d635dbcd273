// players/whip.html and rtc_publisher.html: camera, microphone and screen, what a publisher sees of a WhipClient.

import { capture, captureObstacle, listDevices, release, resize } from "./capture.js";
import { Doctor } from "./doctor.js";
import { legacySignaling } from "./legacy-signaling.js";
import {
  addressIn,
  bitrateText,
  element,
  emptyFigures,
  explainSession,
  fillDevices,
  fpsText,
  giveBackWithPage,
  lossText,
  millisecondsText,
  nameOf,
  pairText,
  setFigures,
  setText,
  showMeter,
  showWords,
  sizeText,
} from "./page-parts.js";
import { endpointUrl, legacyApi, legacyUrl, streamOf, wantsAutostart } from "./page-url.js";
import { sendableCodecs, WhipClient } from "./whip-client.js";

/** A word for the bar, and its colour. */
const STATES = {
  stopped: { word: "Stopped", tone: "idle" },
  asking: { word: "Connecting", tone: "busy" },
  busy: { word: "Waiting for the stream", tone: "warn" },
  connecting: { word: "Connecting", tone: "busy" },
  securing: { word: "Connecting", tone: "busy" },
  live: { word: "Live", tone: "good" },
  lost: { word: "Trying again", tone: "warn" },
  failed: { word: "Cannot publish", tone: "bad" },
};

/** What holds an encoder back, in the words of the WebRTC statistics. */
const LIMITATIONS = { none: "nothing", cpu: "this computer", bandwidth: "the network", other: "something else" };
const CODEC_LABELS = { H264: "H.264", H265: "H.265" };

const video = element("video");
const field = element("url");
/** rtc_publisher.html is the same page with the older signaling. */
const isLegacy = document.documentElement.dataset.signaling === "json";
const client = new WhipClient(isLegacy ? legacySignaling("publish", (url) => legacyApi(url, window.location)) : undefined);
const doctor = new Doctor(client, showState);
/** What is captured, and shown here. @type {MediaStream | undefined} */
let stream;
/** A refusal to capture, as title and text. */
let refusal;
/** Counts captures: one that was overtaken is let go. */
let turn = 0;

// For tests and the curious: everything there is to know, from the console.
window.__sluice = {
  client,
  video,
  get stream() {
    return stream;
  },
  get pc() {
    return client.pc;
  },
  get state() {
    return client.state;
  },
  get stats() {
    return client.stats;
  },
  get joinTime() {
    return client.joinTime;
  },
};

field.value = isLegacy ? legacyUrl(window.location) : endpointUrl("whip", window.location);
const query = new URLSearchParams(window.location.search);
fillCodecs(query.get("vcodec") ?? query.get("codec") ?? "H264");
refusal = captureObstacle();
client.settings = readSettings();
showDevices();
showWatchLinks();

element("form").addEventListener("submit", (event) => {
  event.preventDefault();
  publish();
});
element("preview").addEventListener("click", () => openStream());
element("stop").addEventListener("click", stop);
for (const id of ["source", "camera", "microphone"]) element(id).addEventListener("change", chooseDevice);
for (const id of ["height", "frame-rate"])
  element(id).addEventListener("change", () => resize(stream ?? new MediaStream(), wish()));
element("bitrate").addEventListener("change", () => client.setMaxBitrate(readSettings().maxBitrate));
element("codec").addEventListener("change", chooseCodec);
for (const kind of ["video", "audio"]) element(`mute-${kind}`).addEventListener("click", () => toggle(kind));
field.addEventListener("change", showWatchLinks);
client.addEventListener("state", showState);
client.addEventListener("state", keepAwake);
document.addEventListener("visibilitychange", keepAwake);
client.addEventListener("stats", showFigures);
navigator.mediaDevices?.addEventListener?.("devicechange", showDevices);
setInterval(showState, 500); // some words depend on how long a state lasts

giveBackWithPage(client, stop, publish);

if (wantsAutostart(window.location.search)) publish();
else showState();

async function publish() {
  const url = addressIn(field);
  if (url === undefined) return;
  if (stream === undefined && !(await openStream())) return;
  client.settings = readSettings();
  client.setStream(stream);
  client.start(url);
}

function stop() {
  turn++;
  client.stop();
  release(stream);
  stream = undefined;
  refusal = captureObstacle();
  video.srcObject = null;
  remark(undefined);
  showState();
}

/** Opens what is chosen, in place of what was open. @returns {Promise<boolean>} whether there is a stream now */
async function openStream() {
  const mine = ++turn;
  const old = stream;
  refusal = undefined;
  // One camera cannot be had twice everywhere (Android, some drivers): the old one is let go first, unless others are watching it.
  if (client.state !== "live") release(old);
  let taken;
  try {
    taken = await capture(wish());
  } catch (error) {
    if (mine !== turn) return false;
    if (client.state === "live" || client.state === "busy") {
      remark(`${error.title}. ${error.message} What was published goes on.`);
      if (old?.getTracks().some(({ readyState }) => readyState === "live")) return true;
    }
    client.stop();
    release(old);
    stream = undefined;
    refusal = { title: error.title ?? "No picture and no sound", text: error.message };
    showState();
    return false;
  }
  if (mine !== turn) {
    release(taken.stream);
    return false;
  }
  stream = taken.stream;
  for (const track of stream.getTracks()) {
    track.enabled = element(`mute-${track.kind}`).dataset.off === undefined;
    track.addEventListener("ended", () => onTrackEnd(track));
  }
  if (client.pc !== undefined) client.setStream(stream);
  release(old);
  video.srcObject = stream;
  video.play().catch(() => {});
  remark(taken.missing && `No ${taken.missing} was found: the stream goes without.`);
  showDevices();
  showState();
  return true;
}

/** A phone that goes to sleep closes its camera: while publishing it stays awake. */
let wakeLock;
async function keepAwake() {
  const isWanted = client.state === "live" && !document.hidden;
  if (isWanted && (wakeLock === undefined || wakeLock.released)) {
    wakeLock = await navigator.wakeLock?.request("screen").catch(() => undefined);
  }
  if (client.state === "live" || wakeLock === undefined) return;
  wakeLock.release().catch(() => {});
  wakeLock = undefined;
}

/** A screen that is no longer shared, a camera that was unplugged. */
function onTrackEnd(track) {
  if (!stream?.getTracks().includes(track)) return;
  if (element("source").value === "screen" && track.kind === "video") {
    stop();
    return;
  }
  remark(`The ${track.kind === "video" ? "camera" : "microphone"} is gone. Choose another one, and it goes on.`);
}

function chooseDevice() {
  element("camera").disabled = element("source").value === "screen";
  if (stream !== undefined) openStream();
}

function chooseCodec() {
  const url = addressIn(field);
  if (url === undefined) return;
  // An address that names a codec would ask for another one than the offer has.
  const changed = new URL(url);
  for (const key of ["vcodec", "codec"]) if (changed.searchParams.has(key)) changed.searchParams.set(key, element("codec").value);
  if (changed.href !== url) field.value = changed.href;
  client.settings = readSettings();
  if (client.state !== "stopped" && client.state !== "failed") client.start(changed.href);
}

function toggle(kind) {
  const button = element(`mute-${kind}`);
  const isOff = button.dataset.off === undefined;
  if (isOff) button.dataset.off = "";
  else delete button.dataset.off;
  for (const track of stream?.getTracks() ?? []) if (track.kind === kind) track.enabled = !isOff;
  const [on, off] = kind === "video" ? ["Hide picture", "Show picture"] : ["Mute sound", "Sound on"];
  setText(button, isOff ? off : on);
  showState();
}

function wish() {
  return {
    source: element("source").value,
    camera: element("camera").value,
    microphone: element("microphone").value,
    height: Number(element("height").value),
    frameRate: Number(element("frame-rate").value),
  };
}

function readSettings() {
  return { codec: element("codec").value, maxBitrate: Number(element("bitrate").value) };
}

function fillCodecs(wanted) {
  const select = element("codec");
  for (const name of sendableCodecs()) select.append(new Option(CODEC_LABELS[name] ?? name, name));
  const known = [...select.options].find(({ value }) => value.toLowerCase() === wanted.toLowerCase());
  select.value = known?.value ?? "";
}

async function showDevices() {
  fillDevices(await listDevices());
}

function showWatchLinks() {
  const name = streamOf(field.value, window.location.href);
  if (name === undefined) return; // an address half typed
  const query = (more) => new URLSearchParams({ autostart: "true", ...name, ...more });
  element("watch-rtc").href = `${isLegacy ? "rtc_player" : "whep"}.html?${query({})}`;
  element("watch-flv").href = `srs_player.html?${query({ stream: `${name.stream}.flv` })}`;
}

function remark(text) {
  setText(element("remark"), text ?? "");
  element("remark").hidden = !text;
}

function showState() {
  const { state, detail } = client;
  const isOver = state === "stopped" || state === "failed";
  const isShown = stream !== undefined;
  const words = isOver && isShown && state === "stopped" ? { word: "Preview", tone: "busy" } : STATES[state];
  showWords(
    refusal === undefined ? words : STATES.failed,
    explain(state, detail, performance.now() - client.since, doctor.look()),
  );
  element("stop").disabled = isOver && !isShown;
  element("preview").disabled = isShown;
  setText(element("publish"), isOver ? "Publish" : "Restart");
  for (const kind of ["video", "audio"]) {
    element(`mute-${kind}`).disabled = !stream?.getTracks().some((track) => track.kind === kind);
  }
  if (isOver) {
    emptyFigures();
    element("muted").hidden = false;
    element("meter").hidden = true;
  }
}

/** @returns {[title?: string, text?: string]} plain words for the stage; no title: nothing covers the picture */
function explain(state, detail, age, findings) {
  if (refusal !== undefined) return [refusal.title, refusal.text];
  switch (state) {
    case "stopped":
      return stream === undefined ? ["Press Publish to send camera and microphone."] : [];
    case "busy":
      return [
        "Somebody else is publishing this stream",
        `${detail.reason ?? ""} ${nameOf(detail.url)} is asked for again every few seconds; or choose another stream name.`,
      ];
    case "live":
      return [];
    default:
      return explainSession(state, detail, age, findings);
  }
}

function showFigures() {
  const { stats } = client;
  if (stats === undefined || client.state === "stopped") return;
  const audio = stream?.getAudioTracks()[0];
  setFigures({
    resolution: sizeText(stats),
    fps: fpsText(stats.framesPerSecond),
    rate: bitrateText(stats.bitrate),
    limitation: LIMITATIONS[stats.limitation],
    "round-trip": millisecondsText(stats.roundTrip),
    loss: lossText(stats.loss, stats.lost),
    resent: stats.resent?.toString(),
    "key-frames": stats.keyFrameRequests?.toString(),
    join: client.joinTime === undefined ? undefined : `${client.joinTime.toFixed(0)} ms`,
    codecs: stats.codecs && [stats.codecs, stats.encoder].filter(Boolean).join(" · "),
    pair: pairText(stats.pair),
    muted: audio === undefined ? "no sound" : "muted",
  });
  const isHeard = audio?.enabled === true;
  element("muted").hidden = isHeard;
  element("meter").hidden = !isHeard;
  showMeter(stats.audioLevel);
}
