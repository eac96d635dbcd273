// What the pages show of RTCPeerConnection.getStats(): a snapshot a second, rates from two of them. Pure.

/**
 * @typedef {object} Snapshot figures of one moment; what a browser does not tell is undefined
 * @property {number} at milliseconds, the report's own time
 * @property {Record<string, number> | undefined} video counters of the video track
 * @property {Record<string, number> | undefined} audio counters of the audio track
 * @property {object | undefined} pair the candidate pair in use
 */

const CODEC_NAMES = { "video/h264": "H.264", "video/h265": "H.265", "audio/opus": "Opus" };

/** @param {Iterable<[string, any]>} report @returns {Snapshot} */
export function readSnapshot(report) {
  const all = new Map(report);
  const snapshot = { at: 0, video: undefined, audio: undefined, pair: undefined };
  let selected;
  for (const entry of all.values()) {
    snapshot.at = Math.max(snapshot.at, entry.timestamp ?? 0);
    if (entry.type === "inbound-rtp") {
      const codec = all.get(entry.codecId);
      snapshot[entry.kind] = {
        ...entry,
        codec: CODEC_NAMES[codec?.mimeType?.toLowerCase()] ?? codec?.mimeType?.split("/")[1],
        format: codec?.sdpFmtpLine,
      };
    }
    if (entry.type === "transport") selected = all.get(entry.selectedCandidatePairId) ?? selected;
    if (entry.type === "candidate-pair" && entry.selected) selected ??= entry; // Firefox has no transport entry
  }
  if (selected !== undefined) {
    const side = (id) => {
      const candidate = all.get(id);
      return (
        candidate && {
          address: candidate.address,
          port: candidate.port,
          protocol: candidate.protocol,
          type: candidate.candidateType,
        }
      );
    };
    snapshot.pair = {
      local: side(selected.localCandidateId),
      remote: side(selected.remoteCandidateId),
      roundTrip: selected.currentRoundTripTime,
    };
  }
  return snapshot;
}

/**
 * The figures shown, from the newest snapshot and the one before.
 *
 * @param {Snapshot} now
 * @param {Snapshot | undefined} before
 */
export function summarise(now, before) {
  const seconds = before === undefined ? 0 : (now.at - before.at) / 1000;
  const { video, audio } = now;
  const rate = (kind, key) =>
    seconds > 0 && now[kind] && before[kind] ? Math.max(0, now[kind][key] - before[kind][key]) / seconds : undefined;
  const bits = [rate("video", "bytesReceived"), rate("audio", "bytesReceived")].filter((value) => value !== undefined);
  return {
    width: video?.frameWidth,
    height: video?.frameHeight,
    framesPerSecond: rate("video", "framesDecoded") ?? video?.framesPerSecond,
    bitrate: bits.length > 0 ? bits.reduce((sum, value) => sum + value * 8, 0) : undefined,
    roundTrip: now.pair?.roundTrip,
    loss: lossOf(now, before),
    lost: (video?.packetsLost ?? 0) + (audio?.packetsLost ?? 0),
    jitterBuffer: bufferDelay(video, before?.video) ?? bufferDelay(audio, before?.audio),
    freezes: video?.freezeCount,
    framesDecoded: video?.framesDecoded,
    framesDropped: video?.framesDropped,
    audioLevel: audio?.audioLevel,
    lips: lipsOffset(video, audio),
    codecs: [video?.codec, audio?.codec].filter((codec) => codec !== undefined).join(" + ") || undefined,
    pair: now.pair,
  };
}

/** Share of packets lost since the last snapshot, 0 to 1. */
function lossOf(now, before) {
  let lost = 0;
  let received = 0;
  for (const kind of ["video", "audio"]) {
    if (!now[kind]) continue;
    lost += now[kind].packetsLost - (before?.[kind]?.packetsLost ?? 0);
    received += now[kind].packetsReceived - (before?.[kind]?.packetsReceived ?? 0);
  }
  return lost + received > 0 ? Math.max(0, lost) / (Math.max(0, lost) + received) : undefined;
}

/** Seconds that what was played in the last second had waited in the jitter buffer. */
function bufferDelay(track, before) {
  if (!track) return undefined;
  const emitted = track.jitterBufferEmittedCount - (before?.jitterBufferEmittedCount ?? 0);
  return emitted > 0 ? (track.jitterBufferDelay - (before?.jitterBufferDelay ?? 0)) / emitted : undefined;
}

/** Milliseconds by which sound is ahead of the picture, both by the sender's clock; undefined until both have sender reports. */
function lipsOffset(video, audio) {
  if (!video?.estimatedPlayoutTimestamp || !audio?.estimatedPlayoutTimestamp) return undefined;
  return audio.estimatedPlayoutTimestamp - video.estimatedPlayoutTimestamp;
}
