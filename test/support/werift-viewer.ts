// A WHEP viewer on werift, an independent stack in TypeScript.

import { RTCPeerConnection, RTCRtpCodecParameters, RtcpSrPacket } from "werift";

import { monotonicNow } from "./rtp-reader.js";
import { Receiver } from "./tally.js";
import { postOffer, type ViewerSession, type ViewerTimes } from "./viewer-session.js";

export class WeriftViewer implements ViewerSession {
  readonly receiver: Receiver;
  readonly times: ViewerTimes = {};
  readonly #connection: RTCPeerConnection;
  resource: string | undefined;

  constructor(keep: boolean) {
    this.receiver = new Receiver(keep);
    this.#connection = new RTCPeerConnection({
      iceServers: [],
      iceAdditionalHostAddresses: ["127.0.0.1"],
      codecs: {
        video: [
          new RTCRtpCodecParameters({
            mimeType: "video/h264",
            clockRate: 90_000,
            payloadType: 102,
            parameters: "profile-level-id=42e01f;packetization-mode=1;level-asymmetry-allowed=1",
            rtcpFeedback: [{ type: "nack" }, { type: "nack", parameter: "pli" }],
          }),
        ],
        audio: [new RTCRtpCodecParameters({ mimeType: "audio/opus", clockRate: 48_000, channels: 2, payloadType: 111 })],
      },
    });
    this.#connection.connectionStateChange.subscribe((state) => {
      if (state === "connected") this.times.connected ??= monotonicNow();
    });
    this.#connection.onRemoteTransceiverAdded.subscribe(() => {});
    for (const kind of ["video", "audio"] as const) {
      const transceiver = this.#connection.addTransceiver(kind, { direction: "recvonly" });
      transceiver.onTrack.subscribe((track) => {
        track.onReceiveRtp.subscribe((rtp) => {
          const { header, payload } = rtp;
          const { marker, payloadType, sequenceNumber, timestamp, ssrc } = header;
          const packet = { arrival: monotonicNow(), marker, payloadType, sequenceNumber, timestamp, ssrc, payload };
          this.receiver.take(kind, packet, payload.length + 12);
        });
        track.onReceiveRtcp.subscribe((rtcp) => {
          if (!(rtcp instanceof RtcpSrPacket)) return;
          const { ntpTimestamp, rtpTimestamp } = rtcp.senderInfo;
          const ntpMs =
            (Number(ntpTimestamp >> 32n) - 2_208_988_800) * 1000 + (Number(ntpTimestamp & 0xffffffffn) / 2 ** 32) * 1000;
          this.receiver.takeReport({ arrival: monotonicNow(), ssrc: rtcp.ssrc, ntpMs, rtpTime: rtpTimestamp });
        });
      });
    }
  }

  get state(): string {
    return this.#connection.connectionState;
  }

  async join(url: string): Promise<void> {
    await this.#connection.setLocalDescription(await this.#connection.createOffer());
    const offer = this.#connection.localDescription?.sdp ?? "";
    const answer = await postOffer(url, offer, this.times);
    this.resource = answer.resource;
    await this.#connection.setRemoteDescription({ type: "answer", sdp: answer.sdp });
  }

  async leave(politely: boolean): Promise<void> {
    if (politely && this.resource !== undefined) await fetch(this.resource, { method: "DELETE" }).catch(() => undefined);
    await this.#connection.close();
  }
}
