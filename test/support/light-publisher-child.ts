// A process full of WHIP publishers, steered over IPC by light-publishers.ts.

import { LightPublishers } from "./light-publisher.js";
import type { PublisherCommand, PublisherReply } from "./light-publishers.js";

const all = await LightPublishers.open(Number(process.argv[2]), Number(process.argv[3]));

async function obey(command: PublisherCommand): Promise<number> {
  if (command.act === "publish") await all.add(command.url);
  return all.packets;
}

process.on("message", (command: PublisherCommand) => {
  obey(command).then(
    (packets) => process.send?.({ id: command.id, packets } satisfies PublisherReply),
    (error: unknown) => process.send?.({ id: command.id, packets: 0, error: String(error) } satisfies PublisherReply),
  );
});
process.on("disconnect", () => process.exit(0)); // whoever measures has gone
