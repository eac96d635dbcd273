// The panel that makes one live stream of a room: by the gateway, when it is configured to, or by a command for one's own machine.

import { copyText, element, setText } from "./page-parts.js";

/** Milliseconds between looks at whether the room is live. */
const INTERVAL = 3_000;
/** The mixed stream's name in its room. */
const MIX = "merge";

const STATES = {
  off: { word: "Off", tone: "idle" },
  waiting: { word: "Waits for media", tone: "warn" },
  starting: { word: "Starting", tone: "busy" },
  live: { word: "Live", tone: "good" },
  failing: { word: "Trying again", tone: "bad" },
};

export class LivePanel {
  #places;
  #room = "";
  #timer;
  #isOn = false;
  /** What the last press of the button was answered with, until the next one. */
  #answer = "";

  /** @param {ReturnType<import("./room-url.js").roomPlaces>} places */
  constructor(places) {
    this.#places = places;
    element("layout").addEventListener("change", () => this.#look());
    element("live-start").addEventListener("click", () => this.#toggle());
    element("copy-mix").addEventListener("click", () =>
      copyText(element("mix").textContent, element("copy-mix"), element("mix")),
    );
  }

  open(room) {
    this.#room = room;
    this.#answer = "";
    element("live-panel").hidden = false;
    element("live-watch").href = this.#places.watch(room, MIX);
    this.#look();
  }

  close() {
    clearTimeout(this.#timer);
    this.#room = "";
    element("live-panel").hidden = true;
  }

  /** Somebody has come or left: the command is another one. */
  refresh() {
    if (this.#room !== "") this.#look();
  }

  async #look() {
    clearTimeout(this.#timer);
    const room = this.#room;
    if (!document.hidden) {
      const { answer } = await ask(this.#url(this.#places.api));
      if (this.#room !== room || room === "") return;
      this.#show(answer?.live);
    }
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#look(), INTERVAL);
  }

  async #toggle() {
    const button = element("live-start");
    button.disabled = true;
    const method = this.#isOn ? "DELETE" : "POST";
    const body = this.#isOn ? undefined : { layout: element("layout").value };
    this.#answer = "";
    // What changes something is on the API's own port, which may be this one too.
    for (const api of [this.#places.api, this.#places.ownApi]) {
      const { status, answer } = await ask(this.#url(api), method, body);
      this.#answer = status === 200 ? "" : wordsOf(status, answer, api(""));
      if (status !== undefined && status !== 404) break;
    }
    button.disabled = false;
    this.#look();
  }

  #url(api) {
    const layout = new URLSearchParams({ layout: element("layout").value });
    return `${api(`api/v1/rooms/${encodeURIComponent(this.#room)}/live`)}?${layout}`;
  }

  /** @param {any} live undefined: the gateway did not say */
  #show(live) {
    const { state = "off", enabled = true, reason, error, command, left_out: leftOut = [] } = live ?? {};
    this.#isOn = state !== "off";
    const { word, tone } = STATES[state] ?? STATES.off;
    setText(element("live-state"), word);
    element("live-state").dataset.tone = tone;
    element("live-buttons").hidden = !enabled && !this.#isOn;
    setText(element("live-start"), this.#isOn ? "End the live stream" : "Go live");
    element("layout").disabled = this.#isOn;
    const left = leftOut.map(({ display, reason }) => `${display} is left out: ${reason}`);
    const note = [this.#answer, enabled ? "" : reason, error, ...left].filter(Boolean).join(" ");
    setText(element("live-note"), note);
    element("live-note").hidden = note === "";
    setText(element("mix"), command ?? "Nobody sends anything yet.");
    element("copy-mix").disabled = command === undefined;
  }
}

function wordsOf(status, answer, base) {
  if (status === undefined) return `The API does not answer at ${base}.`;
  return answer?.error ?? `The API refuses (${status}).`;
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
