// `/metrics` for Prometheus: SRS's names, and our own per protocol. Counted when asked, from the hub; nothing is kept beside it.

import type { FastifyInstance } from "fastify";
import { Counter, Gauge, Registry } from "prom-client";

import { isShown } from "./descriptions.js";
import type { HttpServices } from "./services.js";
import type { SystemMeter } from "./system-figures.js";

/** Adds the route; each gateway of a process has its own figures. */
export function addMetrics(app: FastifyInstance, services: HttpServices, system: SystemMeter): void {
  const registry = createRegistry(services, system);
  app.get("/metrics", async (_request, reply) =>
    reply
      .header("Cache-Control", "no-store")
      .header("Content-Type", registry.contentType)
      .send(await registry.metrics()),
  );
}

function createRegistry(services: HttpServices, system: SystemMeter): Registry {
  const registry = new Registry();
  const registers = [registry];
  const { hub, version, serverId, serviceId } = services;

  const gauge = (name: string, help: string, value: () => number): void => {
    new Gauge({
      name,
      help,
      registers,
      collect() {
        this.set(value());
      },
    });
  };
  const counter = (name: string, help: string, value: () => number): void => {
    new Counter({
      name,
      help,
      registers,
      collect() {
        this.reset();
        this.inc(value());
      },
    });
  };

  new Gauge({
    name: "srs_build_info",
    help: "Constant 1; the labels tell what runs.",
    labelNames: ["version", "server", "service", "pid"],
    registers,
    collect() {
      this.set({ version, server: serverId, service: serviceId, pid: String(process.pid) }, 1);
    },
  });
  gauge("srs_cpu_percent", "Processor time of the process in percent of one core.", () => system.read().self.cpu_percent * 100);
  gauge("srs_memory", "Resident memory of the process in kilobytes.", () => system.read().self.mem_kbyte);
  gauge(
    "srs_streams",
    "Streams that are live, or wait for a publisher to come back.",
    () => [...hub.streams()].filter(isShown).length,
  );
  gauge("srs_clients", "Publishers and viewers of all protocols.", () => [...hub.clients()].length);
  counter("srs_clients_total", "Publishers and viewers that were let in.", () => hub.totals.clients);
  counter("srs_clients_errs_total", "Publishers and viewers that were refused.", () => hub.totals.refused);
  counter("srs_send_bytes_total", "Bytes of media sent to viewers.", () => hub.totals.sent);
  counter("srs_receive_bytes_total", "Bytes of media received from publishers.", () => hub.totals.received);

  new Gauge({
    name: "sluice_clients",
    help: "Publishers and viewers by protocol and role.",
    labelNames: ["protocol", "role"],
    registers,
    collect() {
      this.reset();
      for (const protocol of ["rtmp", "rtc", "flv", "hls"]) this.set({ protocol, role: "play" }, 0);
      for (const protocol of ["rtmp", "rtc"]) this.set({ protocol, role: "publish" }, 0);
      for (const { peer, role } of hub.clients()) this.inc({ protocol: peer.protocol, role });
    },
  });
  new Gauge({
    name: "sluice_viewers_waiting_bytes",
    help: "Bytes that wait for viewers who read too slowly, by protocol.",
    labelNames: ["protocol"],
    registers,
    collect() {
      this.reset();
      for (const protocol of ["rtmp", "flv"]) this.set({ protocol }, 0);
      for (const { peer, role, statistics } of hub.clients()) {
        const waiting = role === "play" ? Number(statistics()["waiting"] ?? 0) : 0;
        if (waiting > 0) this.inc({ protocol: peer.protocol }, waiting);
      }
    },
  });
  const { rooms } = services;
  if (rooms !== undefined) {
    gauge("sluice_rooms", "Rooms with somebody in them.", () => rooms.figures.rooms);
    gauge("sluice_room_participants", "Participants of all rooms.", () =>
      rooms.rooms().reduce((sum, room) => sum + room.participants.length, 0),
    );
    gauge("sluice_signaling_sockets", "WebSockets of signaling, in a room or not.", () => rooms.figures.sockets);
    gauge("sluice_room_lives", "Rooms that are mixed into one live stream.", () => services.roomLives?.count ?? 0);
    counter("sluice_signaling_messages_total", "Messages of signaling clients.", () => rooms.figures.messages);
    counter("sluice_signaling_refused_total", "Of these, those answered with an error.", () => rooms.figures.refused);
  }
  return registry;
}
