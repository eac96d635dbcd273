// EDGE: `hls_path`: segments and plain playlists as files, for another web server or a CDN. Viewers of the gateway never wait for it.

import { mkdir, open, rename, rm } from "node:fs/promises";
import { basename, dirname, join } from "node:path";

import type { Clock, TimerHandle } from "../hub/clock.js";
import { displayName } from "../hub/names.js";
import type { StreamName } from "../hub/types.js";
import { type FileKind, fileName } from "./names.js";
import type { PackagedStream } from "./packaged-stream.js";
import type { Segment } from "./segment.js";
import type { HlsListener } from "./service.js";

/** `hls { … }` as far as files are concerned. */
export type DiskSettings = {
  /** Absolute; empty: nothing is written. */
  readonly path: string;
  readonly cleanup: boolean;
  /** Milliseconds after a stream's end; 0: files stay. */
  readonly dispose: number;
};

export type DiskOptions = {
  readonly settings: (vhost: string) => DiskSettings | undefined;
  readonly clock: Clock;
  readonly log: DiskLog;
  /** A segment can be had, and is on disk where it should be. @param file its path, undefined where nothing is written */
  readonly onSegment?: (packaged: PackagedStream, segment: Segment, file: string | undefined) => void;
  /** Default: the machine's. */
  readonly files?: FileSystem;
};

export interface DiskLog {
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
}

/** What is done with files. */
export interface FileSystem {
  /** Makes a file of these bytes; it appears whole, and in place of what had its name. */
  write(path: string, pieces: readonly Buffer[]): Promise<void>;
  remove(path: string): Promise<void>;
}

export class HlsDisk implements HlsListener {
  readonly #options: DiskOptions;
  readonly #writers = new Map<PackagedStream, Writer>();
  readonly #disposals = new Set<Promise<void>>();

  constructor(options: DiskOptions) {
    this.#options = options;
  }

  onSegment(packaged: PackagedStream, segment: Segment): void {
    const writer = this.#writer(packaged);
    if (writer === undefined) this.#options.onSegment?.(packaged, segment, undefined);
    else writer.update();
  }

  onRemove(packaged: PackagedStream, segment: Segment): void {
    this.#writers.get(packaged)?.retire(segment);
  }

  onEnd(packaged: PackagedStream): void {
    const writer = this.#writers.get(packaged);
    if (writer === undefined) return;
    writer.update();
    const { dispose } = writer.settings;
    if (dispose > 0)
      writer.timer = this.#options.clock.after(dispose, () => {
        const disposal = this.#dispose(packaged, writer);
        this.#disposals.add(disposal);
        void disposal.then(() => this.#disposals.delete(disposal));
      });
    else void writer.idle().then(() => this.#writers.delete(packaged));
  }

  /** Waits until nothing is being written or removed. */
  async idle(): Promise<void> {
    for (const writer of this.#writers.values()) await writer.idle();
    await Promise.all(this.#disposals);
  }

  /** Waits for what is being written, and removes what would be removed later. */
  async close(): Promise<void> {
    const writers = [...this.#writers];
    await Promise.all(
      writers.map(async ([packaged, writer]) => {
        if (writer.settings.dispose > 0) await this.#dispose(packaged, writer);
        else await writer.idle();
      }),
    );
    await this.idle();
  }

  async #dispose(packaged: PackagedStream, writer: Writer): Promise<void> {
    writer.timer?.cancel();
    this.#writers.delete(packaged);
    const isReplaced = [...this.#writers.values()].some(({ playlist }) => playlist === writer.playlist);
    await writer.removeAll(isReplaced ? "segments" : "everything");
  }

  #writer(packaged: PackagedStream): Writer | undefined {
    const known = this.#writers.get(packaged);
    if (known !== undefined) return known.isRefused ? undefined : known;
    const { name } = packaged.stream;
    const settings = this.#options.settings(name.vhost);
    if (settings === undefined || settings.path === "") return undefined;
    const writer = new Writer(packaged, settings, this.#options);
    this.#writers.set(packaged, writer);
    return writer.isRefused ? undefined : writer;
  }
}

/** The files of one stream. One round of writing at a time; what happens meanwhile is in the next. */
class Writer {
  readonly settings: DiskSettings;
  readonly playlist: string;
  /** Its names cannot be files' names. */
  readonly isRefused: boolean;
  timer: TimerHandle | undefined;
  readonly #packaged: PackagedStream;
  readonly #options: DiskOptions;
  readonly #files: FileSystem;
  readonly #folder: string;
  /** Names that are on disk. */
  readonly #written = new Set<string>();
  #retired: Segment[] = [];
  #wanted: { readonly segments: readonly Segment[]; readonly text: string } = { segments: [], text: "" };
  #state: "idle" | "writing" | "writing-more" | "removed" = "idle";
  #round: Promise<void> = Promise.resolve();
  #isFailing = false;

  constructor(packaged: PackagedStream, settings: DiskSettings, options: DiskOptions) {
    this.#packaged = packaged;
    this.settings = settings;
    this.#options = options;
    this.#files = options.files ?? MACHINE;
    const { name } = packaged.stream;
    this.isRefused = !isFileName(name);
    this.#folder = join(settings.path, ...(this.isRefused ? [] : name.app.split("/")));
    this.playlist = join(this.#folder, `${this.isRefused ? "" : name.stream}.m3u8`);
    if (this.isRefused) this.#warn("this stream's name cannot be a file's: it is not written to hls_path");
  }

  update(): void {
    if (this.#state === "removed") return;
    this.#wanted = { segments: [...this.#packaged.window.listed], text: this.#packaged.plainPlaylist() };
    if (this.#state === "writing") this.#state = "writing-more";
    if (this.#state !== "idle") return;
    this.#state = "writing";
    this.#round = this.#write();
  }

  /** Its file goes with the next round. */
  retire(segment: Segment): void {
    if (this.settings.cleanup) this.#retired.push(segment);
  }

  async idle(): Promise<void> {
    await this.#round;
  }

  async removeAll(what: "segments" | "everything"): Promise<void> {
    await this.#round;
    if (this.#state === "removed") return;
    this.#state = "removed";
    if (!this.settings.cleanup) return;
    if (what === "everything") await this.#remove(basename(this.playlist));
    for (const name of this.#written) await this.#remove(name);
    this.#written.clear();
  }

  async #write(): Promise<void> {
    do {
      this.#state = "writing";
      try {
        await this.#writeOnce();
        if (this.#isFailing) this.#options.log.info(this.#fields, "hls_path is written again");
        this.#isFailing = false;
      } catch (error) {
        if (!this.#isFailing) this.#warn(`hls_path cannot be written, viewers are served from memory: ${reasonOf(error)}`);
        this.#isFailing = true;
      }
    } while ((this.#state as string) === "writing-more");
    this.#state = "idle";
  }

  /** Everything that is listed and not on disk yet, then the playlist, then what is too old. */
  async #writeOnce(): Promise<void> {
    const packaged = this.#packaged;
    const { segments, text } = this.#wanted;
    for (const segment of segments) {
      const { run, encrypted, sequenceNumber } = segment;
      const { initialization } = run.packager;
      if (initialization !== undefined) await this.#add("initialization", run.number, [initialization]);
      if (encrypted !== undefined) await this.#add("key", encrypted.key.number, [encrypted.key.bytes]);
      const isNew = await this.#add("segment", sequenceNumber, segment.body);
      if (isNew) this.#options.onSegment?.(packaged, segment, join(this.#folder, this.#name("segment", sequenceNumber)));
    }
    await this.#files.write(this.playlist, [Buffer.from(text)]);
    await this.#removeRetired(segments);
  }

  async #add(kind: FileKind, number: number, pieces: readonly Buffer[]): Promise<boolean> {
    const name = this.#name(kind, number);
    if (this.#written.has(name)) return false;
    await this.#files.write(join(this.#folder, name), pieces);
    this.#written.add(name);
    return true;
  }

  async #removeRetired(listed: readonly Segment[]): Promise<void> {
    const retired = this.#retired.splice(0);
    const used = new Set<string>();
    for (const { run, encrypted } of [...listed, ...this.#packaged.window.listed]) {
      used.add(this.#name("initialization", run.number));
      if (encrypted !== undefined) used.add(this.#name("key", encrypted.key.number));
    }
    for (const { sequenceNumber, run, encrypted } of retired) {
      const names = [this.#name("segment", sequenceNumber), this.#name("initialization", run.number)];
      if (encrypted !== undefined) names.push(this.#name("key", encrypted.key.number));
      for (const name of names) {
        if (used.has(name) || !this.#written.delete(name)) continue;
        await this.#remove(name);
      }
    }
  }

  async #remove(name: string): Promise<void> {
    await this.#files.remove(join(this.#folder, name)).catch(() => {}); // somebody else has, or may not
  }

  #name(kind: FileKind, number: number): string {
    const { stream, token, settings } = this.#packaged;
    return fileName(stream.name.stream, token, kind, number, settings.format);
  }

  get #fields(): object {
    return { stream: displayName(this.#packaged.stream.name), path: this.settings.path };
  }

  #warn(message: string): void {
    this.#options.log.warn(this.#fields, message);
  }
}

/** Publishers choose these names. */
function isFileName({ app, stream }: StreamName): boolean {
  const parts = [...app.split("/"), stream];
  return parts.every(
    (part) => part !== "" && !part.startsWith(".") && Buffer.byteLength(part) <= MAX_NAME && !FORBIDDEN.test(part),
  );
}

const MAX_NAME = 200; // bytes: 255 less token, number and ending
const FORBIDDEN = /[/\\\p{Cc}]/u;

const MACHINE: FileSystem = {
  async write(path, pieces) {
    await mkdir(dirname(path), { recursive: true });
    const temporary = join(dirname(path), `.${basename(path)}.tmp`);
    try {
      const file = await open(temporary, "w");
      try {
        await file.writev(pieces as Buffer[]);
      } finally {
        await file.close();
      }
      await rename(temporary, path);
    } catch (error) {
      await rm(temporary, { force: true }).catch(() => {});
      throw error;
    }
  },
  async remove(path) {
    await rm(path, { force: true });
  },
};

function reasonOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
