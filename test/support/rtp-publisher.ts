// A WebRTC publisher in memory: pictures and sound as RTP, RTX and key frames on request, sender reports; plain packets, no transport.

import type { NegotiatedTrack } from "../../gateway/rtc/sdp-answer.js";
import type { FakeClock } from "./fake-clock.js";
import { BASELINE_PPS, BASELINE_SPS } from "./pictures.js";
import { redundantPayload, rtpPacket, rtxPacket } from "./rtp-writer.js";

const FEEDBACK = { nack: true, pli: true, fir: false, transportCc: true };
const EXTENSIONS = { mid: 4, transportCc: 3, playoutDelay: 0 };

export const VIDEO: NegotiatedTrack = {
  kind: "video",
  mid: "1",
  codec: "h264",
  clockRate: 90_000,
  channels: 1,
  payloadType: 102,
  rtxPayloadType: 103,
  redPayloadType: -1,
  ssrc: 0x2222,
  rtxSsrc: 0x2223,
  extensions: EXTENSIONS,
  feedback: FEEDBACK,
  wantsReceiverRtt: false,
  formatParameters: "packetization-mode=1;profile-level-id=42c00c",
};

export const AUDIO: NegotiatedTrack = {
  kind: "audio",
  mid: "0",
  codec: "opus",
  clockRate: 48_000,
  channels: 2,
  payloadType: 111,
  rtxPayloadType: -1,
  redPayloadType: 63,
  ssrc: 0x1111,
  rtxSsrc: 0,
  extensions: EXTENSIONS,
  feedback: { ...FEEDBACK, nack: false, pli: false },
  wantsReceiverRtt: false,
  formatParameters: "minptime=10;useinbandfec=1",
};

export type RtpPublisherOptions = {
  readonly ssrcs?: { readonly audio: number; readonly video: number; readonly rtx: number };
  /** First sequence number and RTP time of both tracks. Default close to their wraps. */
  readonly sequenceNumber?: number;
  readonly timestamp?: number;
  /** Milliseconds since 1970 that the publisher believes in, less ours. Default 3 hours. */
  readonly clockError?: number;
  /** Milliseconds that pictures take longer than sound from capture to the wire. Default 0. */
  readonly videoDelay?: number;
  /** Default constrained baseline, 320x180. */
  readonly parameterSets?: { readonly sps: Buffer; readonly pps: Buffer };
  /** With which key frames they are sent. Default each. */
  readonly sendSets?: "each" | "first" | "never";
  /** Sound is sent with the frame before it. Default false. */
  readonly redundancy?: boolean;
};

export class RtpPublisher {
  readonly sentFrames: number[] = [];
  readonly clock: FakeClock;
  plis = 0;
  nacked = 0;
  /** Packets of the pictures and of sound that were never sent at all, by a test's will. */
  isMuted = false;
  readonly #send: (packet: Buffer) => void;
  readonly #options: Required<RtpPublisherOptions>;
  readonly #history = new Map<number, Buffer>();
  readonly #start: number;
  #videoNumber: number;
  #audioNumber: number;
  #rtxNumber = 1;
  #transportNumber = 65_500;
  #frame = 0;
  #wantsKeyFrame = true;
  #lastSound: { readonly payload: Buffer; readonly timestamp: number } | undefined;

  constructor(clock: FakeClock, send: (packet: Buffer) => void, options: RtpPublisherOptions = {}) {
    this.clock = clock;
    this.#send = send;
    this.#options = {
      ssrcs: { audio: AUDIO.ssrc, video: VIDEO.ssrc, rtx: VIDEO.rtxSsrc },
      sequenceNumber: 65_500,
      timestamp: 2 ** 32 - 50_000,
      clockError: 3 * 3_600_000,
      videoDelay: 0,
      redundancy: false,
      sendSets: "each",
      parameterSets: { sps: BASELINE_SPS, pps: BASELINE_PPS },
      ...options,
    };
    this.#start = clock.now();
    this.#videoNumber = this.#options.sequenceNumber;
    this.#audioNumber = this.#options.sequenceNumber;
  }

  /** Milliseconds since the first capture. */
  get mediaTime(): number {
    return this.clock.now() - this.#start;
  }

  /** A picture captured now (or before, if pictures are slow); a key frame when one is wanted. Its number is in its slice. */
  picture(packets = 3): void {
    const isKey = this.#wantsKeyFrame;
    this.#wantsKeyFrame = false;
    const frame = this.#frame++;
    this.sentFrames.push(frame);
    const timestamp = this.#options.timestamp + Math.round((this.mediaTime - this.#options.videoDelay) * 90);
    const { sendSets, parameterSets } = this.#options;
    const { sps, pps } = parameterSets;
    if (isKey && (sendSets === "each" || (sendSets === "first" && frame === 0))) this.#video(timestamp, false, stapA(sps, pps));
    const count = isKey ? packets * 3 : packets;
    for (let part = 0; part < count; part++) {
      const payload = Buffer.alloc(400, part);
      payload[0] = 0x7c;
      payload[1] = (part === 0 ? 0x80 : 0) | (part === count - 1 ? 0x40 : 0) | (isKey ? 5 : 1);
      payload[2] = 0x88; // first_mb_in_slice=0
      if (part === 0) payload.writeUInt32BE(frame, 3);
      this.#video(timestamp, part === count - 1, payload);
    }
  }

  /** 20 ms of sound that ended now. */
  sound(payload = Buffer.concat([Buffer.from([0xfc]), Buffer.alloc(59, 7)])): void {
    const timestamp = this.#options.timestamp + Math.round(this.mediaTime / 20) * 960;
    const { audio } = this.#options.ssrcs;
    const number = this.#audioNumber++;
    const last = this.#lastSound;
    this.#lastSound = { payload, timestamp };
    if (this.isMuted) return;
    const before = last === undefined ? [] : [{ payload: last.payload, offset: timestamp - last.timestamp }];
    const { redundancy } = this.#options;
    this.#send(
      rtpPacket({
        sequenceNumber: number,
        timestamp,
        ssrc: audio,
        payloadType: redundancy ? AUDIO.redPayloadType : AUDIO.payloadType,
        payload: redundancy ? redundantPayload(AUDIO.payloadType, before, payload) : payload,
        extensions: this.#extension(),
      }),
    );
  }

  /** `ms` of both tracks: a picture each 40 ms, sound each 20 ms, reports each second. */
  run(ms: number, report = true): void {
    for (let elapsed = 0; elapsed < ms; elapsed += 20) {
      this.sound();
      if (elapsed % 40 === 0) this.picture();
      if (report && elapsed % 1000 === 500) this.report();
      this.clock.advance(20);
    }
  }

  /** Sender reports of both tracks, as they should be; or with NTP time and RTP time shifted. */
  report(
    shift: {
      readonly audioNtp?: number;
      readonly videoNtp?: number;
      readonly audioRtp?: number;
      readonly videoRtp?: number;
    } = {},
  ): void {
    const { ssrcs, timestamp, clockError } = this.#options;
    const ntp = this.clock.wallTime() + clockError;
    this.#send(
      senderReport(ssrcs.audio, ntp + (shift.audioNtp ?? 0), timestamp + this.mediaTime * 48 + (shift.audioRtp ?? 0) * 48),
    );
    this.#send(
      senderReport(ssrcs.video, ntp + (shift.videoNtp ?? 0), timestamp + this.mediaTime * 90 + (shift.videoRtp ?? 0) * 90),
    );
  }

  raw(packet: Buffer): void {
    this.#send(packet);
  }

  /** RTCP from the gateway. */
  receive(compound: Buffer): void {
    for (let at = 0; at + 8 <= compound.length; ) {
      const size = (compound.readUInt16BE(at + 2) + 1) * 4;
      const [format, type] = [compound.readUInt8(at) & 0x1f, compound.readUInt8(at + 1)];
      if (type === 206 && format === 1) {
        this.plis++;
        this.#wantsKeyFrame = true;
      } else if (type === 205 && format === 1) {
        for (let entry = at + 12; entry < at + size; entry += 4)
          this.#answer(compound.readUInt16BE(entry), compound.readUInt16BE(entry + 2));
      } else if (type === 207 && compound[at + 8] === 4) {
        this.#echo(compound.readUInt32BE(at + 4), compound.readUInt32BE(at + 14)); // the middle of its NTP time
      }
      at += size;
    }
  }

  /** A receiver's reference time comes back a while later, with how long that was (RFC 3611 section 4.5). */
  #echo(receiver: number, referenceTime: number): void {
    const delay = 130; // ms
    const packet = Buffer.alloc(24);
    packet.writeUInt32BE(0x80cf0005, 0);
    packet.writeUInt32BE(this.#options.ssrcs.video, 4);
    packet.writeUInt32BE(0x05000003, 8);
    packet.writeUInt32BE(receiver, 12);
    packet.writeUInt32BE(referenceTime, 16);
    packet.writeUInt32BE(Math.round((delay * 65_536) / 1000), 20);
    this.clock.after(delay, () => this.#send(packet));
  }

  #answer(first: number, mask: number): void {
    for (let bit = -1; bit < 16; bit++) {
      if (bit >= 0 && (mask & (1 << bit)) === 0) continue;
      this.nacked++;
      const original = this.#history.get((first + bit + 1) & 0xffff);
      if (original === undefined) continue;
      this.#send(
        rtxPacket(original, {
          ssrc: this.#options.ssrcs.rtx,
          payloadType: VIDEO.rtxPayloadType,
          sequenceNumber: this.#rtxNumber++,
        }),
      );
    }
  }

  #video(timestamp: number, marker: boolean, payload: Buffer): void {
    const number = this.#videoNumber++;
    const fields = {
      sequenceNumber: number,
      timestamp,
      ssrc: this.#options.ssrcs.video,
      payloadType: VIDEO.payloadType,
      marker,
      payload,
    };
    this.#history.set(number & 0xffff, rtpPacket(fields)); // without extension, as the retransmission has its own
    this.#send(rtpPacket({ ...fields, extensions: this.#extension() }));
  }

  #extension(): readonly (readonly [number, Buffer])[] {
    const number = this.#transportNumber++ & 0xffff;
    return [[3, Buffer.from([number >> 8, number & 0xff])]];
  }
}

function stapA(...units: Buffer[]): Buffer {
  const parts = units.flatMap((unit) => [Buffer.from([unit.length >> 8, unit.length & 0xff]), unit]);
  return Buffer.concat([Buffer.from([0x78]), ...parts]);
}

/** @param ntpTime milliseconds since 1970 */
export function senderReport(ssrc: number, ntpTime: number, rtpTime: number): Buffer {
  const report = Buffer.alloc(28);
  report[0] = 0x80;
  report[1] = 200;
  report.writeUInt16BE(6, 2);
  report.writeUInt32BE(ssrc, 4);
  const seconds = Math.floor(ntpTime / 1000);
  report.writeUInt32BE((seconds + 2_208_988_800) % 2 ** 32, 8);
  report.writeUInt32BE(Math.floor(((ntpTime - seconds * 1000) / 1000) * 2 ** 32), 12);
  report.writeUInt32BE(((Math.round(rtpTime) % 2 ** 32) + 2 ** 32) % 2 ** 32, 16);
  return report;
}
