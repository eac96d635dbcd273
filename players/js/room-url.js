// From the query string of a room's page to the addresses it talks to. Pure: no window, so that it can be tested anywhere.

import { endpointUrl } from "./page-url.js";

/** Parameters of the page itself; every other one (`token=…`) goes along to signaling and to the streams' addresses. */
const OWN = new Set([
  "room",
  "display",
  "host",
  "wss",
  "wsh",
  "wsp",
  "autostart",
  "height",
  "fps",
  "audio",
  "video",
  "source",
  "rtmp",
]);

/**
 * Where a room is. `host` names the gateway for media, `wss` (`ws` or `wss`), `wsh` and `wsp` schema, host and port of signaling; without
 * them a page talks to where it came from, also under a proxy's path. A room's participants are streams: the room is the app, the display
 * name the stream.
 *
 * @param {{ protocol: string, host: string, hostname: string, port: string, search: string, pathname: string, href: string }} location
 */
export function roomPlaces(location) {
  const query = new URLSearchParams(location.search);
  const value = (key) => query.get(key) || undefined;
  const passed = [...query].filter(([key]) => !OWN.has(key));
  const host = value("host") === location.hostname ? undefined : value("host");

  /** A location as the other pages know it, for one participant's stream. */
  const locationOf = (room, display) => {
    const search = new URLSearchParams({ app: room, stream: display });
    const [, name, port] = /^(.*?)(?::(\d+))?$/.exec(host ?? "");
    if (host !== undefined) search.set("server", name.replace(/^\[|\]$/g, ""));
    if (port !== undefined) search.set("port", port);
    for (const [key, text] of passed) search.append(key, text);
    return { ...pick(location), search: `?${search}` };
  };

  return {
    room: value("room"),
    display: value("display"),

    /** URL of the WebSocket. */
    signaling() {
      const schema = (value("wss") ?? (location.protocol === "https:" ? "wss" : "ws")).replace(/:$/, "");
      const name = value("wsh") ?? location.hostname;
      const port = value("wsp") ?? location.port;
      const isHere = value("wsh") === undefined && value("wsp") === undefined;
      const prefix = isHere ? (/^(.*)\/(?:players|demos)\//.exec(location.pathname)?.[1] ?? "") : "";
      const rest = new URLSearchParams(passed).toString();
      const bracketed = name.includes(":") && !name.startsWith("[") ? `[${name}]` : name;
      return `${schema}://${bracketed}${port && `:${port}`}${prefix}/sig/v1/rtc${rest && `?${rest}`}`;
    },

    /** @param {"whip" | "whep"} kind */
    stream: (kind, room, display) => endpointUrl(kind, locationOf(room, display)),

    /** @param {string} path of the HTTP API, without a first slash */
    api: (path) => new URL(path, `${endpointUrl("whip", locationOf("a", "b")).replace(/rtc\/v1\/.*$/, "")}`).href,

    /** The same on the API's own port, where what changes something is: `?api=PORT`, else 1985, or 1990 for https. */
    ownApi(path) {
      const base = new URL(this.api(""));
      base.port = value("api") ?? (location.protocol === "https:" ? "1990" : "1985");
      return new URL(path, base).href;
    },

    /** The page that invites others: everything but who I am. */
    invitation(room) {
      const search = new URLSearchParams(location.search);
      for (const key of ["display", "autostart", "audio", "video", "source"]) search.delete(key);
      search.set("room", room);
      return new URL(`?${search}`, location.href).href;
    },

    /** A page of the players that shows a stream of the room. */
    watch: (room, stream, page = "whep.html") => {
      const { search } = locationOf(room, stream);
      return new URL(`../players/${page}${search}&autostart=true`, location.href).href;
    },
  };
}

/** The fields of a Location are not its own: a spread would lose them. */
function pick({ protocol, host, hostname, pathname }) {
  return { protocol, host, hostname, pathname };
}
