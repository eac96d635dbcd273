// What the pages of players and publishers share: words for a connection's troubles, and how figures are written.

import { findingText } from "./doctor.js";
import { streamOf } from "./page-url.js";

export const element = (id) => document.getElementById(id);

/** Milliseconds after which a state that should be short is explained. */
export const EXPLAIN_AFTER = 3_000;

/** Writes only what has changed: a live region would be read out again. */
export function setText(target, text) {
  if (target.textContent !== text) target.textContent = text;
}

/**
 * Gives sessions back when the page goes; a page that comes back out of the browser's cache begins again.
 *
 * @param {{ state: string }} client
 */
export function giveBackWithPage(client, stop, start) {
  window.addEventListener("pagehide", () => {
    const wasOn = !["stopped", "failed", "left", "refused"].includes(client.state);
    stop();
    if (wasOn) window.addEventListener("pageshow", start, { once: true });
  });
}

/** Writes figures by the id of their place; undefined is a dash. */
export function setFigures(figures) {
  for (const [id, text] of Object.entries(figures)) setText(element(id), text ?? "–");
}

/** A dash in every place. */
export function emptyFigures() {
  for (const place of document.querySelectorAll(".figures dd, .figures dd > span"))
    if (place.childElementCount === 0) setText(place, "–");
}

/** The bar's word and colour, and the words on the stage; no title: nothing covers the picture. */
export function showWords({ word, tone }, [title, text]) {
  const label = element("state");
  setText(label, word);
  label.dataset.tone = tone;
  element("notice").hidden = title === undefined;
  setText(element("notice-title"), title ?? "");
  setText(element("notice-text"), text ?? "");
  element("notice-text").hidden = text === undefined;
}

/**
 * Words for the states that every session has: asking, connecting, securing, lost, failed.
 *
 * @param {number} age milliseconds the state has lasted
 * @param {object} [findings] of the gateway's doctor
 * @returns {[title?: string, text?: string]}
 */
export function explainSession(state, detail, age, findings) {
  const late = age > EXPLAIN_AFTER;
  const origin = originOf(detail.url);
  const again = "It is tried again by itself.";
  switch (state) {
    case "asking":
      return late ? [`No answer from ${origin} yet`, reachHelp(detail.url)] : ["Connecting …"];
    case "connecting":
      return late
        ? ["The gateway answered, but no packet comes through", findingText(findings) ?? triedText(detail)]
        : ["Connecting …"];
    case "securing":
      return late
        ? ["Packets come through, but the encrypted handshake (DTLS) does not end", findingText(findings) ?? triedText(detail)]
        : ["Connecting …"];
    case "lost":
      if (detail.step === "asking" && detail.status === undefined)
        return [`No answer from ${origin}`, `${detail.reason} ${reachHelp(detail.url)} ${again}`];
      if (detail.step === "connecting")
        return ["The gateway answered, but no packet came through", `${findingText(findings) ?? triedText(detail)} ${again}`];
      if (detail.step === "securing")
        return [
          "Packets came through, but the encrypted handshake (DTLS) did not end",
          `${findingText(findings) ?? ""} ${again}`,
        ];
      if (detail.status !== undefined) return [`${detail.title} (${detail.status})`, `${detail.reason ?? ""} ${again}`];
      return ["The connection was lost", `${detail.reason ?? ""} ${again}`];
    case "failed":
      return detail.status === undefined
        ? ["This cannot be done", detail.reason]
        : [`${detail.title} (${detail.status})`, detail.reason];
  }
  return [];
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
  if (url === undefined) return "";
  const { origin, host } = new URL(url);
  return origin === "null" ? host : origin; // webrtc://
}

/** A stream's name for people: `live/livestream`. */
export function nameOf(url) {
  const { app, stream } = streamOf(url);
  return `${app}/${stream}`;
}

/** The address in a field, or undefined after the browser has said what is wrong with it. */
export function addressIn(field) {
  try {
    return new URL(field.value, window.location.href).href;
  } catch {
    field.reportValidity();
    return undefined;
  }
}

export function bitrateText(bitrate) {
  if (bitrate === undefined) return undefined;
  return bitrate >= 1e6 ? `${(bitrate / 1e6).toFixed(2)} Mbit/s` : `${(bitrate / 1e3).toFixed(0)} kbit/s`;
}

export function fpsText(framesPerSecond) {
  return framesPerSecond === undefined ? undefined : `${framesPerSecond.toFixed(1)} fps`;
}

export function sizeText({ width, height }) {
  return width > 0 ? `${width} × ${height}` : undefined;
}

export function lossText(loss, lost) {
  return loss === undefined ? undefined : `${(loss * 100).toFixed(loss > 0 && loss < 0.1 ? 2 : 0)} % (${lost})`;
}

export function millisecondsText(seconds) {
  return seconds === undefined ? undefined : `${(seconds * 1000).toFixed(seconds < 0.01 ? 1 : 0)} ms`;
}

/** The candidate pair in use: from here to the gateway. */
export function pairText(pair) {
  return pair?.remote && `${endpoint(pair.local)} → ${endpoint(pair.remote)}, ${pair.remote.protocol?.toUpperCase()}`;
}

function endpoint(candidate) {
  const { address = "here", port } = candidate ?? {};
  return `${address.includes(":") ? `[${address}]` : address}:${port ?? "?"}`;
}

/** Fills the lists `camera` and `microphone`. Names come from the system, once it has allowed a first device: they are only ever text. */
export function fillDevices({ cameras, microphones }) {
  for (const [id, devices, word] of [
    ["camera", cameras, "Camera"],
    ["microphone", microphones, "Microphone"],
  ]) {
    const select = element(id);
    const before = select.value;
    const named = devices.map(({ deviceId, label }, index) => new Option(label || `${word} ${index + 1}`, deviceId));
    select.replaceChildren(new Option("Default", ""), ...named, new Option("None", "none"));
    select.value = [...select.options].some(({ value }) => value === before) ? before : "";
  }
}

/** Loudness is heard in decibels: 60 of them span the meter. @param {number | undefined} level 0 to 1 */
export function showMeter(level) {
  const shown = level > 0 ? Math.max(0, 1 + (20 * Math.log10(level)) / 60) : 0;
  element("level").style.transform = `scaleX(${shown.toFixed(3)})`;
  element("meter").setAttribute("aria-label", level === undefined ? "no sound" : `${Math.round(shown * 100)} percent`);
}

/** Copies, or says that it cannot: there is no clipboard without https. */
export async function copyText(text, button, select) {
  const label = button.dataset.label ?? button.textContent;
  button.dataset.label = label;
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
  } catch {
    if (select !== undefined) {
      window.getSelection().selectAllChildren(select); // one key copies it
      button.textContent = "Selected";
    } else {
      button.textContent = text;
      return;
    }
  }
  setTimeout(() => {
    button.textContent = label;
  }, 1_500);
}
