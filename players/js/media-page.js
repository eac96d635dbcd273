// players/srs_player.html: what a viewer sees of an FlvClient or an HlsClient; the address says which.

import { FlvClient } from "./flv-client.js";
import { HlsClient } from "./hls-client.js";
import {
  addressIn,
  bitrateText,
  EXPLAIN_AFTER,
  element,
  emptyFigures,
  explainSession,
  fpsText,
  giveBackWithPage,
  millisecondsText,
  nameOf,
  setFigures,
  setText,
  showWords,
  sizeText,
} from "./page-parts.js";
import { mediaUrl, streamOf, wantsAutostart } from "./page-url.js";

/** A word for the bar, and its colour. */
const STATES = {
  stopped: { word: "Stopped", tone: "idle" },
  asking: { word: "Connecting", tone: "busy" },
  waiting: { word: "Waiting for the publisher", tone: "warn" },
  buffering: { word: "Connected", tone: "busy" },
  playing: { word: "Live", tone: "good" },
  stalled: { word: "Paused", tone: "warn" },
  lost: { word: "Trying again", tone: "warn" },
  failed: { word: "Cannot play", tone: "bad" },
};

const video = element("video");
const field = element("url");
window.mpegts?.LoggingControl.applyConfig({ enableAll: false, enableWarn: false, enableError: false });
const clients = { flv: new FlvClient(video, window.mpegts), hls: new HlsClient(video, window.Hls) };
field.value = mediaUrl(window.location);
/** The one whose address stands in the field, or that plays. */
let client = clientOf(field.value);

// For tests and the curious: everything there is to know, from the console.
window.__sluice = {
  video,
  get client() {
    return client;
  },
  get player() {
    return client.player;
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

element("form").addEventListener("submit", (event) => {
  event.preventDefault();
  video.muted = false; // a click is what browsers want before sound
  play();
});
element("stop").addEventListener("click", () => client.stop());
element("sound").addEventListener("click", () => {
  video.muted = false;
  video.play().catch(() => {});
});
video.addEventListener("volumechange", showState);
field.addEventListener("change", showWatchLink);
for (const either of Object.values(clients)) {
  either.addEventListener("state", showState);
  either.addEventListener("stats", showFigures);
}
setInterval(showState, 500); // some words depend on how long a state lasts

const played = {
  get state() {
    return client.state;
  },
};
giveBackWithPage(played, () => client.stop(), play);

showWatchLink();
if (wantsAutostart(window.location.search)) play();
else showState();

function play() {
  const url = addressIn(field);
  if (url === undefined) return;
  client.stop();
  client = clientOf(url);
  client.start(url);
  showState();
}

/** @param {string} url may be anything that stands in the field */
function clientOf(url) {
  return /\.m3u8(?:[?#]|$)/.test(url) ? clients.hls : clients.flv;
}

function showState() {
  const { state, detail } = client;
  const isOver = state === "stopped" || state === "failed";
  showWords(STATES[state], explain(state, detail, performance.now() - client.since));
  for (const place of document.querySelectorAll("[data-of=hls]")) place.hidden = client !== clients.hls;
  element("stop").disabled = isOver;
  setText(element("play"), isOver ? "Play" : "Restart");
  element("sound").hidden = !(state === "playing" && video.muted);
  video.controls = state === "playing" && !video.muted;
  if (isOver) emptyFigures();
}

/** @returns {[title?: string, text?: string]} plain words for the stage; no title: nothing covers the picture */
function explain(state, detail, age) {
  switch (state) {
    case "stopped":
      return ["Press Play to watch."];
    case "waiting":
      return ["Nobody is publishing this stream yet", `${nameOf(detail.url)} begins here by itself as soon as it is live.`];
    case "buffering":
      return age > EXPLAIN_AFTER
        ? ["Connected, but there is no picture and no sound yet", "The publisher may have paused."]
        : ["Connecting …"];
    case "stalled":
      return ["Nothing comes from the publisher", "The picture goes on by itself when it is back."];
    case "failed":
      if (detail.title !== undefined && detail.status === undefined) return [detail.title, detail.reason];
      return explainSession(state, detail, age);
    default:
      return explainSession(state, detail, age);
  }
}

function showWatchLink() {
  const name = streamOf(field.value, window.location.href);
  if (name === undefined) return;
  const query = (own) => new URLSearchParams({ autostart: "true", ...name, ...own });
  element("watch-rtc").href = `whep.html?${query({})}`;
  element("watch-flv").href = `srs_player.html?${query({ stream: `${name.stream}.flv` })}`;
  element("watch-hls").href = `srs_player.html?${query({ stream: `${name.stream}.m3u8` })}`;
}

function showFigures() {
  const { stats, joinTime } = client;
  if (stats === undefined || client.state === "stopped") return;
  setFigures({
    resolution: sizeText(stats),
    fps: fpsText(stats.framesPerSecond),
    bitrate: bitrateText(stats.bitrate),
    behind: millisecondsText(stats.behind),
    speed: `${stats.playbackRate.toFixed(2)} ×`,
    decoded: String(stats.framesDecoded),
    dropped: String(stats.framesDropped),
    stalls: stats.stalledFor > 0 ? `${stats.stalls} (${stats.stalledFor.toFixed(1)} s)` : String(stats.stalls),
    join: joinTime === undefined ? undefined : `${joinTime.toFixed(0)} ms`,
    "sound-state": video.muted ? "muted" : `${Math.round(video.volume * 100)} %`,
    codecs: stats.codecs,
  });
  if (client !== clients.hls) return;
  setFigures({
    "by-clock": millisecondsText(stats.byClock),
    "aimed-at": millisecondsText(stats.aimedAt),
    buffered: millisecondsText(stats.buffered),
    quality: qualityText(stats),
    delivery: deliveryText(stats),
  });
}

function qualityText({ level, levels, levelBitrate }) {
  if (levels === 0 || level < 0) return undefined;
  return `${level + 1} of ${levels}${levelBitrate > 0 ? `, ${bitrateText(levelBitrate)}` : ""}`;
}

function deliveryText({ by, partTarget, targetDuration }) {
  if (partTarget !== undefined) return `low latency, parts of ${millisecondsText(partTarget)}`;
  return targetDuration === undefined ? by : `segments of up to ${targetDuration} s`;
}
