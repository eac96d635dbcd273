// Media messages of one publisher (or of the server that is played from) to frames.

import { ProtocolError } from "../media/errors.js";
import { FlvFrameReader, type FrameReceiver } from "../media/flv-frames.js";
import { AmfObject } from "./amf.js";
import { readAmf0Prefix } from "./amf0.js";
import { MESSAGE, parseMessage, type RtmpMessage, splitAggregate } from "./message.js";

export class MediaReader {
  readonly #frames: FlvFrameReader;

  constructor(receiver: FrameReceiver) {
    this.#frames = new FlvFrameReader(receiver);
  }

  /** Takes audio, video, data and aggregates; others do nothing. @throws ProtocolError */
  read(message: RtmpMessage): void {
    switch (message.kind) {
      case "audio":
        this.#frames.audio(message.timestamp, message.body);
        return;
      case "video":
        this.#frames.video(message.timestamp, message.body);
        return;
      case "data":
        this.#readData(message.timestamp, message.amf0);
        return;
      case "aggregate":
        for (const part of splitAggregate(message.streamId, message.timestamp, message.body)) {
          if (part.type === MESSAGE.AGGREGATE) throw new ProtocolError("message-aggregate", "an aggregate inside an aggregate");
          if (part.type >= MESSAGE.AUDIO && part.type <= MESSAGE.DATA_AMF0) this.read(parseMessage(part));
        }
    }
  }

  #readData(timestamp: number, amf0: Buffer): void {
    const { values, end } = readAmf0Prefix(amf0, 1);
    const body = values[0] === "@setDataFrame" ? amf0.subarray(end) : amf0;
    // Read whole, although it is passed on as bytes: viewers are not to be handed what makes no sense.
    const { values: metadata, end: metadataEnd } = readAmf0Prefix(body, 2);
    if (metadata[0] === "onMetaData" && metadata[1] instanceof AmfObject)
      this.#frames.data(timestamp, body.subarray(0, metadataEnd));
  }
}
