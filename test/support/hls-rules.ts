// The rules of media playlists (RFC 8216 and draft-pantos-hls-rfc8216bis), written down apart from what writes them: of one version, and of
// one version after another.

export type ListedPart = { readonly uri: string; readonly duration: number; readonly isIndependent: boolean };

export type ListedSegment = {
  /** undefined: it is not complete. */
  readonly uri: string | undefined;
  readonly duration: number | undefined;
  readonly sequence: number;
  /** Discontinuity Sequence Number. */
  readonly discontinuity: number;
  readonly map: string | undefined;
  readonly key: string | undefined;
  /** Milliseconds since 1970. */
  readonly dateTime: number | undefined;
  readonly parts: readonly ListedPart[];
};

export type Listed = {
  readonly targetDuration: number;
  readonly partTarget: number | undefined;
  readonly serverControl: ReadonlyMap<string, string>;
  readonly mediaSequence: number;
  readonly discontinuitySequence: number;
  readonly isIndependent: boolean;
  readonly isEnded: boolean;
  readonly skipped: number;
  readonly preloadHint: string | undefined;
  /** Those after the skipped ones. */
  readonly segments: readonly ListedSegment[];
};

/** Reads a media playlist. @throws Error naming the rule that is broken */
export function readPlaylist(text: string): Listed {
  const lines = text.split("\n");
  must(lines[0] === "#EXTM3U", "section 4.4.1.1: EXTM3U is the first line");
  must(text.endsWith("\n") && !text.includes("\r"), "lines end");
  const once = (tag: string): string | undefined => {
    const found = lines.filter((line) => line === `#${tag}` || line.startsWith(`#${tag}:`));
    must(found.length <= 1, `${tag} stands there ${found.length} times`);
    return found[0]?.slice(tag.length + 2);
  };
  const version = Number(once("EXT-X-VERSION") ?? 1);
  const targetDuration = Number(once("EXT-X-TARGETDURATION"));
  must(Number.isInteger(targetDuration) && targetDuration > 0, "section 4.4.3.1: TARGETDURATION is a whole number");
  const mediaSequence = Number(once("EXT-X-MEDIA-SEQUENCE") ?? 0);
  const discontinuitySequence = Number(once("EXT-X-DISCONTINUITY-SEQUENCE") ?? 0);
  const partInf = once("EXT-X-PART-INF");
  const partTarget = partInf === undefined ? undefined : Number(attributes(partInf).get("PART-TARGET"));
  const serverControl = attributes(once("EXT-X-SERVER-CONTROL") ?? "");
  const skipped = Number(attributes(once("EXT-X-SKIP") ?? "").get("SKIPPED-SEGMENTS") ?? 0);
  must(skipped === 0 || version >= 9, "section 8: EXT-X-SKIP needs version 9");
  once("EXT-X-INDEPENDENT-SEGMENTS");
  once("EXT-X-ENDLIST");
  const isEnded = lines.includes("#EXT-X-ENDLIST");

  const segments: ListedSegment[] = [];
  let sequence = mediaSequence + skipped;
  let discontinuity = discontinuitySequence;
  let [map, key, dateTime, duration]: [string | undefined, string | undefined, number | undefined, number | undefined] = [
    undefined,
    undefined,
    undefined,
    undefined,
  ];
  let parts: ListedPart[] = [];
  let hint: string | undefined;
  const push = (uri: string | undefined): void => {
    segments.push({ uri, duration, sequence: sequence++, discontinuity, map, key, dateTime, parts });
    [duration, dateTime, parts] = [undefined, undefined, []];
  };
  for (const line of lines) {
    const [, tag = "", value = ""] = /^#(EXT[^:]*)(?::(.*))?$/.exec(line) ?? [];
    if (line !== "" && !line.startsWith("#")) {
      must(duration !== undefined, "section 4.4.4.1: EXTINF stands before each segment");
      push(line);
    } else if (tag === "EXTINF") {
      duration = Number(/^([\d.]+),$/.exec(value)?.[1]);
      must(
        Math.round(duration) <= targetDuration,
        `section 4.4.3.1: ${duration} s are more than TARGETDURATION ${targetDuration}`,
      );
      must(version >= 3, "section 8: a fraction needs version 3");
    } else if (tag === "EXT-X-DISCONTINUITY") {
      must(parts.length === 0, "section 4.4.4.3: DISCONTINUITY stands before the parts");
      discontinuity++;
    } else if (tag === "EXT-X-MAP") {
      must(parts.length === 0, "MAP stands before the parts");
      must(version >= 6, "section 8: MAP needs version 6");
      must(key === undefined, "section 4.4.4.5: a key would hold for the initialization section");
      map = attributes(value).get("URI");
    } else if (tag === "EXT-X-KEY") {
      must(parts.length === 0, "KEY stands before the parts");
      key = attributes(value).get("METHOD") === "NONE" ? undefined : value;
    } else if (tag === "EXT-X-PROGRAM-DATE-TIME") {
      dateTime = Date.parse(value);
      must(Number.isFinite(dateTime), `no time: ${value}`);
    } else if (tag === "EXT-X-PART") {
      const part = attributes(value);
      const length = Number(part.get("DURATION"));
      must(partTarget !== undefined && length <= partTarget, `section 4.4.4.9: a part of ${length} s, PART-TARGET ${partTarget}`);
      must(hint === undefined, "the hint is for what comes after all parts");
      parts.push({ uri: part.get("URI") ?? "", duration: length, isIndependent: part.get("INDEPENDENT") === "YES" });
    } else if (tag === "EXT-X-PRELOAD-HINT") {
      const attribute = attributes(value);
      must(attribute.get("TYPE") === "PART", "a hint of a part");
      hint = attribute.get("URI");
    }
  }
  if (parts.length > 0) push(undefined);
  const isIndependent = lines.includes("#EXT-X-INDEPENDENT-SEGMENTS");
  const listed = { targetDuration, partTarget, serverControl, mediaSequence, discontinuitySequence, isIndependent, isEnded };
  const found: Listed = { ...listed, skipped, preloadHint: hint, segments };
  checkLowLatency(found);
  return found;
}

function checkLowLatency({ segments, partTarget, serverControl, targetDuration, preloadHint, isEnded }: Listed): void {
  const hasParts = segments.some(({ parts }) => parts.length > 0);
  if (hasParts && !isEnded) must(preloadHint !== undefined, "section 4.4.5.3: where parts are listed the next one is named");
  if (partTarget !== undefined) {
    const holdBack = Number(serverControl.get("PART-HOLD-BACK"));
    must(holdBack >= 3 * partTarget, `section 4.4.3.8: PART-HOLD-BACK ${holdBack} is under three parts`);
    must(serverControl.get("CAN-BLOCK-RELOAD") === "YES", "section 4.4.3.7: low latency needs blocking reloads");
  }
  const until = serverControl.get("CAN-SKIP-UNTIL");
  if (until !== undefined) must(Number(until) >= 6 * targetDuration, "section 4.4.3.8: CAN-SKIP-UNTIL is six target durations");
  for (const { parts, duration, uri } of segments) {
    for (const [index, part] of parts.entries()) {
      const mayBeShort = part.isIndependent || (index === parts.length - 1 && uri !== undefined);
      if (!mayBeShort)
        must(part.duration >= 0.85 * (partTarget ?? 0), `section 4.4.4.9: a part of ${part.duration} s is too short`);
    }
    if (duration === undefined || parts.length === 0) continue;
    const sum = parts.reduce((total, part) => total + part.duration, 0);
    must(Math.abs(sum - duration) < 0.001, `the parts last ${sum} s and their segment ${duration} s`);
  }
  let left = 0;
  for (const { parts, duration } of [...segments].reverse()) {
    if (parts.length > 0)
      must(left <= 3 * targetDuration, "section 6.2.2: parts older than three target durations are not listed");
    left += duration ?? 0;
  }
}

/** Follows a playlist over its versions, as a client that has seen them all. */
export class PlaylistFollower {
  versions = 0;
  #last: Listed | undefined;
  /** Segments ever listed, by sequence number. */
  readonly segments = new Map<number, ListedSegment>();

  /** @throws Error naming the rule that is broken */
  push(text: string): Listed {
    const listed = readPlaylist(text);
    must(listed.skipped === 0, "a whole playlist");
    const last = this.#last;
    if (last !== undefined) this.#compare(last, listed);
    for (const segment of listed.segments) this.#remember(segment);
    this.#checkOrder(listed);
    this.#last = listed;
    this.versions++;
    return listed;
  }

  /** A delta update says the same as the whole playlist it belongs to, with what is skipped from the version before. */
  pushDelta(delta: string, whole: string): Listed {
    const [short, long] = [readPlaylist(delta), readPlaylist(whole)];
    const rest = long.segments.slice(short.skipped);
    must(
      JSON.stringify(short.segments.map(withoutContext)) === JSON.stringify(rest.map(withoutContext)),
      "a delta update and its whole differ",
    );
    must(short.mediaSequence === long.mediaSequence, "MEDIA-SEQUENCE of a delta update is that of the whole");
    const until = Number(long.serverControl.get("CAN-SKIP-UNTIL") ?? Number.POSITIVE_INFINITY);
    const kept = rest.reduce((sum, segment) => sum + lengthOf(segment), 0);
    if (short.skipped > 0) must(kept >= until - 0.001, `section 6.2.5.1: ${kept} s are left, CAN-SKIP-UNTIL is ${until}`);
    return short;
  }

  #compare(last: Listed, now: Listed): void {
    must(!last.isEnded, "section 6.2.1: nothing follows an ENDLIST");
    must(now.targetDuration === last.targetDuration, "section 6.2.1: TARGETDURATION does not change");
    must(now.mediaSequence >= last.mediaSequence, "MEDIA-SEQUENCE went back");
    const removed = last.segments.filter(({ sequence }) => sequence < now.mediaSequence);
    must(removed.length === now.mediaSequence - last.mediaSequence, "section 6.2.2: only what was listed can go");
    if (removed.length > 0) {
      const left = now.segments.reduce((sum, segment) => sum + (segment.duration ?? 0), 0);
      must(left >= 3 * now.targetDuration, "section 6.2.2: a playlist that loses segments has three target durations left");
    }
    const newest = (listed: Listed): number => listed.segments.at(-1)?.sequence ?? -1;
    must(newest(now) >= newest(last), "segments at the end have gone");
    must(newest(now) - newest(last) <= 2, "no version is left out");
    must(now.discontinuitySequence >= last.discontinuitySequence, "DISCONTINUITY-SEQUENCE went back");
    const [was, is] = [last.partTarget ?? 0, now.partTarget ?? 0];
    must(was === is || last.segments.length === 0, `PART-TARGET was ${was} and is ${is}`);
  }

  /** What was said of a segment stays true. */
  #remember(segment: ListedSegment): void {
    const known = this.segments.get(segment.sequence);
    if (known !== undefined) {
      must(
        known.uri === undefined || known.uri === segment.uri,
        `section 6.2.1: segment ${segment.sequence} has another address`,
      );
      must(
        known.duration === undefined || known.duration === segment.duration,
        `segment ${segment.sequence} has another duration`,
      );
      must(
        known.discontinuity === segment.discontinuity,
        `segment ${segment.sequence} has another discontinuity sequence number`,
      );
      must(known.map === segment.map, `segment ${segment.sequence} has another initialization section`);
      must(known.dateTime === segment.dateTime, `segment ${segment.sequence} has another time`);
      const both = Math.min(known.parts.length, segment.parts.length);
      const [old, now] = [known.parts.slice(0, both), segment.parts.slice(0, both)];
      must(JSON.stringify(old) === JSON.stringify(now), `segment ${segment.sequence} has other parts`);
      if (segment.parts.length < known.parts.length) must(segment.parts.length === 0, "parts go together");
    }
    this.segments.set(
      segment.sequence,
      segment.parts.length === 0 && known !== undefined ? { ...segment, parts: known.parts } : segment,
    );
  }

  #checkOrder({ segments }: Listed): void {
    for (const [index, segment] of segments.entries()) {
      const before = segments[index - 1];
      if (before === undefined) continue;
      const isSameRun = before.discontinuity === segment.discontinuity;
      must(isSameRun || segment.discontinuity === before.discontinuity + 1, "discontinuities are counted one by one");
      must(!isSameRun || before.map === segment.map, "another initialization section needs a discontinuity");
      if (segment.dateTime === undefined || before.dateTime === undefined) continue;
      const step = segment.dateTime - before.dateTime;
      must(step > 0, "time went back");
      if (isSameRun)
        must(Math.abs(step - lengthOf(before) * 1000) <= 2, `${step} ms from one segment to the next of ${lengthOf(before)} s`);
    }
  }
}

function lengthOf({ duration, parts }: ListedSegment): number {
  return duration ?? parts.reduce((sum, part) => sum + part.duration, 0);
}

/** What is known of a segment from its own lines. */
function withoutContext({ uri, duration, dateTime, parts, sequence }: ListedSegment): object {
  return { uri, duration, dateTime, parts, sequence };
}

/** An attribute list, section 4.2. */
export function attributes(text: string): ReadonlyMap<string, string> {
  const found = new Map<string, string>();
  for (const [, name = "", quoted, plain] of text.matchAll(/([A-Z0-9-]+)=(?:"([^"\n]*)"|([^,"\s]*))(?:,|$)/g)) {
    must(!found.has(name), `attribute ${name} stands there twice`);
    found.set(name, quoted ?? plain ?? "");
  }
  return found;
}

function must(condition: boolean, rule: string): asserts condition {
  if (!condition) throw new Error(`playlist: ${rule}`);
}
