// onMetaData of RTMP and FLV, as far as it is believed.

/** Whether it holds `audiocodecid` or `videocodecid` with a value; 0 is how some encoders say that there is none. */
export function announcesTrack(metadata: Buffer, kind: "audio" | "video"): boolean {
  const key = `${kind}codecid`;
  const at = metadata.indexOf(key, 0, "latin1");
  if (at < 0) return false;
  const value = at + key.length;
  if (metadata[value] !== 0 || value + 9 > metadata.length) return true; // no AMF0 number
  return metadata.readDoubleBE(value + 1) !== 0;
}
