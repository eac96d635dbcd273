// Rooms in the HTTP API: who is there, and whose media is live. docs/http.md, "Rooms".

import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";

import { isShown, roomId, streamId } from "./descriptions.js";
import type { HttpServices, RoomInfo } from "./services.js";

export type RoomsApiOptions = {
  readonly services: HttpServices;
  readonly envelope: () => object;
  readonly sendError: (reply: FastifyReply, status: number, code: number, error: string) => FastifyReply;
  readonly page: <T>(items: readonly T[], request: FastifyRequest) => T[];
};

const NO_SUCH_ROOM = 2060; // ours: SRS's list has none

export function addRoomsApi(app: FastifyInstance, { services, envelope, sendError, page }: RoomsApiOptions): void {
  const { rooms } = services;
  const all = (): readonly RoomInfo[] => rooms?.rooms() ?? [];
  app.get("/api/v1/rooms", async (request) => ({
    ...envelope(),
    rooms: page(all(), request).map((room) => describeRoom(room, services)),
  }));
  app.get("/api/v1/rooms/:id", async (request, reply) => {
    const room = findRoom(all(), request);
    if (room === undefined) return sendError(reply, 404, NO_SUCH_ROOM, whyNoRoom(services));
    return { ...envelope(), room: describeRoom(room, services) };
  });
}

/** By its id, or by its name in the vhost of `?vhost=` or else in the first that has it. */
export function findRoom(rooms: readonly RoomInfo[], request: FastifyRequest): RoomInfo | undefined {
  const { id } = request.params as { id: string };
  const { vhost } = request.query as { vhost?: string | string[] };
  return rooms.find((room) => roomId(room) === id || (room.name === id && (vhost === undefined || vhost === room.vhost)));
}

function whyNoRoom({ rooms }: HttpServices): string {
  return rooms === undefined ? "rooms are switched off here (signaling.enabled)" : "no such room: nobody is in it";
}

export function describeRoom(room: RoomInfo, { hub }: Pick<HttpServices, "hub">): object {
  const { vhost, name, since } = room;
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
  };
}
