// players/index.html: addresses with this host in them, and the list of what is live.

import { endpointUrl } from "./page-url.js";

const POLL_INTERVAL = 2_000;

const element = (id) => document.getElementById(id);
const here = new URL("./", window.location.href);

showAddresses(1935);
for (const button of document.querySelectorAll("[data-copy]")) button.addEventListener("click", () => copy(button));
showVersion();
poll();

function showAddresses(rtmpPort) {
  const host = here.hostname.includes(":") ? here.hostname : here.hostname || "127.0.0.1";
  const server = `rtmp://${host}${rtmpPort === 1935 ? "" : `:${rtmpPort}`}/live`;
  element("obs-server").textContent = server;
  element("ffmpeg-file").textContent = `ffmpeg -re -stream_loop -1 -i file.mp4 -c copy -f flv ${server}/livestream`;
  element("watch-url").textContent = new URL("players/whep.html?autostart=true", here).href;
  element("whep-url").textContent = endpointUrl("whep", {
    ...pick(window.location),
    pathname: new URL("players/", here).pathname,
    search: "",
  });
}

function pick({ protocol, host, hostname }) {
  return { protocol, host, hostname };
}

async function showVersion() {
  const answer = await ask("api/v1/versions");
  if (answer === undefined) return;
  element("version").textContent = answer.data.version;
  if (answer.rtmp_port > 0) showAddresses(answer.rtmp_port);
}

/** Asks every two seconds, and rests while nobody looks. */
async function poll() {
  if (!document.hidden) showStreams((await ask("api/v1/streams?count=100"))?.streams);
  setTimeout(poll, POLL_INTERVAL);
}

async function ask(path) {
  try {
    const response = await fetch(new URL(path, here), { cache: "no-store", signal: AbortSignal.timeout?.(5_000) });
    return response.ok ? await response.json() : undefined;
  } catch {
    return undefined;
  }
}

let shown = "";
function showStreams(streams) {
  const live = streams?.filter(({ publish }) => publish.active) ?? [];
  const note =
    streams === undefined
      ? "The gateway does not answer."
      : live.length === 0
        ? ""
        : `${live.length} ${live.length === 1 ? "stream" : "streams"}`;
  if (element("live-note").textContent !== note) element("live-note").textContent = note;
  if (streams === undefined) return;
  element("empty").hidden = live.length > 0;
  // Rebuilt only when something has changed, so that focus and selection stay.
  const state = JSON.stringify(
    live.map(({ id, viewers, video, audio, notes, publish }) => [id, viewers, video, audio, notes, publish.protocol]),
  );
  if (state === shown) return;
  shown = state;
  const focused = document.activeElement?.dataset?.stream;
  element("streams").replaceChildren(...live.map(itemOf));
  if (focused !== undefined) document.querySelector(`[data-stream="${CSS.escape(focused)}"]`)?.focus();
}

function itemOf(stream) {
  const { id, app, name, vhost, viewers, video, audio, notes, publish } = stream;
  const item = make("li");
  const text = item.appendChild(make("div", "stream-text"));
  text.appendChild(make("span", "stream-name", `${app}/${name}`));
  const size = video?.width > 0 ? ` ${video.width} × ${video.height}` : "";
  const rate = audio?.sample_rate > 0 ? ` ${audio.sample_rate / 1000} kHz` : "";
  const facts = [
    publish.protocol === "rtc" ? "WebRTC" : publish.protocol?.toUpperCase(),
    video && `${video.codec}${size}`,
    audio && `${audio.codec}${rate}`,
    `${viewers} ${viewers === 1 ? "viewer" : "viewers"}`,
  ];
  text.appendChild(make("span", "small muted", facts.filter(Boolean).join(" · ")));
  const told = Object.entries(notes ?? {}).map(([topic, note]) => `${topic}: ${note}`);
  if (told.length > 0) text.appendChild(make("span", "small muted", told.join(" · ")));

  const query = new URLSearchParams({ autostart: "true", app, stream: name });
  if (vhost !== "__defaultVhost__") query.set("vhost", vhost);
  const link = item.appendChild(make("a", "button primary", "Watch"));
  link.href = `players/whep.html?${query}`;
  link.dataset.stream = id;
  link.setAttribute("aria-label", `Watch ${app}/${name}`);
  return item;
}

/** Names come from whoever publishes: they are only ever text. */
function make(tag, className = "", text = "") {
  const made = document.createElement(tag);
  made.className = className;
  made.textContent = text;
  return made;
}

async function copy(button) {
  const source = element(button.dataset.copy);
  try {
    await navigator.clipboard.writeText(source.textContent);
  } catch {
    // No clipboard without https: select the text, so that one key copies it.
    window.getSelection().selectAllChildren(source);
    show(button, "Selected");
    return;
  }
  show(button, "Copied");
}

function show(button, word) {
  button.textContent = word;
  setTimeout(() => {
    button.textContent = "Copy";
  }, 1_500);
}
