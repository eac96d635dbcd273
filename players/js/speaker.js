// Who is speaking: the loudest for a while, not whoever coughs.

/** Linear audio levels (0 to 1) below this are a quiet room. */
const QUIET = 0.015;
/** Milliseconds that a speaker stays marked while silent, and that another one must be louder to take over. */
const HOLD = 1_500;
const TAKE_OVER = 400;

/** Pure: levels in, the speaker's key out. */
export class SpeakerChoice {
  /** @type {string | undefined} */
  speaker;
  #heardAt = Number.NEGATIVE_INFINITY;
  #rival;
  #rivalSince = 0;

  /** @param {number} now milliseconds @param {Map<string, number>} levels @returns {string | undefined} */
  choose(now, levels) {
    let loudest;
    let most = QUIET;
    for (const [key, level] of levels) {
      if (level <= most) continue;
      most = level;
      loudest = key;
    }
    if (this.speaker !== undefined && (levels.get(this.speaker) ?? 0) > QUIET) this.#heardAt = now;
    const isFree = this.speaker === undefined || now - this.#heardAt > HOLD || !levels.has(this.speaker);
    if (loudest !== this.#rival) this.#rivalSince = now;
    this.#rival = loudest;
    if (isFree) this.#take(loudest, now);
    else if (loudest !== undefined && loudest !== this.speaker && now - this.#rivalSince >= TAKE_OVER) this.#take(loudest, now);
    return this.speaker;
  }

  #take(key, now) {
    this.speaker = key;
    this.#heardAt = now;
  }
}

/**
 * The level of the sound that a connection receives: of its newest packet where the sender tells (RFC 6464), else of what is played.
 *
 * @param {RTCPeerConnection | undefined} pc
 * @returns {Promise<number>} 0 to 1
 */
export async function receivedLevel(pc) {
  const receiver = pc?.getReceivers().find(({ track }) => track.kind === "audio");
  if (receiver === undefined) return 0;
  const [source] = receiver.getSynchronizationSources?.() ?? [];
  if (source === undefined) return 0; // nothing has come for ten seconds
  if (source.audioLevel !== undefined && source.audioLevel !== null) return source.audioLevel;
  return await levelIn(receiver, "inbound-rtp");
}

/** The level of the sound that is sent. @param {RTCPeerConnection | undefined} pc */
export async function sentLevel(pc) {
  const sender = pc?.getSenders().find(({ track }) => track?.kind === "audio");
  if (sender?.track?.enabled !== true) return 0;
  return await levelIn(sender, "media-source");
}

async function levelIn(end, type) {
  for (const entry of (await end.getStats()).values()) if (entry.type === type && entry.audioLevel > 0) return entry.audioLevel;
  return 0;
}
