// What the pages show of RTCPeerConnection.getStats(): a snapshot a second, rates from two of them. Pure.

/**
 * @typedef {object} Snapshot figures of one moment; what a browser does not tell is undefined
 * @property {number} at milliseconds, the report's own time
 * @property {Record<string, number> | undefined} video counters of the video track
 * @property {Record<string, number> | undefined} audio counters of the audio track
 * @property {{ video?: Record<string, number>, audio?: Record<string, number> }} remote what the other side says of what it received
 * @property {{ video?: Record<string, number>, audio?: Record<string, number> }} source camera and microphone
 * @property {Pair | undefined} pair the candidate pair in use
 *
 * @typedef {object} Pair
 * @property {{ address?: string, port?: number, protocol?: string, type?: string } | undefined} local
 * @property {{ address?: string, port?: number, protocol?: string, type?: string } | undefined} remote
 * @property {number | undefined} roundTrip seconds
 * @property {number | undefined} bytesReceived
 * @property {number | undefined} room bits per second that may be sent
 */

const CODEC_NAMES = { "video/h264": "H.264", "video/h265": "H.265", "video/av1": "AV1", "audio/opus": "Opus" };

/** @param {Iterable<[string, any]>} report @returns {Snapshot} */
export function readSnapshot(report) {
  const all = new Map(report);
  const snapshot = { at: 0, video: undefined, audio: undefined, pair: undefined, remote: {}, source: {} };
  let selected;
  for (const entry of all.values()) {
    snapshot.at = Math.max(snapshot.at, entry.timestamp ?? 0);
    if (entry.type === "remote-inbound-rtp") snapshot.remote[entry.kind] = entry;
    if (entry.type === "media-source") snapshot.source[entry.kind] = entry;
    if (entry.type === "inbound-rtp" || entry.type === "outbound-rtp") {
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
      bytesReceived: selected.bytesReceived,
      room: selected.availableOutgoingBitrate,
    };
  }
  return snapshot;
}

/**
 * The figures shown of what is received, from the newest snapshot and the one before.
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
    framesReceivedPerSecond: rate("video", "framesReceived"),
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

/**
 * The figures shown of what is sent, from the newest snapshot and the one before.
 *
 * @param {Snapshot} now
 * @param {Snapshot | undefined} before
 */
export function summariseSent(now, before) {
  const seconds = before === undefined ? 0 : (now.at - before.at) / 1000;
  const { video, audio, remote, source } = now;
  const rate = (kind, key) =>
    seconds > 0 && now[kind] && before[kind] ? Math.max(0, now[kind][key] - before[kind][key]) / seconds : undefined;
  const bits = [rate("video", "bytesSent"), rate("audio", "bytesSent")].filter((value) => value !== undefined);
  const both = [remote.video, remote.audio].filter((report) => report !== undefined);
  return {
    width: video?.frameWidth,
    height: video?.frameHeight,
    framesPerSecond: rate("video", "framesEncoded") ?? video?.framesPerSecond,
    captured: source.video?.framesPerSecond,
    bitrate: bits.length > 0 ? bits.reduce((sum, value) => sum + value * 8, 0) : undefined,
    room: now.pair?.room,
    roundTrip: remote.video?.roundTripTime ?? remote.audio?.roundTripTime ?? now.pair?.roundTrip,
    loss: both.length > 0 ? Math.max(...both.map(({ fractionLost = 0 }) => fractionLost)) : undefined,
    lost: both.reduce((sum, { packetsLost = 0 }) => sum + packetsLost, 0),
    resent: (video?.retransmittedPacketsSent ?? 0) + (audio?.retransmittedPacketsSent ?? 0),
    keyFrameRequests: video?.pliCount,
    keyFrames: video?.keyFramesEncoded,
    framesEncoded: video?.framesEncoded,
    limitation: video?.qualityLimitationReason,
    encoder: video?.encoderImplementation,
    audioLevel: source.audio?.audioLevel,
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
