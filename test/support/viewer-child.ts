// A process full of WHEP viewers, steered over IPC by viewers.ts.

import type { ViewerSession } from "./viewer-session.js";
import type { ViewerCommand, ViewerReply, ViewerStack } from "./viewers.js";

const sessions = new Map<number, ViewerSession>();

async function make(stack: ViewerStack, keep: boolean, transport: "udp" | "tcp" | "any" | undefined): Promise<ViewerSession> {
  if (stack === "werift") return new (await import("./werift-viewer.js")).WeriftViewer(keep);
  if (stack === "light")
    return new (await import("./light-viewer.js")).LightViewer(undefined, transport === "tcp" ? "tcp" : "udp");
  return new (await import("./native-viewer.js")).NativeViewer(keep, transport);
}

async function obey(command: ViewerCommand): Promise<unknown> {
  if (command.act === "join") {
    const session = await make(command.stack, command.keep, command.transport);
    sessions.set(command.viewer, session);
    await session.join(command.url);
    return undefined;
  }
  const session = sessions.get(command.viewer);
  if (session === undefined) throw new Error(`no viewer ${command.viewer}`);
  switch (command.act) {
    case "look":
      return { state: session.state, times: session.times, tally: session.receiver.tally, resource: session.resource };
    case "take":
      return session.receiver.kept;
    case "nack":
      return session.nack?.(command.sequenceNumbers);
    case "leave":
      sessions.delete(command.viewer);
      return session.leave(command.politely);
  }
}

process.on("message", (command: ViewerCommand) => {
  obey(command).then(
    (value) => process.send?.({ id: command.id, value } satisfies ViewerReply),
    (error: unknown) => process.send?.({ id: command.id, error: String(error) } satisfies ViewerReply),
  );
});
process.on("disconnect", () => process.exit(0)); // the test has gone
process.on("uncaughtException", (error) => console.error("viewer:", error)); // a stack's own bug is not the test's
