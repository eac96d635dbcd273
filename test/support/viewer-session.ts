// What the measuring viewers have in common.

import { monotonicNow } from "./rtp-reader.js";
import type { Receiver } from "./tally.js";

/** On the machine's monotonic clock in ms. */
export type ViewerTimes = { posted?: number; answered?: number; connected?: number };

export interface ViewerSession {
  readonly receiver: Receiver;
  readonly times: ViewerTimes;
  readonly state: string;
  /** URL of the session, once it is answered. */
  readonly resource: string | undefined;
  join(url: string): Promise<void>;
  nack?(sequenceNumbers: readonly number[]): void;
  /** @param politely DELETEs the session; otherwise it just vanishes */
  leave(politely: boolean): Promise<void>;
}

/** WHEP: offer in, answer out. @throws Error with status and body when it is refused */
export async function postOffer(
  url: string,
  offer: string,
  times: ViewerTimes,
): Promise<{ sdp: string; resource: string | undefined }> {
  times.posted = monotonicNow();
  const response = await fetch(url, { method: "POST", headers: { "Content-Type": "application/sdp" }, body: offer });
  const body = await response.text();
  times.answered = monotonicNow();
  if (response.status !== 201) throw new Error(`WHEP ${response.status}: ${body}`);
  const location = response.headers.get("location");
  return { sdp: body, resource: location === null ? undefined : new URL(location, url).href };
}

/** An answer as a client on a network that lets only this transport through would use it. */
export function withTransport(sdp: string, transport: "udp" | "tcp" | "any" | undefined): string {
  if (transport === undefined || transport === "any") return sdp;
  const kept = sdp.split("\r\n").filter((line) => !line.startsWith("a=candidate:") || line.split(" ")[2] === transport);
  return kept.join("\r\n");
}
