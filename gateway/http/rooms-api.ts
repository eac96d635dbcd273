// Rooms in the HTTP API: who is there, whose media is live, and the room as one live stream. docs/http.md, "Rooms".

import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";

import { Refusal } from "../media/errors.js";
import { isShown, roomId, streamId } from "./descriptions.js";
import { problemOf } from "./problem.js";
import type { HttpServices, RoomInfo, RoomLayout, RoomLive, RoomLivesService } from "./services.js";
import { hostOf } from "./whip-whep.js";

export type RoomsApiOptions = {
  readonly services: HttpServices;
  readonly envelope: () => object;
  readonly sendError: (reply: FastifyReply, status: number, code: number, error: string) => FastifyReply;
  readonly page: <T>(items: readonly T[], request: FastifyRequest) => T[];
};

const NO_SUCH_ROOM = 2060; // ours: SRS's list has none
const MAX_BODY = 4096;

/** What pages ask on their own port: whether a room they know by name is live, and the command that makes it so. */
export function addRoomLiveState(app: FastifyInstance, { services, envelope, sendError }: RoomsApiOptions): void {
  app.get("/api/v1/rooms/:id/live", async (request, reply) => {
    const found = findLive(services, request);
    if (typeof found === "string") return sendError(reply, 404, NO_SUCH_ROOM, found);
    return { ...envelope(), live: describeLive(found.state()) };
  });
}

export function addRoomsApi(app: FastifyInstance, options: RoomsApiOptions): void {
  const { services, envelope, sendError, page } = options;
  const all = (): readonly RoomInfo[] => services.rooms?.rooms() ?? [];
  app.get("/api/v1/rooms", async (request) => ({
    ...envelope(),
    rooms: page(all(), request).map((room) => describeRoom(room, services)),
  }));
  app.get("/api/v1/rooms/:id", async (request, reply) => {
    const room = findRoom(all(), request);
    if (room === undefined) return sendError(reply, 404, NO_SUCH_ROOM, whyNoRoom(services));
    return { ...envelope(), room: describeRoom(room, services) };
  });
  app.post("/api/v1/rooms/:id/live", { bodyLimit: MAX_BODY }, async (request, reply) => {
    const found = findLive(services, request);
    if (typeof found === "string") return sendError(reply, 404, NO_SUCH_ROOM, found);
    const { layout } = (request.body ?? {}) as { layout?: unknown };
    if (layout !== undefined && layout !== "pip" && layout !== "grid") {
      return sendError(reply, 400, 400, 'layout: "pip" or "grid" expected');
    }
    try {
      found.lives.start(found.room.vhost, found.room.name, layout ?? "grid");
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      const { status } = problemOf(error.code, error.message);
      return sendError(reply, status, status, error.message);
    }
    return { ...envelope(), live: describeLive(found.state()) };
  });
  app.delete("/api/v1/rooms/:id/live", async (request, reply) => {
    const found = findLive(services, request);
    if (typeof found === "string") return sendError(reply, 404, NO_SUCH_ROOM, found);
    const { vhost, name } = found.room;
    if (!found.lives.stop(vhost, name, "ended by the API")) return sendError(reply, 404, 404, "this room is not live");
    return envelope();
  });
}

type FoundLive = { readonly room: RoomInfo; readonly lives: RoomLivesService; readonly state: () => RoomLive };

/** @returns why there is none, else */
function findLive(services: HttpServices, request: FastifyRequest): FoundLive | string {
  const { rooms, roomLives: lives } = services;
  const room = findRoom(rooms?.rooms() ?? [], request);
  if (room === undefined || lives === undefined) return whyNoRoom(services);
  const layout: RoomLayout = (request.query as { layout?: string }).layout === "pip" ? "pip" : "grid";
  const host = hostOf(request.headers.host ?? "") || "localhost";
  return { room, lives, state: () => lives.state(room.vhost, room.name, layout, host) };
}

/** By its id, or by its name in the vhost of `?vhost=` or else in the first that has it. */
function findRoom(rooms: readonly RoomInfo[], request: FastifyRequest): RoomInfo | undefined {
  const { id } = request.params as { id: string };
  const { vhost } = request.query as { vhost?: string | string[] };
  return rooms.find((room) => roomId(room) === id || (room.name === id && (vhost === undefined || vhost === room.vhost)));
}

function whyNoRoom({ rooms }: HttpServices): string {
  return rooms === undefined ? "rooms are switched off here (signaling.enabled)" : "no such room: nobody is in it";
}

function describeRoom(room: RoomInfo, { hub, roomLives }: Pick<HttpServices, "hub" | "roomLives">): object {
  const { vhost, name, since } = room;
  const live = roomLives?.state(vhost, name, "grid", "localhost");
  return {
    id: roomId(room),
    name,
    vhost,
    since,
    participants: room.participants.map(({ display, publishing, since, address }) => {
      const stream = hub.find({ vhost, app: name, stream: display });
      return {
        display,
        publishing,
        live: stream !== undefined && isShown(stream),
        since,
        ip: address,
        stream: streamId({ vhost, app: name, stream: display }),
      };
    }),
    live: live === undefined || live.state === "off" ? null : { state: live.state, layout: live.layout, since: live.since },
  };
}

function describeLive({ leftOut, refusal, ...live }: RoomLive): object {
  return { ...live, left_out: leftOut, enabled: refusal === undefined, ...(refusal !== undefined && { reason: refusal }) };
}
