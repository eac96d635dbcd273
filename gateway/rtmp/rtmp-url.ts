// `rtmp://host:port/app/stream?key=value` taken apart as an RTMP client needs it.

export type RtmpAddress = {
  readonly scheme: "rtmp" | "rtmps";
  /** Without the brackets of an IPv6 address. */
  readonly host: string;
  readonly port: number;
  readonly app: string;
  /** Stream name with its query: servers read parameters from there. */
  readonly stream: string;
  readonly tcUrl: string;
};

/** The last part of the path is the stream, what is before it the app. @throws TypeError that says what is wrong */
export function parseRtmpUrl(url: string): RtmpAddress {
  const match = /^(rtmps?):\/\/(\[[^\]/?#]+\]|[^:/?#@]+)(?::(\d{1,5}))?\/([^?#]*)(\?[^#]*)?$/i.exec(url);
  if (match === null) throw new TypeError(`not an RTMP address, rtmp://host[:port]/app/stream: ${url}`);
  const [, scheme = "", host = "", portText, path = "", query = ""] = match;
  const slash = path.lastIndexOf("/");
  const app = path.slice(0, Math.max(0, slash));
  const stream = path.slice(slash + 1);
  if (app === "" || stream === "") throw new TypeError(`an RTMP address needs an app and a stream name: ${url}`);
  const isSecure = scheme.toLowerCase() === "rtmps";
  const port = portText === undefined ? (isSecure ? 443 : 1935) : Number(portText);
  if (port < 1 || port > 65_535) throw new TypeError(`port ${port} of ${url} is not in 1..65535`);
  return {
    scheme: isSecure ? "rtmps" : "rtmp",
    host: host.replace(/^\[|\]$/g, ""),
    port,
    app,
    stream: stream + query,
    tcUrl: `${scheme}://${host}:${port}/${app}`,
  };
}
