// A clip as RTP in real time, made by ffmpeg: H.264 as it is in the file, Opus, and sender reports of both from one clock. ffmpeg's own
// reports would not do: each track's clock starts when ffmpeg gets round to its first packet, on a busy machine 70 ms apart.

import { createSocket, type Socket } from "node:dgram";
import { once } from "node:events";

import { Child } from "./child.js";
import { isRtcp } from "./rtp-reader.js";

export const CLIP_VIDEO = { ssrc: 0x22220001, payloadType: 102 };
export const CLIP_AUDIO = { ssrc: 0x11110001, payloadType: 111 };

export class RtpClip {
  readonly #sockets: readonly Socket[];
  readonly #ffmpeg: Child;

  private constructor(sockets: readonly Socket[], ffmpeg: Child) {
    this.#sockets = sockets;
    this.#ffmpeg = ffmpeg;
  }

  /** @param onPacket gets RTP and RTCP */
  static async start(path: string, onPacket: (kind: "audio" | "video", packet: Buffer) => void): Promise<RtpClip> {
    const ports: number[] = [];
    const sockets: Socket[] = [];
    const clock = new ClipClock();
    for (const kind of ["video", "audio"] as const) {
      const pair = await portPair();
      for (const socket of pair) {
        socket.on("message", (packet) => {
          if (clock.stamp(kind, packet)) onPacket(kind, packet);
        });
      }
      sockets.push(...pair);
      ports.push(pair[0].address().port);
    }
    const to = (port: number | undefined): string => `rtp://127.0.0.1:${port}?pkt_size=1188`;
    const id = ({ ssrc, payloadType }: typeof CLIP_VIDEO): string[] => ["-ssrc", `${ssrc}`, "-payload_type", `${payloadType}`];
    const ffmpeg = new Child("ffmpeg", [
      ...["-hide_banner", "-nostdin", "-loglevel", "error", "-re", "-stream_loop", "-1", "-i", path],
      ...["-map", "0:v", "-c:v", "copy", "-bsf:v", "h264_mp4toannexb", ...id(CLIP_VIDEO), "-f", "rtp", to(ports[0])],
      ...["-map", "0:a", "-c:a", "libopus", "-ar", "48000", "-ac", "2", "-b:a", "64k", "-frame_duration", "20"],
      ...[...id(CLIP_AUDIO), "-f", "rtp", to(ports[1])],
    ]);
    return new RtpClip(sockets, ffmpeg);
  }

  async stop(): Promise<void> {
    await this.#ffmpeg.stop("SIGKILL");
    for (const socket of this.#sockets) socket.close();
  }
}

/** Makes sender reports say that both tracks began at the same moment. */
class ClipClock {
  readonly #origins = new Map<"audio" | "video", number>();
  #startedAt: number | undefined;

  /** @returns false for a report that came before the track's first packet */
  stamp(kind: "audio" | "video", packet: Buffer): boolean {
    if (!isRtcp(packet)) {
      if (!this.#origins.has(kind)) this.#origins.set(kind, packet.readUInt32BE(4));
      this.#startedAt ??= Date.now();
      return true;
    }
    const origin = this.#origins.get(kind);
    if (packet.readUInt8(1) !== SENDER_REPORT) return true;
    if (origin === undefined || this.#startedAt === undefined) return false;
    const ticks = (packet.readUInt32BE(16) - origin) | 0;
    const seconds = this.#startedAt / 1000 + ticks / (kind === "video" ? 90_000 : 48_000) + NTP_EPOCH;
    packet.writeUInt32BE(Math.floor(seconds), 8);
    packet.writeUInt32BE(Math.floor((seconds % 1) * 0x1_0000_0000), 12);
    return true;
  }
}

const SENDER_REPORT = 200;
/** Seconds from 1900 to 1970. */
const NTP_EPOCH = 2_208_988_800;

/** RTP on an even port, RTCP on the next one. */
async function portPair(): Promise<readonly [Socket, Socket]> {
  for (;;) {
    const first = await bound(0);
    const { port } = first?.address() ?? { port: 1 };
    const second = port % 2 === 0 ? await bound(port + 1) : undefined;
    if (first !== undefined && second !== undefined) return [first, second];
    first?.close();
  }
}

async function bound(port: number): Promise<Socket | undefined> {
  const socket = createSocket({ type: "udp4", recvBufferSize: 1 << 20 });
  socket.bind(port, "127.0.0.1");
  try {
    await once(socket, "listening");
    return socket;
  } catch {
    socket.close();
    return undefined;
  }
}
