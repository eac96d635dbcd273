// The console's list of streams: each in a place of its own that is kept and written anew, so that nothing jumps and focus stays.

import { bitrateText, copyText, setText } from "./page-parts.js";

const PROTOCOLS = { rtc: "WebRTC", rtmp: "RTMP", flv: "FLV", hls: "HLS" };
/** Milliseconds a kick button waits for its second press. */
const SURE = 3_000;

export class StreamList {
  #list;
  #links;
  #kick;
  #cards = new Map();

  /**
   * @param {HTMLUListElement} list
   * @param {(stream: object) => { rtmp: string | undefined }} links addresses of a stream that depend on the gateway's ports
   * @param {(id: string) => Promise<string | undefined>} kick ends a client; resolves to why not
   */
  constructor(list, links, kick) {
    this.#list = list;
    this.#links = links;
    this.#kick = kick;
  }

  /**
   * @param {object[]} streams of the API
   * @param {object[]} clients of the API; empty when they cannot be had
   * @param {boolean} hasClients whether they could be had
   */
  show(streams, clients, hasClients) {
    const ids = new Set(streams.map(({ id }) => id));
    for (const [id, card] of this.#cards) {
      if (ids.has(id)) continue;
      card.element.remove();
      this.#cards.delete(id);
    }
    streams.forEach((stream, index) => {
      let card = this.#cards.get(stream.id);
      if (card === undefined) {
        card = new StreamCard(stream, this.#links(stream), this.#kick);
        this.#cards.set(stream.id, card);
      }
      if (this.#list.children[index] !== card.element) this.#list.insertBefore(card.element, this.#list.children[index] ?? null);
      card.show(
        stream,
        clients.filter((client) => client.stream === stream.id),
        hasClients,
      );
    });
  }
}

/** Names come from whoever publishes: they are only ever text. */
class StreamCard {
  element = make("li", "stream");
  #name = make("h3", "stream-name");
  #state = make("span", "state");
  #facts = {
    picture: make("dd"),
    sound: make("dd"),
    bitrate: make("dd"),
    viewers: make("dd"),
    publisher: make("dd"),
    uptime: make("dd"),
  };
  #notes = make("ul", "notes small");
  #details = make("details", "clients");
  #summary = make("summary", "small");
  #rows = make("ul");
  #clientRows = new Map();
  #kick;
  #meter = new RateMeter();

  constructor(stream, { rtmp }, kick) {
    this.#kick = kick;
    const head = make("div", "stream-head");
    head.append(this.#name, this.#state);
    const facts = make("dl", "facts");
    for (const [key, label] of Object.entries(FACTS)) {
      const pair = make("div");
      pair.append(make("dt", "", label), this.#facts[key]);
      facts.append(pair);
    }
    this.#details.append(this.#summary, this.#rows);
    this.element.append(head, facts, this.#notes, this.#makeLinks(stream, rtmp), this.#details);
  }

  show(stream, clients, hasClients) {
    const { app, name, vhost, state, video, audio, publish, notes, live_ms: since } = stream;
    setText(this.#name, `${vhost === "__defaultVhost__" ? "" : `${vhost}/`}${app}/${name}`);
    const isLive = state !== "grace" && publish.active;
    setText(this.#state, isLive ? "Live" : "Publisher away");
    this.#state.dataset.tone = isLive ? "good" : "warn";
    const publisher = clients.find((client) => client.publish);
    const bitrate = this.#meter.read(stream) ?? (stream.kbps?.recv_30s > 0 ? stream.kbps.recv_30s * 1000 : undefined);
    const facts = {
      picture: pictureText(video),
      sound: soundText(audio),
      bitrate: isLive ? bitrateText(bitrate) : undefined,
      viewers: viewersText(stream, clients, hasClients),
      publisher: [protocolName(publish.protocol), publisher?.ip].filter(Boolean).join(" from ") || undefined,
      uptime: since > 0 ? durationText(Date.now() - since) : undefined,
    };
    for (const [key, text] of Object.entries(facts)) setText(this.#facts[key], text ?? "–");
    const told = Object.entries(notes ?? {}).map(([topic, note]) => `${topic}: ${note}`);
    if (told.join("\n") !== [...this.#notes.children].map(({ textContent }) => textContent).join("\n")) {
      this.#notes.replaceChildren(...told.map((text) => make("li", "", text)));
    }
    this.#details.hidden = !hasClients;
    setText(this.#summary, `${clients.length} ${clients.length === 1 ? "client" : "clients"}`);
    this.#showClients(clients);
  }

  #showClients(clients) {
    const ids = new Set(clients.map(({ id }) => id));
    for (const [id, row] of this.#clientRows) {
      if (ids.has(id)) continue;
      row.element.remove();
      this.#clientRows.delete(id);
    }
    clients.forEach((client, index) => {
      let row = this.#clientRows.get(client.id);
      if (row === undefined) {
        row = new ClientRow(client.id, this.#kick);
        this.#clientRows.set(client.id, row);
      }
      if (this.#rows.children[index] !== row.element) this.#rows.insertBefore(row.element, this.#rows.children[index] ?? null);
      row.show(client);
    });
  }

  #makeLinks({ id, app, name, vhost }, rtmp) {
    const own = vhost === "__defaultVhost__" ? {} : { vhost };
    const links = make("div", "stream-links");
    const add = (label, page, query, className = "button") => {
      const link = make("a", className, label);
      link.href = `players/${page}?${new URLSearchParams({ autostart: "true", app, ...query, ...own })}`;
      link.setAttribute("aria-label", `${label}: ${app}/${name}`);
      links.append(link);
      return link;
    };
    add("Watch", "whep.html", { stream: name }, "button primary").dataset.stream = id;
    add("By HLS", "srs_player.html", { stream: `${name}.m3u8` });
    add("By FLV", "srs_player.html", { stream: `${name}.flv` });
    add("By legacy WebRTC", "rtc_player.html", { stream: name });
    if (rtmp !== undefined) {
      const button = make("button", "", "Copy RTMP address");
      button.type = "button";
      button.title = rtmp;
      button.addEventListener("click", () => copyText(rtmp, button));
      links.append(button);
    }
    return links;
  }
}

const FACTS = {
  picture: "Picture",
  sound: "Sound",
  bitrate: "Bit rate in",
  viewers: "Viewers",
  publisher: "Publisher",
  uptime: "Live for",
};

class ClientRow {
  element = make("li", "client");
  #who = make("span", "client-who");
  #facts = make("span", "small muted");
  #reason = make("span", "small");
  #button = make("button", "quiet", "End");
  /** Why the session could not be ended. */
  #complaint = "";

  constructor(id, kick) {
    const words = make("div", "client-words");
    words.append(this.#who, this.#facts, this.#reason);
    this.#button.type = "button";
    this.element.append(words, this.#button);
    let sureUntil = 0;
    this.#button.addEventListener("click", async () => {
      if (performance.now() > sureUntil) {
        sureUntil = performance.now() + SURE;
        setText(this.#button, "Really end?");
        setTimeout(() => setText(this.#button, "End"), SURE);
        return;
      }
      this.#button.disabled = true;
      const why = await kick(id);
      this.#button.disabled = false;
      setText(this.#button, "End");
      this.#complaint = why ?? "";
      if (why !== undefined) setText(this.#reason, why);
    });
  }

  show(client) {
    const { type, ip, alive, rtc, queue, publish } = client;
    const protocol = protocolName(type.startsWith("fmle") ? "rtmp" : type.split("-")[0]);
    setText(this.#who, `${publish ? "Publishes" : "Watches"} by ${protocol} from ${ip}`);
    this.#button.setAttribute("aria-label", `End the session of ${ip} by ${protocol}`);
    const facts = [`for ${durationText(alive * 1000)}`, ...(rtc === undefined ? tcpFacts(client) : rtcFacts(rtc))];
    setText(this.#facts, facts.filter(Boolean).join(" · "));
    const reason = rtc?.reason || (queue?.falls > 0 ? "reads too slowly: it falls forward to the next key frame" : "");
    setText(this.#reason, [this.#complaint, reason].filter(Boolean).join(" · "));
  }
}

function rtcFacts({ state, ice_state: ice, dtls_state: dtls, rtt_ms: rtt, loss, bitrate, nacks, plis, candidate }) {
  const how = state ?? [ice, dtls].filter(Boolean).join("/");
  return [
    how,
    bitrateText(bitrate),
    rtt > 0 && `${rtt} ms round trip`,
    loss !== undefined && `${(loss * 100).toFixed(loss > 0 && loss < 0.1 ? 1 : 0)} % lost`,
    nacks > 0 && `${nacks} repeats asked`,
    plis > 0 && `${plis} key frames asked`,
    candidate && `at ${candidate}`,
  ];
}

function tcpFacts({ kbps, queue, publish }) {
  const rate = publish ? kbps?.recv_30s : kbps?.send_30s;
  return [
    rate > 0 && bitrateText(rate * 1000),
    queue?.waiting > 0 && `${Math.ceil(queue.waiting / 1024)} KiB waiting`,
    queue?.falls > 0 && `fell behind ${queue.falls} ${queue.falls === 1 ? "time" : "times"}`,
  ];
}

function protocolName(protocol) {
  return PROTOCOLS[protocol] ?? protocol?.toUpperCase();
}

function pictureText(video) {
  if (!video) return undefined;
  const size = video.width > 0 ? `${video.width} × ${video.height}` : undefined;
  return [video.codec === "H264" ? "H.264" : video.codec, video.profile, size].filter(Boolean).join(" ");
}

function soundText(audio) {
  if (!audio) return undefined;
  const channels = { 1: "mono", 2: "stereo" }[audio.channel];
  return [audio.codec, audio.sample_rate > 0 && `${audio.sample_rate / 1000} kHz`, channels].filter(Boolean).join(" ");
}

/** `3 (WebRTC 2, FLV 1)`; what the streams' list does not tell is counted from the clients. */
function viewersText({ viewers, viewers_by_protocol: known }, clients, hasClients) {
  const counts = known ?? (hasClients ? countTypes(clients) : {});
  const parts = Object.entries(counts).map(([protocol, count]) => `${protocolName(protocol)} ${count}`);
  return parts.length > 0 ? `${viewers} (${parts.join(", ")})` : String(viewers);
}

function countTypes(clients) {
  const counts = {};
  for (const { type, publish } of clients) {
    const protocol = type.split("-")[0];
    if (!publish) counts[protocol] = (counts[protocol] ?? 0) + 1;
  }
  return counts;
}

/** `3:07`, `1:02:09`, `2 d 4 h`. */
export function durationText(milliseconds) {
  const seconds = Math.max(0, Math.floor(milliseconds / 1000));
  const two = (number) => String(number).padStart(2, "0");
  const hours = Math.floor(seconds / 3600);
  if (hours >= 48) return `${Math.floor(hours / 24)} d ${hours % 24} h`;
  const rest = `${two(Math.floor(seconds / 60) % 60)}:${two(seconds % 60)}`;
  return hours > 0 ? `${hours}:${rest}` : rest.replace(/^0/, "");
}

/** Bits per second over the last few looks. */
class RateMeter {
  #samples = [];

  read({ recv_bytes: bytes }) {
    if (bytes === undefined) return undefined;
    const at = performance.now();
    const last = this.#samples.at(-1);
    if (last !== undefined && bytes < last.bytes) this.#samples = [];
    this.#samples.push({ at, bytes });
    while (this.#samples.length > 4) this.#samples.shift();
    const [first] = this.#samples;
    return at - first.at > 900 ? ((bytes - first.bytes) * 8_000) / (at - first.at) : undefined;
  }
}

function make(tag, className = "", text = "") {
  const made = document.createElement(tag);
  if (className !== "") made.className = className;
  made.textContent = text;
  return made;
}
