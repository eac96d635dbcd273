// What HTTP needs from the rest of the gateway, handed in: http imports no other protocol (docs/architecture.md, "The house").

import type { IncomingMessage } from "node:http";
import type { Socket } from "node:net";

import type { Hub, StreamName } from "../hub/types.js";
import type { Refusal } from "../media/errors.js";

/** A WHEP or WHIP offer, already checked for form: lengths, characters, content type. The SDP itself is not parsed yet. */
export type SessionOffer = {
  /** `vhost` is what the query says, else `__defaultVhost__`; whoever takes the offer maps names that are not configured. */
  readonly name: StreamName;
  /** The offer (RFC 8866), not empty, at most 256 KiB. */
  readonly sdp: string;
  /** The client's address without port. */
  readonly address: string;
  /** Query string of the request with its `?`, or empty; for hooks. A bearer token is in it as `token=…`. */
  readonly parameters: string;
  /** Token of `Authorization: Bearer` (RFC 6750), if there was one. */
  readonly bearer?: string;
  /** Host of the request without port or brackets, a candidate when `api_as_candidates` is on; empty when unknown. */
  readonly apiHost: string;
  /** `?eip=` or `?candidate=` split at commas (`IP`, `IP:PORT`, `[v6]:PORT`, name): replaces every other candidate. Empty: none given. */
  readonly candidates: readonly string[];
  /** The server's own ICE credentials, asked for by `?ice-ufrag=` (4–32 ice-chars) and `?ice-pwd=` (22–32 ice-chars). */
  readonly iceUsernameFragment?: string;
  readonly icePassword?: string;
  /** `?vcodec=` or `?codec=`, `?acodec=`, in lower case. */
  readonly videoCodec?: string;
  readonly audioCodec?: string;
  /** Play before publish: the viewer waits and media starts when the publisher comes. Default false. */
  readonly mayWait?: boolean;
  /** Address of the page that asked (`Referer`, else `Origin`). */
  readonly pageUrl?: string;
};

export type SessionAnswer = {
  /** Unguessable, 16–128 characters of `A–Z a–z 0–9 - _`; becomes the session's URL, so it must not hold a stream key. */
  readonly id: string;
  /** The answer (RFC 8866) with all candidates. */
  readonly sdp: string;
};

/** The WebRTC side as HTTP sees it. */
export interface RtcService {
  /** WHEP. @throws Refusal with a reason that is shown to the viewer */
  play(offer: SessionOffer): Promise<SessionAnswer>;
  /** WHIP. @throws Refusal with a reason that is shown to the publisher */
  publish(offer: SessionOffer): Promise<SessionAnswer>;
  /** Whether whoever shows this bearer token, or none, may change and end the session. True when there is no such session. */
  isAuthorized(id: string, bearer: string | undefined): boolean;
  /** How often the session's ICE was restarted, undefined when there is no such session: its entity tag is made of it. */
  iceGeneration(id: string): number | undefined;
  /**
   * Takes a fragment of SDP (RFC 8840) for a session.
   *
   * @param intent `restart`: new credentials are expected
   * @returns the fragment that answers an ICE restart, undefined when there was none
   * @throws Refusal `bad-request`, `not-found`; nothing has changed then
   */
  updateIce(id: string, fragment: string, intent: "candidates" | "restart"): string | undefined;
  /**
   * How far a session has come, where it stopped and why, as it is shown in JSON; also for a while after its end.
   *
   * @returns undefined when there is no such session
   */
  diagnosis(id: string): object | undefined;
  /** Ends ICE and DTLS and frees everything. @returns false when there is no such session */
  closeSession(id: string, reason: string): boolean;
}

/** A GET or HEAD of an address of HLS. */
export type HlsRequest = {
  /** The client's address without port. */
  readonly address: string;
  /** User-Agent, at most 512 characters. */
  readonly agent: string;
  /** Address of the page that asked (`Referer`, else `Origin`). */
  readonly pageUrl: string | undefined;
  /** The connection, by identity. */
  readonly connection: object;
  readonly isHead: boolean;
};

export type HlsAnswer =
  | {
      readonly kind: "playlist";
      readonly text: string;
      /** Strong, without quotes; undefined: the answer is one viewer's own. */
      readonly entityTag: string | undefined;
      /** It was asked for by a delivery directive. */
      readonly isDirected: boolean;
    }
  | {
      readonly kind: "media";
      /** Pieces that follow one another; shared, never changed. */
      readonly body: readonly Buffer[];
      readonly contentType: string;
      readonly entityTag: string;
      /** A key: not to be kept by anybody in between. */
      readonly isSecret: boolean;
    };

/** HLS as HTTP sees it. */
export interface HlsService {
  /**
   * What an address means, or undefined when it is none of HLS. The path is percent-encoded.
   *
   * @throws Refusal `bad-request`
   */
  target(path: string, query: string, host: string): object | undefined;
  /**
   * Answers once: in this call, or when what is asked for is there.
   *
   * @returns a function that tells that the client has gone
   * @throws Refusal instead, when it is certain at once
   */
  answer(target: object, request: HlsRequest, respond: (answer: HlsAnswer | Refusal) => void): () => void;
}

/** The rooms as HTTP sees them. */
export interface RoomsService {
  /** Takes a WebSocket to `SIGNALING_PATH`, or refuses its handshake. Never throws. */
  upgrade(request: IncomingMessage, socket: Socket, head: Buffer): void;
  rooms(): readonly RoomInfo[];
  readonly figures: { readonly sockets: number; readonly rooms: number; readonly messages: number; readonly refused: number };
}

export type RoomLayout = "pip" | "grid";

/** Rooms as live streams, as HTTP sees them. */
export interface RoomLivesService {
  /** Rooms that are live. */
  readonly count: number;
  /** @throws Refusal `forbidden` (not configured), `not-found`, `busy`, `overloaded`, `unavailable` */
  start(vhost: string, room: string, layout: RoomLayout): void;
  /** @returns false when the room was not live */
  stop(vhost: string, room: string, reason: string): boolean;
  /** @param host as whoever asks reaches this gateway. @param layout of the command while the room is not live */
  state(vhost: string, room: string, layout: RoomLayout, host: string): RoomLive;
}

export type RoomLive = {
  readonly state: "off" | "waiting" | "starting" | "live" | "failing";
  readonly layout: RoomLayout;
  /** Milliseconds since 1970; undefined while it is off. */
  readonly since: number | undefined;
  /** Display names of those in the mix, or who would be. */
  readonly inputs: readonly string[];
  readonly leftOut: readonly { readonly display: string; readonly reason: string }[];
  readonly starts: number;
  readonly error: string | undefined;
  /** Why it cannot be started here, or undefined. */
  readonly refusal: string | undefined;
  readonly url: string;
  /** Undefined while there is nothing to mix. */
  readonly command: string | undefined;
};

/** A room; times in milliseconds since 1970. */
export type RoomInfo = {
  readonly vhost: string;
  readonly name: string;
  readonly since: number;
  readonly participants: readonly {
    readonly display: string;
    /** They say that they publish. */
    readonly publishing: boolean;
    readonly since: number;
    readonly address: string;
  }[];
};

/** Where signaling is found, as a path. */
export const SIGNALING_PATH = "/sig/v1/rtc";

/** Everything the HTTP listeners need. */
export type HttpServices = {
  /** Undefined while WebRTC is switched off or cannot run here; `rtcUnavailable` then says why. */
  readonly rtc: RtcService | undefined;
  /** One sentence for people, shown in the 503. */
  readonly rtcUnavailable?: string;
  /** Undefined: there is no HLS here. */
  readonly hls?: HlsService | undefined;
  /** Undefined while rooms are switched off. */
  readonly rooms?: RoomsService;
  readonly roomLives?: RoomLivesService;
  readonly hub: Pick<Hub, "streams" | "clients" | "find" | "play" | "totals">;
  /** As configured now. */
  readonly vhosts: () => readonly ApiVhost[];
  readonly version: string;
  /** Port that RTMP listens on, for the addresses on the landing page; undefined: RTMP is off. */
  readonly rtmpPort?: number;
  /** `server` and `service` of the API's envelope: constant for the machine and for this run. */
  readonly serverId: string;
  readonly serviceId: string;
};

/** A configured vhost as the API shows it. */
export type ApiVhost = {
  readonly name: string;
  readonly enabled: boolean;
  /** fragment: milliseconds. */
  readonly hls?: { readonly enabled: boolean; readonly fragment: number };
};

/** Where log lines go; a pino logger is one. */
export interface HttpLog {
  debug(fields: object, message: string): void;
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
  error(fields: object, message: string): void;
}
