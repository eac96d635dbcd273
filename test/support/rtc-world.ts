// A gateway's WebRTC side on a fake clock with fake keys, and viewers behind lossy links.

import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

import type { Config } from "../../gateway/config/config.js";
import { parseConfig } from "../../gateway/config/read.js";
import { LiveHub } from "../../gateway/hub/hub.js";
import type { Converter, Publication, Source, Stream } from "../../gateway/hub/types.js";
import type { Endpoint } from "../../gateway/native/types.js";
import { type RtcOffer, RtcServer } from "../../gateway/rtc/server.js";
import { FakeClock } from "./fake-clock.js";
import { peer, RecordingSource } from "./frames.js";
import { type LinkFaults, LossyPipe } from "./lossy-link.js";
import { createFakeReceiver, FakeDtls, FakeEgress } from "./rtc-fakes.js";
import { TestPeer } from "./rtc-peer.js";
import { RtpPublisher, type RtpPublisherOptions } from "./rtp-publisher.js";

export const NAME = { vhost: "__defaultVhost__", app: "live", stream: "livestream" };
const OFFERS = fileURLToPath(new URL("../../../test/offers/", import.meta.url));
export const offerOf = (client: string): string => readFileSync(`${OFFERS}${client}-whep-offer.sdp`, "utf8");

/** What RtpPublisher sends: H.264 on 102 with RTX on 103, Opus on 111, transport-wide numbers on 3, mid on 4. */
export const WHIP_OFFER = readFileSync(`${OFFERS}chromium156-whip-offer.sdp`, "utf8").replace("rtpmap:108 H264", "rtpmap:108 X");

export type WorldPublisher = {
  readonly id: string;
  readonly peer: TestPeer;
  readonly source: RtpPublisher;
  readonly up: LossyPipe;
  /** Its packets come from another port from now on, as after a change of the network. */
  move(): void;
};

export type WorldPeer = TestPeer & { readonly id: string; readonly up: LossyPipe; readonly down: LossyPipe };

export class RtcWorld {
  readonly clock = new FakeClock();
  readonly egress = new FakeEgress();
  readonly dtls = new FakeDtls();
  readonly source = new RecordingSource();
  readonly logged: { readonly fields: object; readonly message: string }[] = [];
  readonly hub: LiveHub;
  readonly rtc: RtcServer;
  receive: (datagram: Buffer, from: Endpoint, more?: boolean) => void = () => {};
  /** Where the gateway's datagrams end up, by `address:port`. */
  readonly routes = new Map<string, (datagram: Buffer) => void>();
  stray = 0;
  #nextPort = 20_000;

  constructor(
    options: {
      readonly maxSessions?: number;
      readonly grace?: number;
      readonly takeover?: "on" | "stale" | "off";
      readonly config?: (config: Config) => Config;
      readonly converter?: (stream: Stream, lane: "frames" | "packets", clock: FakeClock) => Converter;
    } = {},
  ) {
    const { config } = parseConfig("rtc_server { enabled on; } vhost __defaultVhost__ { rtc { enabled on; } }");
    const { clock } = this;
    const log = (fields: object, message: string): void => void this.logged.push({ fields, message });
    this.hub = new LiveHub({
      clock,
      vhost: (name) => ({ name, gopCacheFrames: 2500, grace: options.grace ?? 0, takeover: options.takeover ?? "on" }),
      converter: (stream, lane) => options.converter?.(stream, lane, clock),
    });
    this.rtc = new RtcServer({
      config: options.config?.(config) ?? config,
      hub: this.hub,
      clock,
      log: { debug: log, info: log, warn: log },
      machine: {
        openNetwork: async ({ onDatagram }) => {
          this.receive = onDatagram;
          return { port: 8000, egress: this.egress, close: async () => {} };
        },
        createDtls: () => this.dtls,
        createReceiver: createFakeReceiver,
        interfaceAddresses: () => ["127.0.0.1", "192.0.2.7"],
        resolve: async (name) => (name === "gateway.example" ? ["192.0.2.8"] : []),
      },
      defer: (callback) => void clock.after(0, callback),
      ...(options.maxSessions !== undefined && { maxSessions: options.maxSessions }),
    });
    this.egress.onDatagram = (datagram, to) => {
      const route = this.routes.get(`${to.address}:${to.port}`);
      if (route === undefined) this.stray++;
      else route(datagram);
    };
  }

  async start(): Promise<void> {
    await this.rtc.start();
  }

  /** A publisher of packets that the test has made. */
  publishWith(source: Source): Promise<Publication> {
    return this.hub.publish({ name: NAME, peer: peer(), source, lane: "packets" });
  }

  publish(): Promise<Publication> {
    return this.hub.publish({ name: NAME, peer: peer(), source: this.source, lane: "packets" });
  }

  offer(client = "chromium156", more: Partial<RtcOffer> = {}): RtcOffer {
    return { name: NAME, sdp: offerOf(client), address: "198.51.100.1", parameters: "", apiHost: "", candidates: [], ...more };
  }

  /** A viewer whose offer was answered; it is not started yet. */
  async join(
    options: {
      client?: string;
      faults?: LinkFaults;
      /** Of the way to the viewer, where it differs. */
      down?: LinkFaults;
      seed?: number;
      nacks?: boolean;
      transportCc?: boolean;
    } = {},
  ): Promise<WorldPeer> {
    const offer = this.offer(options.client);
    const { id, sdp } = await this.rtc.play(offer);
    const address = { socket: 0, address: "198.51.100.1", port: this.#nextPort++ };
    const seed = options.seed ?? address.port;
    const faults = options.faults ?? {};
    const up = new LossyPipe(this.clock, seed, faults, (datagram) => this.receive(datagram, { ...address }));
    const down = new LossyPipe(this.clock, seed + 1, options.down ?? faults, (datagram) => peerOf.receive(datagram));
    const peerOf = new TestPeer({
      clock: this.clock,
      answer: sdp,
      usernameFragment: /a=ice-ufrag:(\S+)/.exec(offer.sdp)?.[1] ?? "",
      send: (datagram) => up.send(datagram),
      nacks: options.nacks ?? true,
      transportCc: options.transportCc ?? false,
    });
    this.routes.set(`${address.address}:${address.port}`, (datagram) => down.send(datagram));
    return Object.assign(peerOf, { id, up, down });
  }

  /** A publisher whose offer was answered and whose connection stands. */
  async publishBy(
    options: RtpPublisherOptions & {
      readonly offer?: Partial<RtcOffer>;
      readonly faults?: LinkFaults;
      readonly connect?: boolean;
    } = {},
  ): Promise<WorldPublisher> {
    const { offer: more, faults = { delay: 1 }, connect = true, ...source } = options;
    const offer = { ...this.offer(), sdp: WHIP_OFFER, ...more };
    const { id, sdp } = await this.rtc.publish(offer);
    const address = { socket: 0, address: "198.51.100.2", port: this.#nextPort++ };
    const up = new LossyPipe(this.clock, address.port, faults, (datagram) => this.receive(datagram, { ...address }));
    const down = new LossyPipe(this.clock, address.port + 1, faults, (datagram) => {
      const [first = 0, type = 0] = datagram;
      if (first >= 128 && type >= 192 && type <= 223) rtp.receive(datagram);
      else peerOf.receive(datagram);
    });
    const peerOf = new TestPeer({
      clock: this.clock,
      answer: sdp,
      usernameFragment: /a=ice-ufrag:(\S+)/.exec(offer.sdp)?.[1] ?? "",
      send: (datagram) => up.send(datagram),
      nacks: false,
    });
    const rtp = new RtpPublisher(this.clock, (packet) => up.send(packet), source);
    const listen = (): void => void this.routes.set(`${address.address}:${address.port}`, (datagram) => down.send(datagram));
    listen();
    if (connect) {
      peerOf.start();
      this.clock.advance(200);
    }
    return {
      id,
      peer: peerOf,
      source: rtp,
      up,
      move: () => {
        this.routes.delete(`${address.address}:${address.port}`);
        address.port = this.#nextPort++;
        listen();
      },
    };
  }

  /** A peer for an answer to an ICE restart, at an address of its own. */
  peerFor(answer: string, usernameFragment: string): TestPeer {
    const address = { socket: 0, address: "198.51.100.3", port: this.#nextPort++ };
    const peerOf = new TestPeer({
      clock: this.clock,
      answer,
      usernameFragment,
      send: (datagram) => this.receive(datagram, address),
    });
    this.routes.set(`${address.address}:${address.port}`, (datagram) => peerOf.receive(datagram));
    return peerOf;
  }

  /** Moves time on, a picture at each frame time. */
  run(ms: number, step: number, each: () => void): void {
    for (let passed = 0; passed < ms; passed += step) {
      each();
      this.clock.advance(step);
    }
  }
}
