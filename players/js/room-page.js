// players/demos/room.html and one2one.html: what somebody in a room sees of a RoomClient.

import { captureObstacle, listDevices } from "./capture.js";
import { guestName, rememberedName, rememberName } from "./display-name.js";
import { LocalMedia } from "./local-media.js";
import { copyText, element, explainSession, fillDevices, giveBackWithPage, setText, showWords } from "./page-parts.js";
import { wantsAutostart } from "./page-url.js";
import { RoomClient } from "./room-client.js";
import { showFigures } from "./room-figures.js";
import { LivePanel } from "./room-live.js";
import { Tile } from "./room-tile.js";
import { roomPlaces } from "./room-url.js";
import { explainRoom, findTrouble, thinnedWords, wordsFor } from "./room-words.js";
import { receivedLevel, SpeakerChoice, sentLevel } from "./speaker.js";
import { fitGrid } from "./tile-grid.js";

/** A word for the bar, and its colour. */
const STATES = {
  left: { word: "Not in a room", tone: "idle" },
  joining: { word: "Joining", tone: "busy" },
  joined: { word: "In the room", tone: "good" },
  lost: { word: "Trying again", tone: "warn" },
  refused: { word: "Not let in", tone: "bad" },
};
/** Milliseconds between looks at who speaks. */
const LISTEN_INTERVAL = 250;

/** Bits per second of a camera in a room of that many. */
const BITRATES = [
  [2, 2_000_000],
  [4, 1_000_000],
  [9, 500_000],
  [Number.POSITIVE_INFINITY, 250_000],
];

const places = roomPlaces(window.location);
const query = new URLSearchParams(window.location.search);
/** one2one.html is the same page for two: the other one large, oneself in a corner. */
const isPair = document.documentElement.dataset.layout === "pair";
const media = new LocalMedia();
const speaker = new SpeakerChoice();
const live = new LivePanel(places);
/** Everybody's tile by name; the own one is not in it. @type {Map<string, Tile>} */
const tiles = new Map();
/** @type {Tile | undefined} */
let ownTile;
/** A refusal to capture, as title and text. */
let refusal;
/** Whether the page shows the call, and who sent when the mix was last asked for. */
let wasIn = false;
let mixed = "";

const room = new RoomClient({
  signaling: places.signaling(),
  stream: places.stream,
  showIn: (participant) => {
    const tile = new Tile(participant.display, "other");
    tiles.set(participant.display, tile);
    return tile.video;
  },
});

// For tests and the curious: everything there is to know, from the console.
window.__sluice = {
  room,
  media,
  get state() {
    return room.state;
  },
  /** Figures of everybody's stream by name. */
  get stats() {
    return Object.fromEntries([...room.participants].map(([display, { viewer }]) => [display, viewer?.stats]));
  },
  get speaker() {
    return speaker.speaker;
  },
};

element("room").value = places.room ?? "";
element("display").value = places.display ?? rememberedName() ?? (wantsAutostart(window.location.search) ? guestName() : "");
if (query.has("height")) element("height").value = nearest(element("height"), Number(query.get("height")));
else if (isPair) element("height").value = "720";
refusal = captureObstacle();
showDevices();

element("lobby").addEventListener("submit", (event) => {
  event.preventDefault();
  enterRoom();
});
element("open-preview").addEventListener("click", () => openMedia());
element("leave").addEventListener("click", leaveRoom);
for (const kind of ["audio", "video"]) element(`mute-${kind}`).addEventListener("click", () => media.mute(kind));
element("share").addEventListener("click", toggleShare);
for (const [button, panel] of [
  ["show-devices", "devices"],
  ["show-figures", "figures-panel"],
]) {
  element(button).addEventListener("click", () => {
    const isOpen = element(panel).hidden;
    element(panel).hidden = !isOpen;
    element(button).setAttribute("aria-expanded", String(isOpen));
    if (isOpen) element(panel).scrollIntoView({ block: "nearest", behavior: "smooth" });
  });
}
for (const id of ["camera", "microphone", "height"])
  element(id).addEventListener("change", () => media.stream.active && openMedia());
element("invite").addEventListener("click", copyInvitation);
element("sound").addEventListener("click", playWithSound);

media.addEventListener("stream", onStream);
media.addEventListener("muted", onMuted);
media.addEventListener("remark", ({ text }) => remark(text));
room.addEventListener("state", showState);
room.addEventListener("publisher", showState);
room.addEventListener("enter", ({ detail }) => {
  element("tiles").append(tiles.get(detail.display).element);
  detail.video.addEventListener("volumechange", showSoundButton);
  onCompany();
  showParticipant(detail);
});
room.addEventListener("leave", ({ detail }) => {
  tiles.get(detail.display)?.element.remove();
  tiles.delete(detail.display);
  onCompany();
});
room.addEventListener("change", ({ detail }) => showParticipant(detail));
navigator.mediaDevices?.addEventListener?.("devicechange", showDevices);
new ResizeObserver(arrange).observe(element("tiles"));
window.addEventListener("resize", arrange);
setInterval(refresh, 1_000); // figures, and words that depend on how long a state lasts
listen();

giveBackWithPage(room, () => room.leave(), enterRoom);

if (wantsAutostart(window.location.search) && element("room").value !== "") enterRoom();
else showState();

async function enterRoom() {
  const [name, display] = [element("room").value.trim(), element("display").value.trim()];
  if (name === "" || display === "") {
    element("lobby").reportValidity();
    return;
  }
  if (places.display === undefined) rememberName(display); // else it was chosen by the address, not by a person
  // Joining comes first: whether a name is free is known before a camera is.
  room.join(name, display);
  makeOwnTile(display);
  if (!media.stream.active && query.get("video") !== "none") await openMedia();
}

function leaveRoom() {
  room.leave();
  media.close();
  ownTile?.element.remove();
  ownTile = undefined;
  refusal = captureObstacle();
  showState();
}

/** Opens camera and microphone as chosen; without them one watches. */
async function openMedia() {
  refusal = undefined;
  try {
    await media.open(wish());
    showDevices();
  } catch (error) {
    refusal = { title: error.title ?? "No picture and no sound", text: error.message };
    if (room.state !== "left") remark(`${refusal.title}. ${refusal.text} You are here without.`);
  }
  showState();
}

async function toggleShare() {
  if (media.isScreen) {
    media.unshare();
    return;
  }
  try {
    await media.share({ ...wish(), height: 1080, frameRate: 15 });
    remark(undefined);
  } catch (error) {
    remark(`${error.title ?? "The screen cannot be shown"}. ${error.message}`);
  }
}

function wish() {
  return {
    source: "camera",
    camera: query.get("video") === "none" ? "none" : element("camera").value,
    microphone: query.get("audio") === "none" ? "none" : element("microphone").value,
    height: Number(element("height").value),
    frameRate: Number(query.get("fps")) || 25,
  };
}

function onStream() {
  for (const video of [element("preview"), ownTile?.video].filter(Boolean)) {
    video.srcObject = media.stream.active ? media.stream : null;
    video.play().catch(() => {});
  }
  limitBitrate();
  room.setStream(media.stream);
  showState();
}

function onMuted() {
  room.tell({ audio: media.isOn("audio"), video: media.isOn("video"), screen: media.isScreen });
  for (const [kind, on, off] of [
    ["audio", "Mute", "Unmute"],
    ["video", "Hide", "Show"],
  ]) {
    const button = element(`mute-${kind}`);
    button.disabled = !media.has(kind);
    button.toggleAttribute("data-off", media.muted[kind]);
    setText(button.querySelector("span"), media.muted[kind] ? off : on);
  }
  element("share").toggleAttribute("data-on", media.isScreen);
  setText(element("share").querySelector("span"), media.isScreen ? "Stop sharing" : "Share screen");
  showOwnTile();
}

/** Somebody has come or left. */
function onCompany() {
  limitBitrate();
  arrange();
  showState();
}

/** What a page receives grows with the room: everybody sends less then. Takes effect without a new session. */
function limitBitrate() {
  const limit = media.isScreen ? 2_500_000 : BITRATES.find(([size]) => room.size <= size)?.[1];
  room.publisher.settings = { codec: "H264", ...room.publisher.settings, maxBitrate: limit };
  room.publisher.setMaxBitrate(limit);
}

function makeOwnTile(display) {
  ownTile?.element.remove();
  ownTile = new Tile(display, "self");
  ownTile.video.srcObject = media.stream.active ? media.stream : null;
  element("tiles").prepend(ownTile.element);
  onCompany();
}

function arrange() {
  const grid = element("tiles");
  const { clientWidth: width, clientHeight: height } = grid;
  if (width === 0) return;
  grid.dataset.count = String(grid.childElementCount);
  if (isPair && grid.childElementCount <= 2) {
    grid.style.removeProperty("--tile-width");
    return;
  }
  const { columns, tileWidth, tileHeight } = fitGrid(grid.childElementCount, width, height, {
    tallest: width >= 640 ? 9 / 16 : grid.childElementCount > 9 ? 1 : 3 / 4,
    least: 110,
  });
  grid.style.setProperty("--tile-width", `${tileWidth}px`);
  grid.style.setProperty("--tile-height", `${tileHeight}px`);
  grid.style.setProperty("--columns", String(columns));
}

function refresh() {
  showState();
  if (room.state === "left") return;
  for (const participant of room.participants.values()) showParticipant(participant);
  showOwnTile();
  if (element("figures-panel").hidden) return;
  const { publisher } = room;
  showFigures(element("figures"), [
    { name: `${room.display} (sent)`, state: publisher.state, stats: publisher.stats },
    ...[...room.participants.values()].map(({ display, viewer }) => ({
      name: display,
      state: viewer?.state ?? "sends nothing",
      stats: viewer?.stats,
    })),
  ]);
}

function showParticipant(participant) {
  const { told, viewer, thinning, display } = participant;
  const isPlaying = viewer?.state === "playing";
  const hasPicture = isPlaying && viewer.stats?.framesDecoded > 0 && told.video !== false;
  tiles.get(display)?.show({
    isCovered: !hasPicture,
    words: isPlaying ? "" : wordsFor(participant),
    isSilent: told.audio === false,
    isScreen: told.screen === true,
    remark: hasPicture ? thinnedWords(thinning) : undefined,
  });
}

function showOwnTile() {
  const { state, detail, since } = room.publisher;
  const [title] = state === "stopped" ? [] : explainSession(state, detail, performance.now() - since);
  const words = media.stream.active ? (title ?? "") : "no camera, no microphone";
  ownTile?.show({
    isCovered: !media.isOn("video"),
    words: media.isOn("video") ? "" : words,
    isSilent: !media.isOn("audio"),
    isScreen: media.isScreen,
    remark: media.isOn("video") && state !== "live" && title !== undefined ? title : undefined,
  });
}

function showState() {
  const { state } = room;
  const isIn = state === "joined" || state === "lost";
  element("lobby").hidden = isIn;
  element("call").hidden = !isIn;
  document.body.classList.toggle("in-call", isIn);
  element("room-title").hidden = !isIn;
  setText(element("room-title"), room.room);
  showWords(STATES[state], explainRoom(room, media, refusal));
  setText(element("join"), state === "joining" ? "Joining …" : "Join");
  element("open-preview").disabled = media.stream.active;
  if (isIn !== wasIn) onEnterOrLeave(isIn);
  showTrouble();
  showSoundButton();
  const senders = JSON.stringify([room.publisher.state === "live", ...sendersOf(room)]);
  if (isIn && senders !== mixed) {
    mixed = senders;
    live.refresh();
  }
}

function sendersOf({ participants }) {
  return [...participants.values()].filter(({ publishing }) => publishing).map(({ display }) => display);
}

function onEnterOrLeave(isIn) {
  wasIn = isIn;
  mixed = "";
  element("devices").hidden = isIn;
  element("show-devices").setAttribute("aria-expanded", "false");
  if (isIn) {
    live.open(room.room);
    arrange();
  } else {
    live.close();
    element("figures-panel").hidden = true;
    element("show-figures").setAttribute("aria-expanded", "false");
  }
}

/** What is wrong although one is in the room: signaling gone, or media that does not get through. */
function showTrouble() {
  const [title, text] = findTrouble(room, isPair) ?? [];
  const box = element("trouble");
  box.hidden = title === undefined;
  setText(element("trouble-title"), title ?? "");
  setText(element("trouble-text"), text ?? "");
}

/** Browsers let a page play sound only after a click. */
function showSoundButton() {
  element("sound").hidden = ![...tiles.values()].some(({ video }) => video.muted && video.srcObject !== null);
}

function playWithSound() {
  for (const { video } of tiles.values()) {
    video.muted = false;
    video.play().catch(() => {});
  }
  showSoundButton();
}

async function listen() {
  for (;;) {
    await new Promise((resolve) => setTimeout(resolve, LISTEN_INTERVAL));
    if (room.state === "left" || document.hidden) continue;
    const levels = new Map([["", await sentLevel(room.publisher.pc)]]); // nobody's name is empty: that is me
    const others = [...room.participants.values()];
    const found = await Promise.all(others.map(({ viewer }) => receivedLevel(viewer?.pc).catch(() => 0)));
    for (const [index, { display, told }] of others.entries()) levels.set(display, told.audio === false ? 0 : found[index]);
    const chosen = speaker.choose(performance.now(), levels);
    for (const [display, tile] of tiles) tile.isSpeaking = display === chosen;
    if (ownTile !== undefined) ownTile.isSpeaking = chosen === "";
  }
}

async function copyInvitation() {
  const link = places.invitation(room.room);
  const shown = element("invitation");
  setText(shown, link);
  shown.hidden = false;
  await copyText(link, element("invite").querySelector("span"), shown);
}

async function showDevices() {
  fillDevices(await listDevices());
  const obstacle = captureObstacle();
  element("camera-hint").hidden = obstacle === undefined;
  setText(element("camera-hint"), obstacle === undefined ? "" : `${obstacle.title}. ${obstacle.text}`);
}

function remark(text) {
  setText(element("remark"), text ?? "");
  element("remark").hidden = !text;
}

function nearest(select, value) {
  const values = [...select.options].map((option) => option.value);
  return values.reduce((best, each) => (Math.abs(each - value) < Math.abs(best - value) ? each : best));
}
