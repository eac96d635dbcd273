// Signaling of rooms over a WebSocket: `{ tid, msg }` is asked and answered with the same `tid`; what has none is pushed.

/** Milliseconds without an answer to a request: the connection is given up then. */
const ANSWER_TIMEOUT = 6_000;
/** Milliseconds between tries to connect, growing; a fifth is chance, so that a whole room does not come back in one moment. */
const BACKOFF = [300, 700, 1_500, 3_000, 5_000];

/** The server said no, in its own words; the connection stands. */
export class SignalingRefusal extends Error {
  /** @param {string} reason @param {string} [code] */
  constructor(reason, code) {
    super(reason);
    this.code = code;
  }
}

/**
 * Keeps a connection until `close()`.
 *
 * Events: `open` (each time it stands, also again), `lost` (`detail`: `reason`, and `retryAt` by performance.now()), `notify` (`detail`: the
 * message).
 */
export class RoomSocket extends EventTarget {
  #url;
  /** @type {WebSocket | undefined} */
  #socket;
  #failures = 0;
  #timer;
  /** @type {Map<string, { resolve: (msg: any) => void, reject: (error: Error) => void, timer: ReturnType<typeof setTimeout> }>} */
  #waiting = new Map();
  #tid = 0;
  #onNetwork = () => this.#retryNow();

  /** @param {string} url `wss://host/sig/v1/rtc` */
  constructor(url) {
    super();
    this.#url = url;
  }

  get isOpen() {
    return this.#socket?.readyState === WebSocket.OPEN;
  }

  open() {
    globalThis.addEventListener?.("online", this.#onNetwork);
    this.#connect();
  }

  /** @returns {Promise<any>} the answer's `msg`. @throws {SignalingRefusal} @throws Error when the connection is lost meanwhile */
  request(msg) {
    if (!this.isOpen) return Promise.reject(new Error("There is no connection."));
    const tid = (++this.#tid).toString(36);
    const socket = this.#socket;
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => this.#drop(socket, "The gateway does not answer."), ANSWER_TIMEOUT);
      this.#waiting.set(tid, { resolve, reject, timer });
      socket.send(JSON.stringify({ tid, msg }));
    });
  }

  close() {
    globalThis.removeEventListener?.("online", this.#onNetwork);
    clearTimeout(this.#timer);
    const socket = this.#socket;
    this.#socket = undefined;
    socket?.close(1000);
    this.#rejectAll("The connection was closed.");
  }

  #connect() {
    clearTimeout(this.#timer);
    const socket = new WebSocket(this.#url);
    this.#socket = socket;
    this.#timer = setTimeout(() => this.#drop(socket, "No answer."), ANSWER_TIMEOUT);
    socket.addEventListener("open", () => {
      if (this.#socket !== socket) return;
      clearTimeout(this.#timer);
      this.dispatchEvent(new Event("open"));
    });
    socket.addEventListener("message", ({ data }) => this.#socket === socket && this.#receive(data));
    socket.addEventListener("close", ({ reason }) => this.#drop(socket, reason || "The gateway closed the connection."));
  }

  #receive(data) {
    let message;
    try {
      message = Object(JSON.parse(data));
    } catch {
      return; // not of this protocol
    }
    this.#failures = 0;
    const { tid, msg } = message;
    const waiting = tid === undefined || tid === null ? undefined : this.#waiting.get(String(tid));
    const refusal = refusalIn(msg);
    if (waiting !== undefined) {
      this.#waiting.delete(String(tid));
      clearTimeout(waiting.timer);
      if (refusal === undefined) waiting.resolve(msg);
      else waiting.reject(refusal);
    } else if (msg?.action === "notify") this.dispatchEvent(new CustomEvent("notify", { detail: msg }));
  }

  #drop(socket, reason) {
    if (this.#socket !== socket || socket === undefined) return;
    this.#socket = undefined;
    clearTimeout(this.#timer);
    socket.close();
    this.#rejectAll(reason);
    const delay = (BACKOFF[Math.min(this.#failures++, BACKOFF.length - 1)] ?? 0) * (0.9 + Math.random() * 0.2);
    this.#timer = setTimeout(() => this.#connect(), delay);
    this.dispatchEvent(new CustomEvent("lost", { detail: { reason, retryAt: performance.now() + delay } }));
  }

  /** The network is back: what stood over the old one may be dead without anybody having said so. */
  #retryNow() {
    const socket = this.#socket;
    this.#failures = 0;
    if (socket === undefined) this.#connect();
    else this.#drop(socket, "The network has changed.");
  }

  #rejectAll(reason) {
    const all = [...this.#waiting.values()];
    this.#waiting.clear();
    for (const { reject, timer } of all) {
      clearTimeout(timer);
      reject(new Error(reason));
    }
  }
}

/** `{ msg: { action: "error", code, error } }` @returns {SignalingRefusal | undefined} */
function refusalIn(msg) {
  return msg?.action === "error" ? new SignalingRefusal(String(msg.error ?? "The gateway refuses."), msg.code) : undefined;
}
