// players/whep.html: what a viewer sees of a WhepClient.

import { endpointUrl, wantsAutostart } from "./page-url.js";
import { WhepClient } from "./whep-client.js";

/** Milliseconds after which a state that should be short is explained. */
const EXPLAIN_AFTER = 3_000;

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

const element = (id) => document.getElementById(id);
const video = element("video");
const field = element("url");
const client = new WhepClient(video);

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

field.value = endpointUrl("whep", window.location);
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

// The session is given back when the page goes; a page that comes back out of the browser's cache plays on.
window.addEventListener("pagehide", () => {
  const wasOn = client.state !== "stopped" && client.state !== "failed";
  client.stop();
  if (wasOn) window.addEventListener("pageshow", play, { once: true });
});

if (wantsAutostart(window.location.search)) play();
else showState();

function play() {
  let url;
  try {
    url = new URL(field.value, window.location.href);
  } catch {
    field.reportValidity();
    return;
  }
  client.start(url.href);
}

function showState() {
  const { state, detail } = client;
  const age = performance.now() - client.since;
  const { word, tone } = STATES[state];
  const label = element("state");
  setText(label, word);
  label.dataset.tone = tone;
  element("stop").disabled = state === "stopped" || state === "failed";
  setText(element("play"), state === "stopped" || state === "failed" ? "Play" : "Restart");

  const [title, text] = explain(state, detail, age);
  element("notice").hidden = title === undefined;
  setText(element("notice-title"), title ?? "");
  setText(element("notice-text"), text ?? "");
  element("notice-text").hidden = text === undefined;
  showSoundButton();
  if (state === "stopped") clearFigures();
}

/** @returns {[title?: string, text?: string]} plain words for the stage; no title: nothing covers the picture */
function explain(state, detail, age) {
  const late = age > EXPLAIN_AFTER;
  const origin = originOf(detail.url);
  const again = "It is tried again by itself.";
  switch (state) {
    case "stopped":
      return ["Press Play to watch."];
    case "asking":
      return late ? [`No answer from ${origin} yet`, reachHelp(detail.url)] : ["Connecting …"];
    case "waiting":
      return ["Nobody is publishing this stream yet", `${nameOf(detail.url)} begins here by itself as soon as it is live.`];
    case "connecting":
      return late ? ["The gateway answered, but no packet comes through", triedText(detail)] : ["Connecting …"];
    case "securing":
      return late
        ? ["Packets come through, but the encrypted handshake (DTLS) does not end", triedText(detail)]
        : ["Connecting …"];
    case "buffering":
      return late ? ["Connected, but there is no picture and no sound yet", "The publisher may have paused."] : ["Connecting …"];
    case "playing":
      return [];
    case "paused":
      return ["Nothing comes from the publisher", "The picture goes on by itself when it is back."];
    case "lost":
      if (detail.step === "asking" && detail.status === undefined)
        return [`No answer from ${origin}`, `${detail.reason} ${reachHelp(detail.url)} ${again}`];
      if (detail.step === "connecting")
        return ["The gateway answered, but no packet came through", `${triedText(detail)} ${again}`];
      if (detail.step === "securing") return ["Packets came through, but the encrypted handshake (DTLS) did not end", again];
      if (detail.status !== undefined) return [`${detail.title} (${detail.status})`, `${detail.reason ?? ""} ${again}`];
      return ["The connection was lost", `${detail.reason ?? ""} ${again}`];
    case "failed":
      return detail.status === undefined
        ? ["This cannot be played", detail.reason]
        : [`${detail.title} (${detail.status})`, detail.reason];
  }
}

function reachHelp(url) {
  const { protocol } = new URL(url);
  if (window.location.protocol === "https:" && protocol === "http:")
    return "This page came by https, so the browser lets it talk to https addresses only.";
  return "Is the gateway running, and is this port open?";
}

function triedText({ candidates = [] }) {
  if (candidates.length === 0) return "Its answer names no address to send to.";
  const shown = candidates.slice(0, 4).join(", ");
  const more = candidates.length > 4 ? ` and ${candidates.length - 4} more` : "";
  return `Tried: ${shown}${more}. Is that address right, and is the UDP port open?`;
}

function originOf(url) {
  return url === undefined ? "" : new URL(url).origin;
}

function nameOf(url) {
  const { searchParams } = new URL(url);
  return `${searchParams.get("app") ?? "live"}/${searchParams.get("stream") ?? "livestream"}`;
}

function showSoundButton() {
  const hasSound = video.srcObject?.getAudioTracks().length > 0;
  element("sound").hidden = !(client.state === "playing" && video.muted && hasSound);
  video.controls = client.state === "playing" && !video.muted;
}

function showFigures() {
  const { stats } = client;
  if (stats === undefined) return;
  const {
    width,
    height,
    framesPerSecond,
    bitrate,
    roundTrip,
    loss,
    lost,
    jitterBuffer,
    freezes,
    lips,
    codecs,
    pair,
    audioLevel,
  } = stats;
  const figures = {
    resolution: width > 0 ? `${width} × ${height}` : undefined,
    fps: framesPerSecond === undefined ? undefined : `${framesPerSecond.toFixed(1)} fps`,
    bitrate:
      bitrate === undefined
        ? undefined
        : bitrate >= 1e6
          ? `${(bitrate / 1e6).toFixed(2)} Mbit/s`
          : `${(bitrate / 1e3).toFixed(0)} kbit/s`,
    "round-trip": milliseconds(roundTrip),
    loss: loss === undefined ? undefined : `${(loss * 100).toFixed(loss > 0 && loss < 0.1 ? 2 : 0)} % (${lost})`,
    jitter: milliseconds(jitterBuffer),
    freezes: freezes?.toString(),
    join: client.joinTime === undefined ? undefined : `${client.joinTime.toFixed(0)} ms`,
    lips: lips === undefined ? undefined : `${lips >= 0 ? "+" : "−"}${Math.abs(lips).toFixed(0)} ms`,
    codecs,
    pair: pair?.remote && `${endpoint(pair.local)} → ${endpoint(pair.remote)}, ${pair.remote.protocol?.toUpperCase()}`,
  };
  for (const [id, text] of Object.entries(figures)) setText(element(id), text ?? "–");
  // A muted element is not decoded, and its level unknown. Loudness is heard in decibels: 60 of them span the meter.
  const shown = audioLevel > 0 ? Math.max(0, 1 + (20 * Math.log10(audioLevel)) / 60) : 0;
  setText(element("muted"), client.state === "playing" ? "muted" : "–");
  element("muted").hidden = !video.muted;
  element("meter").hidden = video.muted;
  element("level").style.transform = `scaleX(${shown.toFixed(3)})`;
  element("meter").setAttribute("aria-label", audioLevel === undefined ? "no sound" : `${Math.round(shown * 100)} percent`);
}

function clearFigures() {
  for (const id of ["resolution", "fps", "bitrate", "round-trip", "loss", "jitter", "freezes", "join", "lips", "codecs", "pair"])
    setText(element(id), "–");
  setText(element("muted"), "–");
  element("muted").hidden = false;
  element("meter").hidden = true;
}

function milliseconds(seconds) {
  return seconds === undefined ? undefined : `${(seconds * 1000).toFixed(seconds < 0.01 ? 1 : 0)} ms`;
}

function endpoint(candidate) {
  const { address = "here", port } = candidate ?? {};
  return `${address.includes(":") ? `[${address}]` : address}:${port ?? "?"}`;
}

/** Writes only what has changed: a live region would be read out again. */
function setText(target, text) {
  if (target.textContent !== text) target.textContent = text;
}
