// players/whep.html and rtc_player.html: what a viewer sees of a WhepClient.

import { Doctor, findingText } from "./doctor.js";
import { legacySignaling } from "./legacy-signaling.js";
import {
  addressIn,
  bitrateText,
  EXPLAIN_AFTER,
  element,
  emptyFigures,
  explainSession,
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
import { endpointUrl, legacyApi, legacyUrl, wantsAutostart } from "./page-url.js";
import { WhepClient } from "./whep-client.js";

/** A word for the bar, and its colour. */
const STATES = {
  stopped: { word: "Stopped", tone: "idle" },
  asking: { word: "Connecting", tone: "busy" },
  waiting: { word: "Waiting for the publisher", tone: "warn" },
  connecting: { word: "Connecting", tone: "busy" },
  securing: { word: "Connecting", tone: "busy" },
  buffering: { word: "Connected", tone: "busy" },
  playing: { word: "Live", tone: "good" },
  paused: { word: "Paused", tone: "warn" },
  lost: { word: "Trying again", tone: "warn" },
  failed: { word: "Cannot play", tone: "bad" },
};

const video = element("video");
const field = element("url");
/** rtc_player.html is the same page with the older signaling. */
const isLegacy = document.documentElement.dataset.signaling === "json";
const client = new WhepClient(video, isLegacy ? legacySignaling("play", (url) => legacyApi(url, window.location)) : undefined);
const doctor = new Doctor(client, showState);

// For tests and the curious: everything there is to know, from the console.
window.__sluice = {
  client,
  video,
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

field.value = isLegacy ? legacyUrl(window.location) : endpointUrl("whep", window.location);
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
video.addEventListener("volumechange", showSoundButton);
client.addEventListener("state", showState);
client.addEventListener("stats", showFigures);
setInterval(showState, 500); // some words depend on how long a state lasts

giveBackWithPage(client, () => client.stop(), play);

if (wantsAutostart(window.location.search)) play();
else showState();

function play() {
  const url = addressIn(field);
  if (url !== undefined) client.start(url);
}

function showState() {
  const { state, detail } = client;
  const isOver = state === "stopped" || state === "failed";
  showWords(STATES[state], explain(state, detail, performance.now() - client.since, doctor.look()));
  element("stop").disabled = isOver;
  setText(element("play"), isOver ? "Play" : "Restart");
  showSoundButton();
  if (state === "stopped") clearFigures();
}

/** @returns {[title?: string, text?: string]} plain words for the stage; no title: nothing covers the picture */
function explain(state, detail, age, findings) {
  switch (state) {
    case "stopped":
      return ["Press Play to watch."];
    case "waiting":
      return ["Nobody is publishing this stream yet", `${nameOf(detail.url)} begins here by itself as soon as it is live.`];
    case "buffering":
      return age > EXPLAIN_AFTER
        ? [
            "Connected, but there is no picture and no sound yet",
            findingText(findings) ??
              (isLegacy
                ? "Nobody publishes it yet, or the publisher has paused. It begins by itself."
                : "The publisher may have paused."),
          ]
        : ["Connecting …"];
    case "paused":
      return ["Nothing comes from the publisher", "The picture goes on by itself when it is back."];
    default:
      return explainSession(state, detail, age, findings);
  }
}

function showSoundButton() {
  const hasSound = video.srcObject?.getAudioTracks().length > 0;
  element("sound").hidden = !(client.state === "playing" && video.muted && hasSound);
  video.controls = client.state === "playing" && !video.muted;
}

function showFigures() {
  const { stats } = client;
  if (stats === undefined) return;
  const { lips } = stats;
  setFigures({
    resolution: sizeText(stats),
    fps: fpsText(stats.framesPerSecond),
    bitrate: bitrateText(stats.bitrate),
    "round-trip": millisecondsText(stats.roundTrip),
    loss: lossText(stats.loss, stats.lost),
    jitter: millisecondsText(stats.jitterBuffer),
    freezes: stats.freezes?.toString(),
    join: client.joinTime === undefined ? undefined : `${client.joinTime.toFixed(0)} ms`,
    lips: lips === undefined ? undefined : `${lips >= 0 ? "+" : "−"}${Math.abs(lips).toFixed(0)} ms`,
    codecs: stats.codecs,
    pair: pairText(stats.pair),
    // A muted element is not decoded, and its level unknown.
    muted: client.state === "playing" ? "muted" : undefined,
  });
  element("muted").hidden = !video.muted;
  element("meter").hidden = video.muted;
  showMeter(stats.audioLevel);
}

function clearFigures() {
  emptyFigures();
  element("muted").hidden = false;
  element("meter").hidden = true;
}
