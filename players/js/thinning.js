// Whether a viewer gets fewer pictures than its publisher sends, and where they are lost. Pure.

/** A share of the pictures below this, for this many seconds in a row, is worth words. */
const SHARE = 0.6;
const SECONDS = 3;

export class ThinWatch {
  /** undefined: all is well. `path`: the gateway leaves out what the network between here and there does not carry. `here`: this computer. @type {"path" | "here" | undefined} */
  cause;
  /** Pictures a second, shown and sent. */
  shown = 0;
  sent = 0;
  #seconds = 0;
  #candidate;

  /** Once a second. @param {number | undefined} received pictures a second that arrived @param {number | undefined} decoded @param {number | undefined} sent what the publisher says it sends */
  note(received, decoded, sent) {
    if (received === undefined || decoded === undefined || !(sent >= 5)) {
      this.cause = this.#candidate = undefined;
      this.#seconds = 0;
      return;
    }
    this.shown = Math.round(Math.min(received, decoded));
    this.sent = Math.round(sent);
    const cause = received < SHARE * sent ? "path" : decoded < SHARE * sent ? "here" : undefined;
    if (cause !== this.#candidate) this.#seconds = 0;
    this.#candidate = cause;
    this.#seconds++;
    if (this.#seconds >= SECONDS) this.cause = cause;
  }
}
