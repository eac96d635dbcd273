// players/index.html, the console: addresses with this host in them, and what is live, with everybody connected to it.

import { GatewayApi } from "./gateway-api.js";
import { copyText, element, setText } from "./page-parts.js";
import { endpointUrl, mediaUrl } from "./page-url.js";
import { StreamList } from "./stream-list.js";

/** Milliseconds between looks; the later ones while nobody answers. */
const INTERVALS = [2_000, 2_000, 4_000, 8_000, 15_000];

const here = new URL("./", window.location.href);
const api = new GatewayApi(window.location);
let rtmpPort = 1935;
let wake = () => {};

const list = new StreamList(
  element("streams"),
  ({ app, name, vhost }) => ({
    rtmp: rtmpPort > 0 ? `${rtmpServer(app)}/${name}${vhost === "__defaultVhost__" ? "" : `?vhost=${vhost}`}` : undefined,
  }),
  async (id) => {
    const why = await api.kick(id);
    element("streams").classList.toggle("no-kick", !api.mayKick);
    wake();
    return why;
  },
);

showAddresses();
for (const button of document.querySelectorAll("[data-copy]")) {
  const source = element(button.dataset.copy);
  button.addEventListener("click", () => copyText(source.textContent, button, source));
}
element("camera-hint").hidden = window.isSecureContext;
document.addEventListener("visibilitychange", () => wake());
run();

function showAddresses() {
  const server = rtmpServer("live");
  const own = { protocol: here.protocol, host: here.host, hostname: here.hostname, search: "" };
  const players = { ...own, pathname: new URL("players/", here).pathname };
  setText(element("obs-server"), server);
  setText(element("ffmpeg-file"), `ffmpeg -re -stream_loop -1 -i file.mp4 -c copy -f flv ${server}/livestream`);
  setText(element("watch-url"), new URL("players/whep.html?autostart=true", here).href);
  setText(element("whep-url"), endpointUrl("whep", players));
  setText(element("whip-url"), endpointUrl("whip", players));
  setText(element("hls-url"), mediaUrl({ ...players, search: "?stream=livestream.m3u8" }));
  setText(element("flv-url"), mediaUrl(players));
  setText(element("rtmp-url"), `${server}/livestream`);
}

function rtmpServer(app) {
  const host = here.hostname || "127.0.0.1";
  return `rtmp://${host}${rtmpPort === 1935 ? "" : `:${rtmpPort}`}/${app}`;
}

/** Looks again and again, more slowly while nobody answers, and rests while nobody watches. */
async function run() {
  const version = await api.version();
  if (version !== undefined) {
    setText(element("version"), version.data.version);
    if (version.rtmp_port > 0) rtmpPort = version.rtmp_port;
    showAddresses();
  }
  for (let failures = 0; ; ) {
    if (!document.hidden) {
      const [streams, clients] = await Promise.all([api.streams(), api.clients()]);
      failures = streams === undefined ? failures + 1 : 0;
      showStreams(streams, clients);
    }
    await new Promise((resolve) => {
      wake = resolve;
      setTimeout(resolve, INTERVALS[Math.min(failures, INTERVALS.length - 1)]);
    });
  }
}

function showStreams(streams, { reach, clients }) {
  const live = streams ?? [];
  const note =
    streams === undefined
      ? "The gateway does not answer."
      : live.length === 0
        ? ""
        : `${live.length} ${live.length === 1 ? "stream" : "streams"}`;
  setText(element("live-note"), note);
  if (streams === undefined) return; // what was known stays, under that note
  element("empty").hidden = live.length > 0;
  list.show(live, clients, reach === "yes");
  const isOneSided = live.length > 0 && reach !== "yes";
  element("clients-note").hidden = !isOneSided;
  if (isOneSided) {
    setText(
      element("clients-note"),
      reach === "denied"
        ? `Who is connected is told on the API’s own port (${api.apiOrigin}), which asks for a password.`
        : `Who is connected is told on the API’s own port only; ${api.apiOrigin} does not answer here. Another one: add ?api=PORT to this address.`,
    );
  }
}
