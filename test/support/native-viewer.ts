// A WHEP viewer on libdatachannel (npm node-datachannel). Runs inside viewer-child: a bug in it may end its process.

import { Audio, PeerConnection, type Track, Video } from "node-datachannel";

import { monotonicNow } from "./rtp-reader.js";
import { Receiver } from "./tally.js";
import { postOffer, type ViewerSession, type ViewerTimes, withTransport } from "./viewer-session.js";

export class NativeViewer implements ViewerSession {
  readonly receiver: Receiver;
  readonly times: ViewerTimes = {};
  state = "new";
  readonly #connection: PeerConnection;
  readonly #tracks: Track[]; // must stay referenced, or garbage collection closes them
  resource: string | undefined;

  readonly #transport: "udp" | "tcp" | "any" | undefined;

  constructor(keep: boolean, transport?: "udp" | "tcp" | "any") {
    this.receiver = new Receiver(keep);
    this.#transport = transport;
    this.#connection = new PeerConnection("viewer", {
      iceServers: [],
      disableAutoNegotiation: true,
      enableIceTcp: transport !== undefined,
    });
    this.#connection.onStateChange((state) => {
      this.state = state;
      if (state === "connected") this.times.connected ??= monotonicNow();
    });
    const video = new Video("0", "RecvOnly");
    video.addH264Codec(102, "profile-level-id=42e01f;packetization-mode=1;level-asymmetry-allowed=1");
    const audio = new Audio("1", "RecvOnly");
    audio.addOpusCodec(111);
    this.#tracks = [this.#connection.addTrack(video), this.#connection.addTrack(audio)];
    this.#tracks[0]?.onMessage((bytes) => this.receiver.receive("video", bytes));
    this.#tracks[1]?.onMessage((bytes) => this.receiver.receive("audio", bytes));
  }

  async join(url: string): Promise<void> {
    const gathered = new Promise<void>((resolve) => {
      this.#connection.onGatheringStateChange((state) => {
        if (state === "complete") resolve();
      });
    });
    this.#connection.setLocalDescription("offer");
    await gathered;
    const offer = this.#connection.localDescription()?.sdp ?? "";
    const answer = await postOffer(url, offer, this.times);
    this.resource = answer.resource;
    this.#connection.setRemoteDescription(withTransport(answer.sdp, this.#transport), "answer");
  }

  /** Asks for retransmission of video packets (generic NACK, RFC 4585 section 6.2.1). */
  nack(sequenceNumbers: readonly number[]): void {
    const last = this.receiver.kept.video.at(-1);
    const track = this.#tracks[0];
    if (last === undefined || track === undefined) return;
    const packet = Buffer.alloc(12 + sequenceNumbers.length * 4);
    packet.writeUInt8(0x81, 0);
    packet.writeUInt8(205, 1);
    packet.writeUInt16BE(packet.length / 4 - 1, 2);
    packet.writeUInt32BE(1, 4);
    packet.writeUInt32BE(last.ssrc, 8);
    sequenceNumbers.forEach((number, index) => {
      packet.writeUInt16BE(number & 0xffff, 12 + index * 4);
    });
    track.sendMessageBinary(packet);
  }

  async leave(politely: boolean): Promise<void> {
    if (politely && this.resource !== undefined) await fetch(this.resource, { method: "DELETE" }).catch(() => undefined);
    for (const track of this.#tracks) track.close();
    this.#connection.close();
  }
}
