// Frames, packets and peers for tests that do not care what is inside.

import { randomUUID } from "node:crypto";

import type { Peer, Source } from "../../gateway/hub/types.js";
import type { Frame, Sink } from "../../gateway/media/frame.js";
import { type MediaKind, MediaPacket } from "../../gateway/rtp/packet.js";

export function videoFrame(dts: number, options: { isKey?: boolean; pts?: number; size?: number } = {}): Frame {
  const data = Buffer.alloc(options.size ?? 100, 1);
  return { kind: "video", codec: "h264", dts, pts: options.pts ?? dts, isKey: options.isKey ?? false, isConfig: false, data };
}

export function audioFrame(dts: number, size = 50): Frame {
  return { kind: "audio", codec: "aac", dts, pts: dts, isKey: true, isConfig: false, data: Buffer.alloc(size, 2) };
}

export function videoConfig(text: string): Frame {
  return { kind: "video", codec: "h264", dts: 0, pts: 0, isKey: true, isConfig: true, data: Buffer.from(text) };
}

export function mediaPacket(
  sequenceNumber: number,
  options: { kind?: MediaKind; key?: boolean; timestamp?: number } = {},
): MediaPacket {
  const kind = options.kind ?? "video";
  return new MediaPacket(kind, sequenceNumber, options.timestamp ?? 0, true, options.key ?? false, false, Buffer.alloc(10));
}

export function peer(address = "192.0.2.1", protocol: Peer["protocol"] = "rtmp"): Peer {
  return { id: randomUUID(), protocol, address, parameters: "" };
}

/** A sink that keeps what it was given. */
export class Collector<T> implements Sink<T> {
  readonly items: T[] = [];
  closed: string | undefined;

  write(item: T): void {
    this.items.push(item);
  }

  close(reason: string): void {
    this.closed = reason;
  }
}

/** A publisher's side that keeps what it was told. */
export class RecordingSource implements Source {
  readonly keyFrameRequests: string[] = [];
  readonly notices: string[] = [];
  closed: string | undefined;

  requestKeyFrame(reason: string): void {
    this.keyFrameRequests.push(reason);
  }

  close(reason: string): void {
    this.closed = reason;
  }

  notify(code: string, description: string): void {
    this.notices.push(`${code}: ${description}`);
  }
}
