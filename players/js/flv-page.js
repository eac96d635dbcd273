// players/srs_player.html: what a viewer sees of an FlvClient.

import { FlvClient } from "./flv-client.js";
import {
  addressIn,
  bitrateText,
  EXPLAIN_AFTER,
  element,
  emptyFigures,
  explainSession,
  fpsText,
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
const library = window.mpegts;
library?.LoggingControl.applyConfig({ enableAll: false, enableWarn: false, enableError: false });
const client = new FlvClient(video, library);
/** Words in place of playing: what this page cannot play. */
let refusal;

// For tests and the curious: everything there is to know, from the console.
window.__sluice = {
  client,
  video,
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

field.value = mediaUrl(window.location);
element("form").addEventListener("submit", (event) => {
  event.preventDefault();
  video.muted = false; // a click is what browsers want before sound
  play();
});
element("stop").addEventListener("click", () => {
  refusal = undefined;
  client.stop();
});
element("sound").addEventListener("click", () => {
  video.muted = false;
  video.play().catch(() => {});
});
video.addEventListener("volumechange", showState);
field.addEventListener("change", showWatchLink);
client.addEventListener("state", showState);
client.addEventListener("stats", showFigures);
setInterval(showState, 500); // some words depend on how long a state lasts

window.addEventListener("pagehide", () => {
  const wasOn = client.state !== "stopped" && client.state !== "failed";
  client.stop();
  if (wasOn) window.addEventListener("pageshow", play, { once: true });
});

showWatchLink();
if (wantsAutostart(window.location.search)) play();
else showState();

function play() {
  const url = addressIn(field);
  if (url === undefined) return;
  refusal = refusalOf(url);
  if (refusal === undefined) client.start(url);
  else client.stop();
  showState();
}

function refusalOf(url) {
  if (!new URL(url).pathname.endsWith(".m3u8")) return undefined;
  return [
    "HLS is not offered yet",
    "A later version plays .m3u8 here. Until then: the same stream with .flv at its end, or by WebRTC.",
  ];
}

function showState() {
  const { state, detail } = client;
  const isOver = state === "stopped" || state === "failed";
  const words = refusal ?? explain(state, detail, performance.now() - client.since);
  showWords(refusal === undefined ? STATES[state] : STATES.failed, words);
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
  if (name !== undefined) element("watch-rtc").href = `whep.html?${new URLSearchParams({ autostart: "true", ...name })}`;
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
    stalls: String(stats.stalls),
    join: joinTime === undefined ? undefined : `${joinTime.toFixed(0)} ms`,
    "sound-state": video.muted ? "muted" : `${Math.round(video.volume * 100)} %`,
    codecs: stats.codecs,
  });
}
