// Runs inside Chromium, put in by chromium.ts: WHEP viewers of its own, independent of the page, that watch time code, flash and beep.
// Reads the time code as scripts/test-picture.ts paints it.

(() => {
  const CELLS = 32;
  const KNOWN = [1, 0, 1, 0, 0, 1, 0, 1];
  const FLASH = { left: 0.395, top: 0.395, width: 0.21, height: 0.21 };

  function crc8(number) {
    let crc = 0xff;
    for (const byte of [number >> 8, number & 0xff]) {
      crc ^= byte;
      for (let bit = 0; bit < 8; bit++) crc = ((crc << 1) ^ (crc & 0x80 ? 0x07 : 0)) & 0xff;
    }
    return crc;
  }

  function parseTimeCode(levels) {
    const at = (index) => levels[index < 4 ? index : CELLS - 8 + index];
    let white = 0;
    let black = 0;
    KNOWN.forEach((bit, index) => {
      if (bit === 1) white += at(index) / 4;
      else black += at(index) / 4;
    });
    if (white - black < 60) return undefined;
    const bits = levels.map((level) => (level > (white + black) / 2 ? 1 : 0));
    if (KNOWN.some((bit, index) => bits[index < 4 ? index : CELLS - 8 + index] !== bit)) return undefined;
    const value = (from, to) => bits.slice(from, to).reduce((sum, bit) => sum * 2 + bit, 0);
    const number = value(4, 20);
    return value(20, 28) === crc8(number) ? number : undefined;
  }

  /** Watches a video element: one row for each picture shown. */
  class PictureWatch {
    rows = [];
    constructor(video) {
      const canvas = new OffscreenCanvas(CELLS * 4, 8);
      const context = canvas.getContext("2d", { willReadFrequently: true });
      const look = (now, metadata) => {
        video.requestVideoFrameCallback(look);
        const { videoWidth: width, videoHeight: height } = video;
        if (width === 0) return;
        // The squares above, the flash box below, in one small picture: reading back is what costs.
        context.drawImage(video, 0, 0, width, width / CELLS, 0, 0, CELLS * 4, 4);
        context.drawImage(video, FLASH.left * width, FLASH.top * height, FLASH.width * width, FLASH.height * height, 0, 4, 4, 4);
        const { data } = context.getImageData(0, 0, CELLS * 4, 8);
        const green = (x, y) => data[(y * CELLS * 4 + x) * 4 + 1];
        const levels = Array.from({ length: CELLS }, (_, cell) => (green(cell * 4 + 1, 1) + green(cell * 4 + 2, 2)) / 2);
        this.rows.push({
          shownAt: now,
          expectedAt: metadata.expectedDisplayTime,
          receivedAt: metadata.receiveTime,
          rtpTime: metadata.rtpTimestamp,
          frameNumber: parseTimeCode(levels),
          isFlash: green(2, 6) > 125,
          width,
          height,
        });
      };
      video.requestVideoFrameCallback(look);
    }
  }

  const WORKLET = `
    registerProcessor("onsets", class extends AudioWorkletProcessor {
      quiet = 0;
      process([input]) {
        const samples = input[0];
        if (samples === undefined) return true;
        for (let index = 0; index < samples.length; index++) {
          if (Math.abs(samples[index]) < 0.02) this.quiet++;
          else {
            if (this.quiet > sampleRate / 5) this.port.postMessage(currentTime + index / sampleRate);
            this.quiet = 0;
          }
        }
        return true;
      }
    });`;

  let audioContext;
  async function beepContext() {
    if (audioContext === undefined) {
      audioContext = new AudioContext({ latencyHint: "interactive", sampleRate: 48000 });
      await audioContext.audioWorklet.addModule(URL.createObjectURL(new Blob([WORKLET], { type: "text/javascript" })));
    }
    await audioContext.resume();
    return audioContext;
  }

  async function watchBeeps(stream, found) {
    const audioContext = await beepContext();
    const node = new AudioWorkletNode(audioContext, "onsets");
    const source = audioContext.createMediaStreamSource(stream);
    source.connect(node);
    const silent = new GainNode(audioContext, { gain: 0 });
    node.connect(silent).connect(audioContext.destination);
    node.port.onmessage = ({ data }) => {
      const { contextTime, performanceTime } = audioContext.getOutputTimestamp();
      found.push(performanceTime + (data - contextTime) * 1000);
    };
    return [source, node, silent]; // referenced by the viewer
  }

  class ProbeViewer {
    times = {};
    beeps = [];
    constructor() {
      this.connection = new RTCPeerConnection();
      this.video = document.createElement("video");
      Object.assign(this.video, { autoplay: true, muted: true, playsInline: true, width: 320 });
      this.video.style.cssText = "position:fixed;bottom:0;right:0;width:320px;z-index:9";
      document.body.append(this.video);
      this.watch = new PictureWatch(this.video);
      this.stream = new MediaStream();
      this.connection.ontrack = ({ track }) => {
        this.stream.addTrack(track);
        this.video.srcObject = this.stream;
      };
      this.connection.onconnectionstatechange = () => {
        if (this.connection.connectionState === "connected") this.times.connected ??= performance.now();
      };
    }

    async join(url) {
      const { connection } = this;
      connection.addTransceiver("video", { direction: "recvonly" });
      connection.addTransceiver("audio", { direction: "recvonly" });
      await connection.setLocalDescription();
      this.times.posted = performance.now();
      const response = await fetch(url, {
        method: "POST",
        headers: { "Content-Type": "application/sdp" },
        body: connection.localDescription.sdp,
      });
      if (response.status !== 201) throw new Error(`WHEP ${response.status}: ${await response.text()}`);
      const location = response.headers.get("location");
      this.resource = location === null ? undefined : new URL(location, url).href;
      await connection.setRemoteDescription({ type: "answer", sdp: await response.text() });
      this.times.answered = performance.now();
    }

    /**
     * Sends a flash and a beep made at the same moment through a peer connection inside this page: the yardstick for lip sync. Not a
     * media file's captureStream: its two tracks leave the element up to 170 ms apart (Chromium 156).
     *
     * @param isDirect true: no peer connection in between, to find out what the source and the meter add
     */
    async loopback(isDirect) {
      const context = await beepContext();
      const canvas = document.createElement("canvas");
      Object.assign(canvas, { width: 320, height: 180 });
      const drawing = canvas.getContext("2d");
      const tone = new OscillatorNode(context, { frequency: 1000 });
      const gain = new GainNode(context, { gain: 0 });
      const destination = new MediaStreamAudioDestinationNode(context);
      tone.connect(gain).connect(destination);
      tone.start();
      let picture = 0;
      const draw = () => {
        const isFlash = picture++ % 25 < 2;
        drawing.fillStyle = isFlash ? "white" : `rgb(0 0 ${picture % 50})`;
        drawing.fillRect(0, 0, canvas.width, canvas.height);
        gain.gain.setValueAtTime(isFlash ? 0.5 : 0, context.currentTime);
      };
      const timer = setInterval(draw, 40);
      const sender = new RTCPeerConnection();
      this.stopSource = () => {
        clearInterval(timer);
        tone.stop();
        sender.close();
      };
      const captured = new MediaStream([...canvas.captureStream().getTracks(), ...destination.stream.getTracks()]);
      if (isDirect) {
        this.stream = captured;
        this.video.srcObject = captured;
        return;
      }
      for (const track of captured.getTracks()) sender.addTrack(track, captured); // one stream: only then are lips aligned
      const preferred = RTCRtpReceiver.getCapabilities("video").codecs.filter(({ mimeType }) => /H264/i.test(mimeType));
      for (const transceiver of sender.getTransceivers()) {
        if (transceiver.sender.track.kind === "video") transceiver.setCodecPreferences(preferred);
      }
      sender.onicecandidate = ({ candidate }) => candidate && this.connection.addIceCandidate(candidate);
      this.connection.onicecandidate = ({ candidate }) => candidate && sender.addIceCandidate(candidate);
      await sender.setLocalDescription();
      await this.connection.setRemoteDescription(sender.localDescription);
      await this.connection.setLocalDescription();
      await sender.setRemoteDescription(this.connection.localDescription);
    }

    async listen() {
      this.audioNodes ??= await watchBeeps(this.stream, this.beeps);
    }

    async close() {
      this.connection.close();
      this.stopSource?.();
      for (const node of this.audioNodes ?? []) node.disconnect();
      this.video.remove();
      if (this.resource !== undefined) await fetch(this.resource, { method: "DELETE" });
    }
  }

  async function statistics(connection) {
    const out = {};
    const report = await connection.getStats();
    for (const entry of report.values()) {
      if (entry.type === "inbound-rtp") out[entry.kind] = { ...entry };
      if (entry.type === "candidate-pair" && entry.nominated) out.pair = { ...entry };
    }
    return out;
  }

  const viewers = new Map();
  window.__probe = {
    async join(id, url) {
      const viewer = new ProbeViewer();
      viewers.set(id, viewer);
      await viewer.join(url);
    },
    async loopback(id, isDirect) {
      const viewer = new ProbeViewer();
      viewers.set(id, viewer);
      await viewer.loopback(isDirect);
    },
    listen: (id) => viewers.get(id).listen(),
    async close(id) {
      const viewer = viewers.get(id);
      viewers.delete(id);
      await viewer.close();
    },
    statistics: (id) => statistics(viewers.get(id).connection),
    /** Everything seen since the last call. */
    take(id) {
      const { watch, times, beeps, connection } = viewers.get(id);
      return { pictures: watch.rows.splice(0), beeps: beeps.splice(0), times: { ...times }, state: connection.connectionState };
    },
    /** Watches a video element of the page itself; read it by `take` like a viewer. */
    adopt(id, video, connection) {
      viewers.set(id, { watch: new PictureWatch(video), times: {}, beeps: [], connection, close: async () => {} });
    },
    pageStatistics: (connection) => statistics(connection),
  };
})();
