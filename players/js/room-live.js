// The panel that makes one live stream of a room: by the gateway, when it is configured to, or by a command for one's own machine.

import { mixCommand } from "./mix-command.js";
import { copyText, element, setText } from "./page-parts.js";

/** Milliseconds between looks at whether the room is live. */
const INTERVAL = 3_000;
/** The mixed stream's name in its room. */
const MIX = "merge";

export class LivePanel {
  #places;
  #room = "";
  #rtmpPort = 1935;
  #timer;
  /** Whether the gateway mixes; undefined: not known yet. */
  #live;
  #names = [];

  /** @param {ReturnType<import("./room-url.js").roomPlaces>} places */
  constructor(places) {
    this.#places = places;
    element("layout").addEventListener("change", () => this.#showCommand());
    element("live-start").addEventListener("click", () => this.#toggle());
    element("copy-mix").addEventListener("click", () =>
      copyText(element("mix").textContent, element("copy-mix"), element("mix")),
    );
  }

  open(room) {
    this.#room = room;
    element("live-panel").hidden = false;
    element("live-watch").href = this.#places.watch(room, MIX);
    this.#look();
    this.#askPort();
  }

  close() {
    clearTimeout(this.#timer);
    this.#room = "";
    element("live-panel").hidden = true;
  }

  /** Those whose streams are there to be mixed. @param {readonly string[]} names */
  setNames(names) {
    this.#names = names;
    this.#showCommand();
  }

  #showCommand() {
    const rtmp = (stream) => {
      const port = this.#rtmpPort === 1935 ? "" : `:${this.#rtmpPort}`;
      return `rtmp://${this.#places.rtmpHost}${port}/${this.#room}/${stream}`;
    };
    // RTMP addresses have no way to write a `?`: names that are more than plain come by HTTP-FLV.
    const inputs = this.#names.map((name) => (/^[\w.-]+$/.test(name) ? rtmp(name) : this.#places.flv(this.#room, name)));
    const layout = element("layout").value;
    setText(
      element("mix"),
      inputs.length === 0 ? "Nobody sends anything yet." : mixCommand({ inputs, output: rtmp(MIX), layout }),
    );
    element("copy-mix").disabled = inputs.length === 0;
  }

  async #askPort() {
    const { answer } = await ask(this.#places.api("api/v1/versions"));
    if (answer?.rtmp_port > 0) this.#rtmpPort = answer.rtmp_port;
    this.#showCommand();
  }

  async #look() {
    clearTimeout(this.#timer);
    const room = this.#room;
    if (!document.hidden) {
      const { status, answer } = await ask(this.#url());
      if (this.#room !== room || room === "") return;
      this.#show(status, answer);
    }
    this.#timer = setTimeout(() => this.#look(), INTERVAL);
  }

  async #toggle() {
    const button = element("live-start");
    button.disabled = true;
    const isOn = this.#live === true;
    const layout = element("layout").value;
    const { status, answer } = await ask(this.#url(), isOn ? "DELETE" : "POST", isOn ? undefined : { layout });
    button.disabled = false;
    if (status === undefined || status >= 400) this.#explain(status, answer);
    else this.#explain();
    this.#look();
  }

  #url() {
    return this.#places.api(`api/v1/rooms/${encodeURIComponent(this.#room)}/live`);
  }

  #show(status, answer) {
    const live = answer?.live ?? answer?.data?.live;
    this.#live = live === true || (typeof live === "object" && live !== null);
    const state = element("live-state");
    setText(state, this.#live ? "Live" : "Off");
    state.dataset.tone = this.#live ? "good" : "idle";
    setText(element("live-start"), this.#live ? "End the live stream" : "Go live");
    void status;
  }

  #explain(status, answer) {
    const note = element("live-note");
    note.hidden = status === undefined && answer === undefined;
    setText(note, answer?.error ?? (status === undefined ? "The gateway does not answer." : `The gateway refuses (${status}).`));
  }
}

/** @returns `{ status, answer }`; both undefined when nobody answers */
async function ask(url, method = "GET", body) {
  try {
    const response = await fetch(url, {
      method,
      cache: "no-store",
      ...(body !== undefined && { headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) }),
      signal: AbortSignal.timeout?.(5_000),
    });
    return { status: response.status, answer: await response.json().catch(() => ({})) };
  } catch {
    return {};
  }
}
