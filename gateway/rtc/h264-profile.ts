// Which offered H.264 payload type fits a stream: profile-level-id and packetization-mode (RFC 6184 section 8.1, table 5).

import type { OfferedCodec } from "./sdp.js";

/** The payload type to send the stream on, or undefined when none can carry fragmented pictures (packetization-mode 1). */
export function chooseH264(codecs: readonly OfferedCodec[], streamProfileLevelId: string | undefined): OfferedCodec | undefined {
  const wanted = rankOf(streamProfileLevelId ?? CONSTRAINED_BASELINE_31);
  let best: OfferedCodec | undefined;
  let bestDistance = Number.POSITIVE_INFINITY;
  for (const codec of codecs) {
    if (codec.name !== "h264" || codec.parameters.get("packetization-mode") !== "1") continue;
    const offered = rankOf(codec.parameters.get("profile-level-id") ?? BASELINE_1);
    // The same profile; else the nearest that contains it; else the best there is: decoders do more than they say. The rare
    // ones (4:4:4) come last: they may lead to another, slower decoder.
    let distance = offered >= wanted ? offered - wanted : PROFILE_COUNT + wanted - offered;
    if (offered === RARE_PROFILE && offered !== wanted) distance += 2 * PROFILE_COUNT;
    if (distance < bestDistance) {
      best = codec;
      bestDistance = distance;
    }
  }
  return best;
}

/**
 * Format parameters of the answer. The profile stays the offered one (a browser drops a payload type whose profile changed),
 * the level is the stream's where the offer allows levels to differ (RFC 6184 section 8.2.2).
 */
export function h264AnswerParameters(offered: OfferedCodec, streamProfileLevelId: string | undefined): string {
  const asymmetry = offered.parameters.get("level-asymmetry-allowed") === "1";
  const profileLevelId = offered.parameters.get("profile-level-id");
  const parts = asymmetry ? ["level-asymmetry-allowed=1"] : [];
  parts.push(`packetization-mode=${offered.parameters.get("packetization-mode") === "1" ? 1 : 0}`);
  if (profileLevelId !== undefined && PROFILE_LEVEL_ID.test(profileLevelId)) {
    const known = streamProfileLevelId !== undefined && PROFILE_LEVEL_ID.test(streamProfileLevelId);
    const level = asymmetry && known ? streamProfileLevelId.slice(4) : profileLevelId.slice(4);
    parts.push(`profile-level-id=${(profileLevelId.slice(0, 4) + level).toLowerCase()}`);
  }
  return parts.join(";");
}

/** Profiles in an order in which each contains, as far as live encoders go, those before it. */
function rankOf(profileLevelId: string): number {
  if (!PROFILE_LEVEL_ID.test(profileLevelId)) return rankOf(BASELINE_1);
  const profile = Number.parseInt(profileLevelId.slice(0, 2), 16);
  const constraints = Number.parseInt(profileLevelId.slice(2, 4), 16);
  if (profile === 0x42) return constraints & 0x40 ? 0 : 1; // constraint_set1_flag: Constrained Baseline
  if (profile === 0x4d) return constraints & 0x80 ? 0 : 2; // constraint_set0_flag: decodable as Constrained Baseline
  if (profile === 0x58) return (constraints & 0xc0) === 0xc0 ? 0 : 2;
  if (profile === 0x64) return (constraints & 0x0c) === 0x0c ? 3 : 4; // constraint_set4 and 5: Constrained High
  return RARE_PROFILE; // High 10, 4:2:2, 4:4:4 Predictive
}

const PROFILE_LEVEL_ID = /^[0-9a-fA-F]{6}$/;
const CONSTRAINED_BASELINE_31 = "42e01f";
const BASELINE_1 = "42000a"; // what an absent parameter means
const RARE_PROFILE = 5;
const PROFILE_COUNT = RARE_PROFILE + 1;
