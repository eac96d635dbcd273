// Joins in the middle of a GOP, compared with a viewer in the same page who joined at a key frame.

import type { Page } from "playwright-core";

import { eventually, pause, percentile } from "./child.js";
import { delaysBehind, PageViewer, type Seen } from "./chromium.js";

export type JoinOptions = {
  /** Pictures from one key frame to the next. */
  readonly gopFrames: number;
  /** Pictures of the clip, after which the time code begins anew. */
  readonly clipFrames: number;
  readonly joins: number;
  /** Milliseconds each newcomer is watched. Default 5000. */
  readonly watchMs?: number;
};

export type Join = {
  /** How far into the GOP the newcomer came, in pictures. */
  readonly position: number;
  /** POST to the first picture shown. */
  readonly firstPictureMs: number;
  /**
   * POST to the first picture from which on, for a second, nine of ten pictures are shown within 300 ms of the moment at which the
   * other viewer received them: not of when that one showed them, since its jitter buffer grows and shrinks with the machine's load.
   */
  readonly liveMs: number;
  /** Median delay behind the viewer who joined at a key frame, over the last two seconds. */
  readonly laterDelayMs: number;
  readonly freezes: number;
};

export type JoinReport = { readonly reference: { readonly firstPictureMs: number }; readonly joins: readonly Join[] };

export async function measureJoins(page: Page, whepUrl: string, options: JoinOptions): Promise<JoinReport> {
  const reference = await joinAtKeyFrame(page, whepUrl, options);
  await pause(2500);
  const started = await reference.take();
  const joins: Join[] = [];
  for (let index = 0; index < options.joins; index++) {
    await pause(((index * 1700) % 4000) + 200); // spreads the joins over the GOP
    joins.push(await measureJoin(page, whepUrl, reference, options));
  }
  await reference.close();
  return { reference: { firstPictureMs: firstPicture(started) }, joins };
}

/** A viewer whose connection stands when a key frame arrives, so that nothing cached has to be caught up with. */
export async function joinAtKeyFrame(page: Page, whepUrl: string, options: JoinOptions): Promise<PageViewer> {
  const scout = await PageViewer.join(page, whepUrl);
  const last = await eventually("the scout sees the time code", async () => {
    const { pictures } = await scout.take();
    const { frameNumber } = pictures.at(-1) ?? {};
    return pictures.length > 0 && frameNumber !== undefined ? frameNumber : undefined;
  });
  await pause(1500); // the scout may have to catch up
  const now = (await scout.take()).pictures.at(-1)?.frameNumber ?? last;
  const missing = options.gopFrames - (now % options.gopFrames);
  await scout.close();
  await pause(Math.max(0, missing * 40 - 250)); // ICE and DTLS take about this long; the scout's own delay is in it too
  return PageViewer.join(page, whepUrl);
}

async function measureJoin(page: Page, whepUrl: string, reference: PageViewer, options: JoinOptions): Promise<Join> {
  const before = await reference.take();
  const position = (before.pictures.at(-1)?.frameNumber ?? 0) % options.gopFrames;
  const newcomer = await PageViewer.join(page, whepUrl);
  await pause(options.watchMs ?? 5000);
  const [seen, other] = [await newcomer.take(), await reference.take()];
  const { video } = await newcomer.statistics();
  await newcomer.close();
  const known: Seen = { ...other, pictures: [...before.pictures, ...other.pictures] };
  const posted = seen.times.posted ?? 0;
  const end = seen.pictures.at(-1)?.shownAt ?? 0;
  const late = { ...seen, pictures: seen.pictures.filter((picture) => picture.shownAt > end - 2000) };
  return {
    position,
    firstPictureMs: firstPicture(seen),
    liveMs: liveSince(known, seen) - posted,
    laterDelayMs: percentile(delaysBehind(known, late), 0.5),
    freezes: video?.freezeCount ?? 0,
  };
}

function firstPicture(seen: Seen): number {
  return (seen.pictures[0]?.shownAt ?? Number.NaN) - (seen.times.posted ?? 0);
}

function liveSince(reference: Seen, seen: Seen): number {
  const judged = seen.pictures.flatMap(({ shownAt, frameNumber }) => {
    const received = frameNumber === undefined ? undefined : receivedNear(reference, frameNumber, shownAt);
    return received === undefined ? [] : [{ shownAt, isLate: shownAt - received > LIVE_DELAY }];
  });
  const end = judged.at(-1)?.shownAt ?? 0;
  for (const { shownAt, isLate } of judged) {
    if (isLate || shownAt + 1000 > end) continue;
    const second = judged.filter((picture) => picture.shownAt >= shownAt && picture.shownAt <= shownAt + 1000);
    if (second.filter((picture) => picture.isLate).length * 10 <= second.length) return shownAt;
  }
  return Number.POSITIVE_INFINITY;
}

/** When the viewer received the picture with this number, nearest to a time: numbers come again when the clip loops. */
function receivedNear(viewer: Seen, frameNumber: number, time: number): number | undefined {
  let nearest: number | undefined;
  for (const picture of viewer.pictures) {
    const { receivedAt } = picture;
    if (picture.frameNumber !== frameNumber || receivedAt === undefined) continue;
    if (nearest === undefined || Math.abs(receivedAt - time) < Math.abs(nearest - time)) nearest = receivedAt;
  }
  return nearest;
}

/** Milliseconds from receiving a picture to showing it that still count as live. */
const LIVE_DELAY = 300;
