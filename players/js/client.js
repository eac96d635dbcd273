// The client library: what a page of your own imports. docs/client.md tells how to use it.

export { CaptureError, capture, captureObstacle, listDevices, release, resize } from "./capture.js";
export { LocalMedia } from "./local-media.js";
export { Participant, RoomClient } from "./room-client.js";
export { RoomSocket, SignalingRefusal } from "./room-socket.js";
export { httpSignaling } from "./signaling.js";
export { receivedLevel, SpeakerChoice, sentLevel } from "./speaker.js";
export { WhepClient } from "./whep-client.js";
export { sendableCodecs, WhipClient } from "./whip-client.js";
