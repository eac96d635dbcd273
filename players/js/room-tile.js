// One person of a room on the page: picture, name, and what there is to say about them. Names are only ever text.

import { setText } from "./page-parts.js";

const template = document.getElementById("tile");

export class Tile {
  /** @type {HTMLElement} */
  element = template.content.firstElementChild.cloneNode(true);
  #parts = {
    words: this.element.querySelector(".tile-words"),
    remark: this.element.querySelector(".tile-remark"),
    cover: this.element.querySelector(".tile-cover"),
    muted: this.element.querySelector(".tile-muted"),
  };
  /** @type {HTMLVideoElement} */
  video = this.element.querySelector("video");

  /** @param {string} name @param {"self" | "other"} who */
  constructor(name, who) {
    const shown = who === "self" ? `${name} (you)` : name;
    setText(this.element.querySelector(".tile-name"), shown);
    setText(this.element.querySelector(".avatar"), initialOf(name));
    this.element.dataset.who = who;
    this.element.setAttribute("aria-label", shown);
    this.video.muted = who === "self";
    this.element.style.setProperty("--hue", String(hueOf(name)));
  }

  /**
   * @param {object} look
   * @param {boolean} look.isCovered there is no picture to show
   * @param {string} [look.words] why not
   * @param {boolean} look.isSilent the microphone is off
   * @param {boolean} look.isScreen the whole picture matters, not its middle
   * @param {string} [look.remark] something about the picture
   */
  show({ isCovered, words = "", isSilent, isScreen, remark }) {
    this.#parts.cover.hidden = !isCovered;
    setText(this.#parts.words, words);
    this.#parts.muted.toggleAttribute("hidden", !isSilent); // an SVG has no `hidden` of its own
    this.element.classList.toggle("screen", isScreen);
    this.#parts.remark.hidden = remark === undefined;
    setText(this.#parts.remark, remark ?? "");
  }

  set isSpeaking(isSpeaking) {
    this.element.classList.toggle("speaking", isSpeaking);
  }
}

function initialOf(name) {
  return (/[\p{L}\p{N}]/u.exec(name)?.[0] ?? "?").toLocaleUpperCase();
}

/** A colour of its own for everybody, the same on all pages. */
function hueOf(name) {
  let sum = 0;
  for (const letter of name) sum = (sum * 31 + (letter.codePointAt(0) ?? 0)) % 360;
  return sum;
}
