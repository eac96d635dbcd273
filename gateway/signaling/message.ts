// The JSON of signaling (docs/http.md, "Rooms"): requests checked once at the door, and the errors that answer them.

/** A request of a client. Names that are undefined were not given: a participant means its own. */
export type RoomRequest =
  | { readonly action: "join"; readonly room: string; readonly display: string; readonly resume: string | undefined }
  | ({ readonly action: "publish" | "leave" } & OwnNames)
  | ({ readonly action: "control"; readonly call: string; readonly data: unknown } & OwnNames);

type OwnNames = { readonly room: string | undefined; readonly display: string | undefined };

export type RoomErrorCode =
  | "bad-request" // no JSON, no tid, a field that makes no sense
  | "binary"
  | "unknown-action"
  | "taken" // somebody of that name is in the room
  | "reserved" // the room's mixed stream has that name
  | "not-joined"
  | "joined-already"
  | "forbidden"
  | "room-full"
  | "too-many-rooms"
  | "too-many-joins" // of one address
  | "too-many-messages" // of one socket
  | "too-large";

/** A request that is not granted; the reason is shown to the one who asked. */
export class RoomError extends Error {
  override readonly name = "RoomError";
  readonly code: RoomErrorCode;

  constructor(code: RoomErrorCode, message: string) {
    super(message);
    this.code = code;
  }
}

/** Chosen by the client to find its answer: a text, or a number as some write it. */
export type TransactionId = string | number;

/** The stream of a room that is mixed of all others: no participant may be called so. */
export const MIX_NAME = "merge";

/** Bytes of a message: a control message may carry a session description, not a file. */
export const MAX_MESSAGE = 64 << 10;
/** Characters of a room's or participant's name: they become app and stream, labels and log fields. */
const MAX_NAME = 64;
/** Characters of what is only handed on or given back. */
const MAX_TID = 128;
const MAX_CALL = 256;
const MAX_RESUME = 128;

/** What a message holds as far as it could be read, so that also the answer to nonsense finds its request. */
export type Envelope = { readonly tid: TransactionId | undefined; readonly action: string | undefined; readonly fields: Fields };
type Fields = Readonly<Record<string, unknown>>;

/** @throws RoomError `bad-request` when it is no JSON object */
export function parseEnvelope(text: string): Envelope {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw new RoomError("bad-request", "The message is no JSON.");
  }
  if (!isObject(value)) throw new RoomError("bad-request", 'The message must be an object: {"tid":…,"msg":{"action":…}}.');
  const { tid, msg } = value;
  const isTid = (typeof tid === "string" && tid.length <= MAX_TID) || (typeof tid === "number" && Number.isFinite(tid));
  const fields = isObject(msg) ? msg : {};
  const { action } = fields;
  return { tid: isTid ? tid : undefined, action: typeof action === "string" ? action : undefined, fields };
}

/** @throws RoomError `bad-request`, `unknown-action`, `reserved` */
export function parseRequest({ tid, action, fields }: Envelope): RoomRequest {
  if (tid === undefined)
    throw new RoomError("bad-request", `tid: a text of at most ${MAX_TID} characters, or a number, expected.`);
  switch (action) {
    case "join": {
      const [room, display, resume] = [fields["room"], fields["display"], fields["resume"]];
      if (resume !== undefined && (typeof resume !== "string" || resume.length > MAX_RESUME)) {
        throw new RoomError("bad-request", "resume: the text that an earlier join was answered with expected.");
      }
      return { action, room: checkRoom(room), display: checkDisplay(display), resume };
    }
    case "publish":
    case "leave":
      return { action, ...ownNames(fields) };
    case "control": {
      const call = fields["call"];
      if (typeof call !== "string" || call.length > MAX_CALL) {
        throw new RoomError("bad-request", `call: a text of at most ${MAX_CALL} characters expected.`);
      }
      return { action, ...ownNames(fields), call, data: fields["data"] };
    }
    default:
      throw new RoomError(
        "unknown-action",
        `${action === undefined ? "msg.action is missing" : `The action ${JSON.stringify(action.slice(0, 40))} is not known`}; known are join, publish, control, leave.`,
      );
  }
}

/** What is sent for an error. */
export function writeError(error: RoomError, { tid, action }: Pick<Envelope, "tid" | "action">): string {
  const request = action === undefined ? undefined : action.slice(0, 40);
  return JSON.stringify({ tid, msg: { action: "error", request, code: error.code, error: error.message } });
}

/** A room's name is an app of every protocol: what ends or splits a URL's path is no part of it. */
function checkRoom(value: unknown): string {
  const room = checkName("room", value);
  if (/[/\\?#%&@]/.test(room)) throw new RoomError("bad-request", "room: / \\ ? # % & @ are no part of a room's name.");
  return room;
}

/** A display name is a stream's name and is shown to people: all may stand in it that is text. */
function checkDisplay(value: unknown): string {
  const display = checkName("display", value);
  if (display === MIX_NAME)
    throw new RoomError("reserved", `The name "${MIX_NAME}" is the room's own mixed stream: choose another.`);
  return display;
}

function checkName(key: "room" | "display", value: unknown): string {
  if (typeof value !== "string" || value.trim() === "") throw new RoomError("bad-request", `${key}: a name expected.`);
  if (value.length > MAX_NAME) throw new RoomError("bad-request", `${key}: longer than ${MAX_NAME} characters.`);
  if (NOT_IN_NAMES.test(value)) throw new RoomError("bad-request", `${key}: holds a character that no name may hold.`);
  if (value.split(/[/\\]/).includes("..")) throw new RoomError("bad-request", `${key}: ".." is no part of a name.`);
  return value;
}

function ownNames(fields: Fields): OwnNames {
  const own = (key: "room" | "display"): string | undefined => {
    const value = fields[key];
    if (value === undefined || value === null) return undefined;
    if (typeof value !== "string") throw new RoomError("bad-request", `${key}: a name expected.`);
    return value;
  };
  return { room: own("room"), display: own("display") };
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** Control characters, halves of a pair, line separators, and what turns the direction of the text around a name. */
const NOT_IN_NAMES = /[\p{Cc}\p{Cs}\u2028\u2029\u202a-\u202e\u2066-\u2069\ufffd]/u;
