// Camera, microphone and screen, and plain words for every way in which a browser may refuse them.

/**
 * @typedef {object} Wish
 * @property {"camera" | "screen"} source
 * @property {string} camera device id; empty: any; `none`: no picture
 * @property {string} microphone device id; empty: any; `none`: no sound
 * @property {number} height lines of the picture, 16 : 9
 * @property {number} frameRate
 */

/** A refusal with a title and a text for people. */
export class CaptureError extends Error {
  constructor(title, message) {
    super(message);
    this.title = title;
  }
}

/** @returns {{ title: string, text: string } | undefined} why this page can never have a camera, or undefined */
export function captureObstacle({ protocol, hostname, port, pathname } = window.location) {
  if (navigator.mediaDevices?.getUserMedia !== undefined) return undefined;
  if (window.isSecureContext !== false) {
    return { title: "This browser offers no camera", text: "A current Chrome, Edge, Firefox or Safari does." };
  }
  const here = port || "80";
  return {
    title: "Browsers give camera and screen only to pages from https or localhost",
    text:
      `This one came from ${protocol}//${hostname}. Turn on http_server { https { enabled on; } } and open ` +
      `https://${hostname}:8088${pathname}, or run “ssh -L ${here}:localhost:${here} ${hostname}” here ` +
      `and open http://localhost:${here}${pathname}.`,
  };
}

/**
 * Opens what is wished for. A camera or microphone that does not exist is left out, when the other one is there.
 *
 * @param {Wish} wish
 * @returns {Promise<{ stream: MediaStream, missing?: "camera" | "microphone" }>}
 * @throws {CaptureError}
 */
export async function capture(wish) {
  const obstacle = captureObstacle();
  if (obstacle !== undefined) throw new CaptureError(obstacle.title, obstacle.text);
  if (wish.source === "screen") return await captureScreen(wish);
  const video = wish.camera !== "none" && { ...sizeOf(wish), ...chosen(wish.camera) };
  const audio = wish.microphone !== "none" && { channelCount: { ideal: 2 }, ...chosen(wish.microphone) };
  if (!video && !audio) throw new CaptureError("Neither camera nor microphone is chosen", "Choose at least one of them.");
  try {
    return { stream: await navigator.mediaDevices.getUserMedia({ video, audio }) };
  } catch (error) {
    if (error.name !== "NotFoundError" || !video || !audio) throw explained(error, wish);
    return (await oneOf(video, audio)) ?? Promise.reject(explained(error, wish));
  }
}

/** @returns {Promise<{ stream: MediaStream, missing: "camera" | "microphone" } | undefined>} */
async function oneOf(video, audio) {
  for (const [missing, wish] of /** @type {const} */ ([
    ["microphone", { video }],
    ["camera", { audio }],
  ])) {
    try {
      return { stream: await navigator.mediaDevices.getUserMedia(wish), missing };
    } catch {
      // The other one may be there.
    }
  }
  return undefined;
}

/** @returns {Promise<{ stream: MediaStream, missing?: "microphone" }>} */
async function captureScreen(wish) {
  if (navigator.mediaDevices.getDisplayMedia === undefined) {
    throw new CaptureError("This browser cannot show its screen", "Browsers of phones cannot; use the camera, or a computer.");
  }
  let stream;
  try {
    stream = await navigator.mediaDevices.getDisplayMedia({ video: sizeOf(wish), audio: true });
  } catch (error) {
    throw explained(error, wish);
  }
  for (const track of stream.getVideoTracks()) track.contentHint = "detail"; // text stays sharp, at the cost of frames
  if (stream.getAudioTracks().length > 0 || wish.microphone === "none") return { stream };
  // No sound was shared with the screen: the speaker's microphone then.
  try {
    const voice = await navigator.mediaDevices.getUserMedia({ audio: chosen(wish.microphone) });
    for (const track of voice.getTracks()) stream.addTrack(track);
    return { stream };
  } catch {
    return { stream, missing: "microphone" };
  }
}

function sizeOf({ height, frameRate }) {
  return { width: { ideal: Math.round((height * 16) / 9) }, height: { ideal: height }, frameRate: { ideal: frameRate } };
}

function chosen(id) {
  return id === "" ? {} : { deviceId: { exact: id } };
}

/** Asks the running camera for another size; what it cannot do it comes near to. */
export async function resize(stream, wish) {
  for (const track of stream.getVideoTracks()) await track.applyConstraints(sizeOf(wish)).catch(() => {});
}

export function release(stream) {
  for (const track of stream?.getTracks() ?? []) track.stop();
}

/** @returns {Promise<{ cameras: MediaDeviceInfo[], microphones: MediaDeviceInfo[] }>} names are empty until the user has allowed one */
export async function listDevices() {
  const devices = (await navigator.mediaDevices?.enumerateDevices?.().catch(() => [])) ?? [];
  const of = (kind) => devices.filter((device) => device.kind === kind && device.deviceId !== "");
  return { cameras: of("videoinput"), microphones: of("audioinput") };
}

function explained(error, { source, camera, microphone }) {
  const what =
    source === "screen"
      ? "the screen"
      : camera === "none"
        ? "the microphone"
        : microphone === "none"
          ? "the camera"
          : "camera and microphone";
  switch (error.name) {
    case "NotAllowedError":
    case "SecurityError":
      return source === "screen"
        ? new CaptureError("No screen was chosen", "Press the button again and choose a screen, a window or a tab.")
        : new CaptureError(
            `This page may not use ${what}`,
            "Allow it in the browser: the sign left of the address, or the system's privacy settings. Then press the button again.",
          );
    case "NotFoundError":
      return new CaptureError(
        `No ${what.replace("the ", "").replace(" and ", " or ")} was found`,
        "Plug one in, or publish your screen.",
      );
    case "OverconstrainedError":
      return new CaptureError("The chosen device is no longer there", "Choose another one from the list.");
    case "NotReadableError":
    case "AbortError":
      return new CaptureError(
        `The browser cannot open ${what}`,
        "Another program may be using it: close that one and try again.",
      );
    default:
      return new CaptureError(`The browser does not give ${what}`, String(error.message || error.name));
  }
}
