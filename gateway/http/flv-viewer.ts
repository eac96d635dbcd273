// One viewer of HTTP-FLV or WebSocket-FLV: the file header at the right moment, then what its fan-out hands out, through a queue.

import { BlockQueue } from "../hub/block-queue.js";
import type { Clock, TimerHandle } from "../hub/clock.js";
import type { Block, BlockViewer, Selection } from "../hub/frame-fan-out.js";
import type { Play, Stream } from "../hub/types.js";
import { writeFlvHeader } from "../media/flv.js";
import { announcesTrack } from "../media/metadata.js";
import { type FlvFanOut, type FlvFanOuts, type Framing, messageOf } from "./flv-fan-outs.js";

export type FlvViewerOptions = {
  readonly output: ViewerOutput;
  readonly clock: Clock;
  readonly fanOuts: FlvFanOuts;
  readonly selection: Selection;
  readonly framing: Framing;
  /** Milliseconds the player may lag. */
  readonly maxWait: number;
  /** The stream has ended, or the player takes nothing any more: `giveUp`. */
  readonly onEnd: (reason: string, how: "ended" | "gave-up") => void;
};

/** What a viewer needs of its socket. */
export interface ViewerOutput {
  readonly writable: boolean;
  write(bytes: Buffer): boolean;
}

/**
 * The file header says which tracks there are, and players believe it: mpegts.js waits for ever for a track that was announced and
 * does not come, and never plays one that was not. So the header waits a moment for tracks that may come, and says what is there or
 * was announced.
 */
const HEADER_WAIT = 500; // ms

/** How long after one track's configuration the other's may still come, where nobody has announced anything; in microseconds. */
const OTHER_TRACK = 2_000_000;

type Kind = "audio" | "video";

export class FlvViewer implements BlockViewer {
  readonly #options: FlvViewerOptions;
  readonly #queue: BlockQueue;
  #play: Play | undefined;
  #source: FlvFanOut | undefined;
  #state: "new" | "preparing" | "flowing" | "ended" = "new";
  #timer: TimerHandle | undefined;
  #bytes = 0;
  /** Blocks of the last group that was handed out. */
  #groupSize = 0;

  constructor(options: FlvViewerOptions) {
    this.#options = options;
    const { clock } = options;
    const output = {
      write: (bytes: Buffer): boolean => this.#write(bytes),
      giveUp: (reason: string): void => options.onEnd(reason, "gave-up"),
    };
    this.#queue = new BlockQueue(output, {
      now: () => clock.now(),
      preamble: (timestamp) => this.#source?.fanOut.preamble(timestamp) ?? Buffer.alloc(0),
      maxWait: options.maxWait,
    });
  }

  start(play: Play): void {
    if (this.#state !== "new") return;
    const { fanOuts, selection, framing, clock } = this.#options;
    this.#play = play;
    this.#state = "preparing";
    this.#source = fanOuts.get(play.stream, selection, framing);
    this.#timer = clock.after(HEADER_WAIT, () => {
      this.#timer = undefined;
      this.#prepare();
    });
    this.#source.fanOut.add(this); // also while preparing: a converter runs only for those who read
    this.#prepare();
  }

  /** The socket has room again. */
  drained(): void {
    this.#queue.drained();
  }

  /** Idempotent. */
  end(reason: string): void {
    if (this.#state === "ended") return;
    this.#state = "ended";
    this.#timer?.cancel();
    this.#source?.fanOut.remove(this);
    this.#queue.close();
    this.#play?.end(reason);
  }

  /** Bytes handed to the socket so far. */
  get bytes(): number {
    return this.#bytes;
  }

  /** As the API and the log show them. */
  statistics(): { bytes: number; waiting: number; falls: number; dropped: number } {
    const { bytes: waiting, falls, dropped } = this.#queue;
    return { bytes: this.#bytes, waiting, falls, dropped };
  }

  // BlockViewer: what the fan-out hands out.

  open(group: readonly Block[]): void {
    this.#groupSize = group.length;
    if (this.#state === "flowing") this.#queue.open(group);
  }

  write(block: Block): void {
    if (this.#state === "flowing") this.#queue.write(block);
    else if (this.#state === "preparing") this.#prepare(block);
  }

  close(reason: string): void {
    if (this.#state !== "ended") this.#options.onEnd(reason, "ended");
  }

  /** Begins when every track that may come is there, or the wait is over and something is there. */
  #prepare(block?: Block): void {
    const source = this.#source;
    const stream = this.#play?.stream;
    if (source === undefined || stream === undefined || this.#state !== "preparing") return;
    const audio = this.#outlook("audio", source, stream);
    const video = this.#outlook("video", source, stream);
    if (audio !== "here" && video !== "here") return;
    const isComplete = [audio, video].every((outlook) => outlook === "here" || outlook === "no");
    if (!isComplete && this.#timer !== undefined) return;
    this.#timer?.cancel();
    this.#timer = undefined;
    this.#state = "flowing";
    const isSaid = (outlook: Outlook): boolean => outlook === "here" || outlook === "announced";
    const header = writeFlvHeader(isSaid(audio), isSaid(video));
    this.#write(this.#options.framing === "http" ? header : messageOf(header));
    source.fanOut.add(this); // is one of its viewers already; is handed what there is now
    if (block !== undefined && this.#groupSize === 0) this.#queue.write(block); // not among it
  }

  #outlook(kind: Kind, source: FlvFanOut, stream: Stream): Outlook {
    const { selection } = this.#options;
    if (selection !== "all" && selection !== kind) return "no";
    const { frames } = stream;
    const config = kind === "audio" ? frames.audioConfig : frames.videoConfig;
    if (config !== undefined || source.hasSeen(kind) || frames.backlog.some((frame) => frame.kind === kind)) return "here";
    if (stream.sourceLane === "packets") return stream.packets.track(kind) === undefined ? "no" : "announced";
    if (frames.metadata === undefined) {
      const other = frames.videoConfig ?? frames.audioConfig; // of the other kind, dts is when it came
      return other !== undefined && stream.now() - other.dts > OTHER_TRACK ? "no" : "unknown";
    }
    return announcesTrack(frames.metadata.data, kind) ? "announced" : "no";
  }

  #write(bytes: Buffer): boolean {
    const { output } = this.#options;
    if (!output.writable) return true; // its end is being told
    this.#bytes += bytes.length;
    return output.write(bytes);
  }
}

/** Of a track. unknown: nobody has said anything. */
type Outlook = "here" | "announced" | "unknown" | "no";
