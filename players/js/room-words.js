// The words of a room's page: why there is no picture, why one is not let in, what is wrong although one is in. Pure but for the clock.

import { Doctor } from "./doctor.js";
import { EXPLAIN_AFTER, explainSession } from "./page-parts.js";

/** Words for a no that has a code. */
const REFUSALS = {
  taken: "This name is taken",
  reserved: "This name is not to be had",
  forbidden: "This room is not open to you",
  "room-full": "The room is full",
};

/** Why somebody's tile shows no picture. @param {import("./room-client.js").Participant} participant */
export function wordsFor({ publishing, viewer }) {
  if (!publishing || viewer === undefined) return "sends nothing yet";
  if (viewer.state === "paused") return "nothing comes any more";
  if (viewer.state === "waiting") return "sends nothing yet";
  const [title = ""] = explainSession(viewer.state, viewer.detail, performance.now() - viewer.since);
  return title || "Connecting …";
}

/** @param {import("./thinning.js").ThinWatch} thinning */
export function thinnedWords({ cause, shown, sent }) {
  if (cause === "path") return `${shown} of ${sent} pictures a second: the network carries no more`;
  if (cause === "here") return `${shown} of ${sent} pictures a second: this computer shows no more`;
  return undefined;
}

/**
 * Words over the preview, in the lobby.
 *
 * @param {import("./room-client.js").RoomClient} room
 * @param {import("./local-media.js").LocalMedia} media
 * @param {{ title: string, text: string } | undefined} refusal to capture
 */
export function explainRoom({ state, detail }, media, refusal) {
  if (state === "refused") return [REFUSALS[detail.code] ?? "You are not let in", detail.reason];
  if (state === "joining" && detail.reason !== undefined) {
    return [
      "The room cannot be reached",
      `${detail.reason} It is tried again by itself. Is the gateway running, and does it have rooms?`,
    ];
  }
  if (state === "joining") return ["Joining …"];
  if (refusal !== undefined) return [refusal.title, `${refusal.text} You can join without, to watch.`];
  if (media.has("video")) return [];
  return media.stream.active
    ? ["The microphone is on, there is no camera."]
    : ["Meet in a room.", "Everybody who opens this page with the same room name is seen and heard."];
}

/** What is wrong although one is in the room: signaling gone, or media that does not get through. */
export function findTrouble(room, isPair) {
  const now = performance.now();
  if (room.state === "lost" && now - room.since > 1_000) {
    return [
      "The connection to the room was lost",
      `${room.detail.reason ?? ""} It is tried again by itself. Who is connected stays so.`,
    ];
  }
  if (isPair && room.size > 2)
    return [`${room.size} people are in this room`, "This page is made for two: open room.html for more."];
  const sessions = [room.publisher, ...[...room.participants.values()].map(({ viewer }) => viewer)].filter(Boolean);
  for (const client of sessions) {
    const { state, detail, since } = client;
    findingsOf(client); // asks in time
    const step = state === "lost" ? detail.step : state;
    const isBlocked = step === "connecting" || step === "securing";
    if (!isBlocked || (state !== "lost" && now - since < EXPLAIN_AFTER)) continue;
    const [title, text] = explainSession(state, detail, now - since, findingsOf(client));
    const what = client === room.publisher ? "The others can neither see nor hear you. " : "";
    return ["You are in the room, but picture and sound do not get through", `${what}${title}. ${text ?? ""}`];
  }
  const failed = sessions.find(({ state }) => state === "failed");
  if (failed === undefined) return undefined;
  const [title, text] = explainSession("failed", failed.detail, 0);
  return [failed === room.publisher ? `The others do not see you: ${title}` : title, text];
}

/** What the gateway saw of a session's connection. */
function findingsOf(client) {
  const doctor = doctors.get(client) ?? new Doctor(client, () => {});
  doctors.set(client, doctor);
  return doctor.look();
}

const doctors = new WeakMap();
