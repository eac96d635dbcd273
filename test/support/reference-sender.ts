// A WHEP server that is not ours: ffmpeg's RTP sent on by libdatachannel. It proves the measuring viewers and the judge.

import { createSocket, type Socket } from "node:dgram";
import { once } from "node:events";
import { createServer, type Server } from "node:http";

import { Audio, cleanup, PeerConnection, type Track, Video } from "node-datachannel";

import { Child } from "./child.js";
import { isRtcp } from "./rtp-reader.js";

const SSRC = { video: 0x1001, audio: 0x2002 };

export class ReferenceSender {
  readonly url: string;
  readonly #server: Server;
  readonly #sockets: Socket[];
  readonly #connections: PeerConnection[] = [];
  readonly #tracks: { video: Track; audio: Track }[] = [];
  #ffmpeg: Child | undefined;

  private constructor(url: string, server: Server, sockets: Socket[]) {
    this.url = url;
    this.#server = server;
    this.#sockets = sockets;
    sockets.forEach((socket, index) => {
      const kind = index < 2 ? "video" : "audio"; // RTP, RTCP of video; RTP, RTCP of audio
      socket.on("message", (bytes) => {
        if (!isRtcp(bytes)) bytes.writeUInt8((bytes.readUInt8(1) & 0x80) | (kind === "video" ? 102 : 111), 1);
        for (const tracks of this.#tracks) if (tracks[kind].isOpen()) tracks[kind].sendMessageBinary(bytes);
      });
    });
  }

  static async start(path: string): Promise<ReferenceSender> {
    const sockets: Socket[] = [];
    for (let index = 0; index < 4; index++) sockets.push(createSocket("udp4").bind(0, "127.0.0.1"));
    await Promise.all(sockets.map((socket) => once(socket, "listening")));
    const ports = sockets.map((socket) => socket.address().port);
    const server = createServer().listen(0, "127.0.0.1");
    await once(server, "listening");
    const address = server.address();
    if (address === null || typeof address === "string") throw new Error("no port");
    const sender = new ReferenceSender(`http://127.0.0.1:${address.port}/whep`, server, sockets);
    server.on("request", (request, response) => {
      response.setHeader("Access-Control-Allow-Origin", "*");
      response.setHeader("Access-Control-Allow-Headers", "Content-Type");
      if (request.method === "OPTIONS") return void response.writeHead(200).end();
      const chunks: Buffer[] = [];
      request.on("data", (chunk: Buffer) => chunks.push(chunk));
      request.on("end", () => {
        void sender.#answer(Buffer.concat(chunks).toString()).then((sdp) => {
          response.writeHead(201, { "Content-Type": "application/sdp" });
          response.end(sdp);
        });
      });
    });
    const to = (rtp: number): string => `rtp://127.0.0.1:${ports[rtp]}?rtcpport=${ports[rtp + 1]}&pkt_size=1100`;
    const video = ["-map", "0:v", "-c:v", "copy", "-bsf:v", "h264_mp4toannexb", "-ssrc", `${SSRC.video}`, "-f", "rtp", to(0)];
    const opus = ["-c:a", "libopus", "-b:a", "64k", "-application", "lowdelay"];
    const audio = ["-map", "0:a", ...opus, "-ssrc", `${SSRC.audio}`, "-f", "rtp", to(2)];
    sender.#ffmpeg = new Child("ffmpeg", [
      "-nostdin",
      "-loglevel",
      "error",
      "-re",
      "-stream_loop",
      "-1",
      "-i",
      path,
      ...video,
      ...audio,
    ]);
    return sender;
  }

  async stop(): Promise<void> {
    await this.#ffmpeg?.stop("SIGKILL");
    for (const socket of this.#sockets) socket.close();
    for (const tracks of this.#tracks) for (const track of [tracks.video, tracks.audio]) track.close();
    for (const connection of this.#connections) connection.close();
    cleanup(); // its threads would keep the process alive
    this.#server.closeAllConnections();
    this.#server.close();
    await once(this.#server, "close");
  }

  async #answer(offer: string): Promise<string> {
    const connection = new PeerConnection("sender", { iceServers: [], disableAutoNegotiation: true });
    this.#connections.push(connection);
    const gathered = new Promise<void>((resolve) => {
      connection.onGatheringStateChange((state) => {
        if (state === "complete") resolve();
      });
    });
    connection.setRemoteDescription(offer, "offer");
    const video = new Video("0", "SendOnly");
    video.addH264Codec(102, "profile-level-id=42e01f;packetization-mode=1;level-asymmetry-allowed=1");
    video.addSSRC(SSRC.video, "reference", "stream", "video");
    const audio = new Audio("1", "SendOnly");
    audio.addOpusCodec(111);
    audio.addSSRC(SSRC.audio, "reference", "stream", "audio");
    this.#tracks.push({ video: connection.addTrack(video), audio: connection.addTrack(audio) });
    connection.setLocalDescription("answer");
    await gathered;
    return connection.localDescription()?.sdp ?? "";
  }
}
