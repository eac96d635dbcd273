// A process with one WHIP publisher of a native stack, started by native-publisher.ts: a bug in the stack may end its process.
//
//   node publisher-child.js libdatachannel|werift URL CLIP ssrc|no-ssrc [udp|tcp|any]

import { Audio, PeerConnection, Video } from "node-datachannel";
import { MediaStreamTrack, RTCPeerConnection, RTCRtpCodecParameters } from "werift";

import { CLIP_AUDIO, CLIP_VIDEO, RtpClip } from "./rtp-clip.js";
import { postOffer, withTransport } from "./viewer-session.js";

type Send = (kind: "audio" | "video", packet: Buffer) => void;

const H264 = "profile-level-id=42e01f;packetization-mode=1;level-asymmetry-allowed=1";
const keep: unknown[] = []; // garbage collection would close what nobody refers to

async function libdatachannel(
  url: string,
  names: "ssrc" | "no-ssrc",
  transport: "udp" | "tcp" | "any" | undefined,
): Promise<Send> {
  const connection = new PeerConnection("publisher", {
    iceServers: [],
    disableAutoNegotiation: true,
    enableIceTcp: transport !== undefined,
  });
  const video = new Video("video", "SendOnly");
  video.addH264Codec(CLIP_VIDEO.payloadType, H264);
  const audio = new Audio("audio", "SendOnly");
  audio.addOpusCodec(CLIP_AUDIO.payloadType);
  if (names === "ssrc") {
    video.addSSRC(CLIP_VIDEO.ssrc, "clip"); // without msid
    audio.addSSRC(CLIP_AUDIO.ssrc, "clip");
  }
  const tracks = { video: connection.addTrack(video), audio: connection.addTrack(audio) };
  keep.push(connection, tracks);
  tracks.video.onMessage((bytes) => {
    if (bytes[1] === 206) console.log("asked for a key frame");
  });
  const gathered = new Promise<void>((resolve) => {
    connection.onGatheringStateChange((state) => {
      if (state === "complete") resolve();
    });
  });
  const connected = new Promise<void>((resolve) => {
    connection.onStateChange((state) => {
      console.log(`state ${state}`);
      if (state === "connected") resolve();
    });
  });
  connection.setLocalDescription("offer");
  await gathered;
  const answer = await postOffer(url, connection.localDescription()?.sdp ?? "", {});
  console.log(`resource ${answer.resource}`);
  connection.setRemoteDescription(withTransport(answer.sdp, transport), "answer");
  await connected;
  return (kind, packet) => {
    if (tracks[kind].isOpen()) tracks[kind].sendMessageBinary(packet);
  };
}

async function werift(url: string): Promise<Send> {
  const connection = new RTCPeerConnection({
    iceServers: [],
    iceAdditionalHostAddresses: ["127.0.0.1"],
    codecs: {
      video: [
        new RTCRtpCodecParameters({
          mimeType: "video/h264",
          clockRate: 90_000,
          payloadType: CLIP_VIDEO.payloadType,
          parameters: H264,
          rtcpFeedback: [{ type: "nack" }, { type: "nack", parameter: "pli" }],
        }),
      ],
      audio: [
        new RTCRtpCodecParameters({
          mimeType: "audio/opus",
          clockRate: 48_000,
          channels: 2,
          payloadType: CLIP_AUDIO.payloadType,
        }),
      ],
    },
  });
  const tracks = { video: new MediaStreamTrack({ kind: "video" }), audio: new MediaStreamTrack({ kind: "audio" }) };
  keep.push(connection, tracks);
  for (const kind of ["audio", "video"] as const) connection.addTransceiver(tracks[kind], { direction: "sendonly" });
  const connected = new Promise<void>((resolve) => {
    connection.connectionStateChange.subscribe((state) => {
      console.log(`state ${state}`);
      if (state === "connected") resolve();
    });
  });
  await connection.setLocalDescription(await connection.createOffer());
  const answer = await postOffer(url, connection.localDescription?.sdp ?? "", {});
  console.log(`resource ${answer.resource}`);
  await connection.setRemoteDescription({ type: "answer", sdp: answer.sdp });
  await connected;
  return (kind, packet) => {
    const type = packet[1] ?? 0;
    if (type < 192 || type > 223) tracks[kind].writeRtp(packet); // it makes reports of its own
  };
}

process.once("SIGTERM", () => process.exit(0)); // on exit its own child is ended
const parent = process.ppid;
setInterval(() => {
  if (process.ppid !== parent) process.exit(0); // the test has gone
}, 1000);

const [stack, url = "", clip = "", names, only] = process.argv.slice(2);
const transport = only === "udp" || only === "tcp" || only === "any" ? only : undefined;
const send = await (stack === "werift" ? werift(url) : libdatachannel(url, names === "ssrc" ? "ssrc" : "no-ssrc", transport));
keep.push(await RtpClip.start(clip, send));
console.log("publishing");
