// A real Chromium, and viewers inside it that tell what was shown when.

import { readFileSync } from "node:fs";
import { join } from "node:path";

import { type Browser, type BrowserContextOptions, chromium, type Page } from "playwright-core";

import { ROOT } from "./gateway-process.js";

/** One picture as it was shown; times on the page's clock in ms. */
export type ShownPicture = {
  readonly shownAt: number;
  readonly expectedAt: number;
  readonly receivedAt: number | undefined;
  readonly rtpTime: number | undefined;
  readonly frameNumber: number | undefined;
  readonly isFlash: boolean;
  readonly width: number;
  readonly height: number;
};

export type Seen = {
  readonly pictures: readonly ShownPicture[];
  readonly beeps: readonly number[];
  readonly times: { readonly posted?: number; readonly answered?: number; readonly connected?: number };
  readonly state: string;
};

/** The numbers of getStats' inbound-rtp that judgements are made of. */
export type InboundStatistics = {
  readonly timestamp: number;
  readonly packetsReceived: number;
  readonly packetsLost: number;
  readonly bytesReceived: number;
  readonly jitter: number;
  readonly jitterBufferDelay: number;
  readonly jitterBufferEmittedCount: number;
  readonly estimatedPlayoutTimestamp?: number;
  readonly framesDecoded: number;
  readonly framesReceived: number;
  readonly framesDropped: number;
  readonly keyFramesDecoded: number;
  readonly freezeCount: number;
  readonly totalFreezesDuration: number;
  readonly pauseCount: number;
  readonly pliCount: number;
  readonly nackCount: number;
  readonly frameWidth: number;
  readonly frameHeight: number;
  readonly concealedSamples: number;
  readonly silentConcealedSamples: number;
  readonly concealmentEvents: number;
  readonly insertedSamplesForDeceleration: number;
  readonly removedSamplesForAcceleration: number;
  readonly totalSamplesReceived: number;
  readonly totalAudioEnergy: number;
  readonly decoderImplementation?: string;
};

export type PairStatistics = { readonly currentRoundTripTime?: number };

export type Statistics = {
  readonly video?: InboundStatistics;
  readonly audio?: InboundStatistics;
  readonly pair?: PairStatistics;
};

const ARGUMENTS = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
  "--autoplay-policy=no-user-gesture-required",
  "--use-fake-ui-for-media-stream",
  "--use-fake-device-for-media-stream",
  "--disable-background-timer-throttling",
  "--disable-renderer-backgrounding",
  "--disable-backgrounding-occluded-windows",
];

export class Chromium {
  readonly #browser: Browser;

  private constructor(browser: Browser) {
    this.#browser = browser;
  }

  /** @param options `more` arguments; `executablePath` default $CHROMIUM, else Debian's */
  static async start(options: { readonly executablePath?: string; readonly more?: readonly string[] } = {}): Promise<Chromium> {
    const executablePath = options.executablePath ?? process.env["CHROMIUM"] ?? "/usr/bin/chromium";
    const args = [...ARGUMENTS, ...(options.more ?? [])];
    return new Chromium(await chromium.launch({ executablePath, headless: true, args }));
  }

  /** Opens a URL as a person would, with the probe beside the page's own script. */
  async open(url: string, viewport = { width: 1280, height: 800 }): Promise<Page> {
    return this.#open(url, { viewport });
  }

  /** Opens a URL for the probe alone, which may do what a content security policy forbids: its audio worklet comes from a blob. */
  async openForProbe(url: string): Promise<Page> {
    return this.#open(url, { bypassCSP: true });
  }

  async #open(url: string, options: BrowserContextOptions): Promise<Page> {
    const page = await this.#browser.newPage({ ignoreHTTPSErrors: true, ...options });
    await page.addInitScript({ content: PROBE });
    await page.goto(url);
    return page;
  }

  async stop(): Promise<void> {
    await this.#browser.close();
  }
}

const PROBE = readFileSync(join(ROOT, "test/support/page-probe.js"), "utf8");
let nextId = 1;

/** A WHEP viewer made by the probe, or an element of the page that the probe watches. */
export class PageViewer {
  readonly #page: Page;
  readonly #id: number;

  private constructor(page: Page) {
    this.#page = page;
    this.#id = nextId++;
  }

  /** @throws Error with status and body when WHEP refuses */
  static async join(page: Page, whepUrl: string): Promise<PageViewer> {
    const viewer = new PageViewer(page);
    await page.evaluate(`__probe.join(${viewer.#id}, ${JSON.stringify(whepUrl)})`);
    return viewer;
  }

  /**
   * A peer connection from the page to itself with a flash and a beep every second as its source.
   *
   * @param isDirect true: the source itself, without a connection, to find out what it and the meter add
   */
  static async loopback(page: Page, isDirect = false): Promise<PageViewer> {
    const viewer = new PageViewer(page);
    await page.evaluate(`__probe.loopback(${viewer.#id}, ${isDirect})`);
    return viewer;
  }

  /** Watches what the page itself plays. @param connection script that gives the RTCPeerConnection */
  static async adopt(page: Page, connection = "__sluice.pc"): Promise<PageViewer> {
    const viewer = new PageViewer(page);
    await page.evaluate(`__probe.adopt(${viewer.#id}, document.querySelector("video"), ${connection})`);
    return viewer;
  }

  /** Lets it hear beeps from now on. */
  async listen(): Promise<void> {
    await this.#page.evaluate(`__probe.listen(${this.#id})`);
  }

  /** What was seen and heard since the last call. */
  async take(): Promise<Seen> {
    return (await this.#page.evaluate(`__probe.take(${this.#id})`)) as Seen;
  }

  async statistics(): Promise<Statistics> {
    return (await this.#page.evaluate(`__probe.statistics(${this.#id})`)) as Statistics;
  }

  async close(): Promise<void> {
    await this.#page.evaluate(`__probe.close(${this.#id})`);
  }
}

/** Beep minus flash on the page in ms, one for each flash that has a beep within half a second. */
export function lipOffsets(seen: Seen): number[] {
  const flashes = seen.pictures.filter((picture, index) => index > 0 && picture.isFlash && !seen.pictures[index - 1]?.isFlash);
  return flashes.flatMap((flash) => {
    const nearest = seen.beeps.reduce(
      (best, beep) => (Math.abs(beep - flash.expectedAt) < Math.abs(best) ? beep - flash.expectedAt : best),
      Number.POSITIVE_INFINITY,
    );
    return Math.abs(nearest) < 500 ? [nearest] : [];
  });
}

/** How much later than `reference` the other showed the same frame numbers, in ms each. */
export function delaysBehind(reference: Seen, other: Seen): number[] {
  return other.pictures.flatMap((picture) => {
    if (picture.frameNumber === undefined) return [];
    const nearest = reference.pictures.reduce((best, candidate) => {
      if (candidate.frameNumber !== picture.frameNumber) return best; // numbers come again when the clip loops
      const delay = picture.shownAt - candidate.shownAt;
      return Math.abs(delay) < Math.abs(best) ? delay : best;
    }, Number.POSITIVE_INFINITY);
    return Math.abs(nearest) < 5000 ? [nearest] : [];
  });
}
