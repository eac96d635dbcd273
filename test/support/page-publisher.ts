// A bare WHIP client inside a page: the fake camera and microphone, or a canvas with the test picture's time code.

import type { Page } from "playwright-core";

export type PublishedStatistics = {
  readonly codec?: string;
  readonly framesEncoded: number;
  readonly keyFramesEncoded: number;
  readonly packetsSent: number;
  readonly nackCount: number;
  readonly pliCount: number;
  readonly targetBitrate?: number;
  readonly frameWidth?: number;
  readonly roundTripTime?: number;
};

let nextId = 1;

export class PagePublisher {
  readonly #page: Page;
  readonly #id: number;

  private constructor(page: Page) {
    this.#page = page;
    this.#id = nextId++;
  }

  /** @throws Error with status and body when WHIP refuses */
  static async start(page: Page, whipUrl: string): Promise<PagePublisher> {
    const publisher = new PagePublisher(page);
    await page.evaluate(CLIENT);
    await page.evaluate(`__publish(${publisher.#id}, ${JSON.stringify(whipUrl)})`);
    return publisher;
  }

  async statistics(): Promise<PublishedStatistics> {
    return (await this.#page.evaluate(`__publishers.get(${this.#id}).statistics()`)) as PublishedStatistics;
  }

  /** Sends pictures so many times smaller from now on. */
  async scaleDown(by: number): Promise<void> {
    await this.#page.evaluate(`__publishers.get(${this.#id}).scaleDown(${by})`);
  }

  /** The session's URL. */
  async resource(): Promise<string> {
    return (await this.#page.evaluate(`__publishers.get(${this.#id}).resource`)) as string;
  }

  async state(): Promise<string> {
    return (await this.#page.evaluate(`__publishers.get(${this.#id}).pc.connectionState`)) as string;
  }

  /** @param politely with a DELETE; else the connection is gone without a word */
  async stop(politely = true): Promise<void> {
    await this.#page.evaluate(`__publishers.get(${this.#id}).stop(${politely})`);
  }

  /** New ICE credentials by PATCH (RFC 9725 section 4.3.3). @returns the status, and the new entity tag */
  async restartIce(): Promise<{ readonly status: number; readonly etag: string }> {
    return (await this.#page.evaluate(`__publishers.get(${this.#id}).restartIce()`)) as { status: number; etag: string };
  }
}

const CLIENT = `
window.__publishers ??= new Map();
window.__publish = async (id, url) => {
  const media = await navigator.mediaDevices.getUserMedia({ video: { width: 640, height: 360, frameRate: 25 }, audio: true });
  const pc = new RTCPeerConnection();
  for (const track of media.getTracks()) pc.addTransceiver(track, { direction: "sendonly", streams: [media] });
  const gathered = () => new Promise((resolve) => {
    const look = () => { if (pc.iceGatheringState === "complete") resolve(); };
    pc.addEventListener("icegatheringstatechange", look);
    look();
  });
  await pc.setLocalDescription();
  await gathered();
  const response = await fetch(url, { method: "POST", headers: { "Content-Type": "application/sdp" }, body: pc.localDescription.sdp });
  const sdp = await response.text();
  if (response.status !== 201) throw new Error("WHIP: " + response.status + " " + sdp);
  await pc.setRemoteDescription({ type: "answer", sdp });
  const resource = new URL(response.headers.get("Location"), response.url).href;
  const field = (text, name) => new RegExp("a=" + name + ":(.*)").exec(text)?.[1].trim();
  __publishers.set(id, {
    pc,
    resource,
    async statistics() {
      const all = [...(await pc.getStats()).values()];
      const video = all.find((entry) => entry.type === "outbound-rtp" && entry.kind === "video") ?? {};
      const remote = all.find((entry) => entry.type === "remote-inbound-rtp" && entry.kind === "video");
      return { ...video, codec: all.find((entry) => entry.id === video.codecId)?.mimeType, roundTripTime: remote?.roundTripTime };
    },
    async scaleDown(by) {
      const sender = pc.getSenders().find((one) => one.track.kind === "video");
      const parameters = sender.getParameters();
      parameters.encodings[0].scaleResolutionDownBy = by;
      await sender.setParameters(parameters);
    },
    async stop(politely) {
      if (politely) await fetch(resource, { method: "DELETE" });
      pc.close();
      for (const track of media.getTracks()) track.stop();
    },
    async restartIce() {
      const offer = await pc.createOffer({ iceRestart: true });
      await pc.setLocalDescription(offer);
      await gathered();
      const local = pc.localDescription.sdp;
      const mid = pc.getTransceivers()[0].mid;
      const fragment = ["a=ice-options:trickle ice2", "a=group:BUNDLE 0 1", "m=audio 9 UDP/TLS/RTP/SAVPF 0", "a=mid:" + mid,
        "a=ice-ufrag:" + field(local, "ice-ufrag"), "a=ice-pwd:" + field(local, "ice-pwd"),
        ...local.split("\\r\\n").filter((line) => line.startsWith("a=candidate:")), "a=end-of-candidates", ""].join("\\r\\n");
      const answer = await fetch(resource, { method: "PATCH", body: fragment,
        headers: { "Content-Type": "application/trickle-ice-sdpfrag", "If-Match": '"*"' } });
      const text = await answer.text();
      if (answer.status === 200) {
        const sdp = pc.currentRemoteDescription.sdp
          .replace(/a=ice-ufrag:.*/g, "a=ice-ufrag:" + field(text, "ice-ufrag"))
          .replace(/a=ice-pwd:.*/g, "a=ice-pwd:" + field(text, "ice-pwd"));
        await pc.setRemoteDescription({ type: "answer", sdp });
      }
      return { status: answer.status, etag: answer.headers.get("ETag") };
    },
  });
};
`;
