// What RFC 9725 (WHIP) and the WHEP draft ask of a server, as far as HTTP and SDP show it: one row for each point.

import assert from "node:assert/strict";

import {
  type Answer,
  attribute,
  type Client,
  type Endpoint,
  FRAGMENT_TYPE,
  freshCredentials,
  offerOf,
  SDP,
  sectionsOf,
  sessionOf,
} from "./target.js";

export type Context = {
  readonly client: Client;
  /** A stream that is published all the time by a real client. */
  readonly live: string;
  /** A name that nobody has used yet. */
  readonly fresh: () => string;
};

export type Check = {
  /** Numbers of the points. */
  readonly points: string;
  readonly level: "must" | "should" | "may";
  readonly title: string;
  /** Returns why it cannot be judged on this server. */
  readonly run: (context: Context) => Promise<string | undefined>;
};

/** An offer to either endpoint that is to be accepted: publishers under a fresh name, viewers of the live stream. */
async function create(context: Context, endpoint: Endpoint, offer = offerOf(endpoint), headers = SDP): Promise<Answer> {
  return context.client.post(endpoint, endpoint === "whip" ? context.fresh() : context.live, offer, headers);
}

async function close(context: Context, ...answers: Answer[]): Promise<void> {
  for (const answer of answers) if (answer.status === 201) await context.client.request("DELETE", sessionOf(answer));
}

/** Runs for both endpoints, each with a session of its own that is ended afterwards. */
function withSession(
  act: (context: Context, answer: Answer, session: string, endpoint: Endpoint) => Promise<void>,
): Check["run"] {
  return async (context) => {
    for (const endpoint of BOTH) {
      const answer = await create(context, endpoint);
      expect(answer, [201], endpoint);
      await act(context, answer, sessionOf(answer), endpoint);
      await close(context, answer);
    }
    return undefined;
  };
}

function onBoth(act: (context: Context, endpoint: Endpoint) => Promise<void>): Check["run"] {
  return async (context) => {
    for (const endpoint of BOTH) await act(context, endpoint);
    return undefined;
  };
}

function expect(answer: Answer, statuses: readonly number[], what: string): void {
  assert.ok(
    statuses.includes(answer.status),
    `${what}: ${answer.status} instead of ${statuses.join(" or ")}: ${answer.body.slice(0, 300)}`,
  );
}

function expectRefusal(answer: Answer, what: string): void {
  assert.ok(answer.status >= 400 && answer.status < 500, `${what}: ${answer.status} instead of a refusal`);
}

function tagOf(answer: Answer): string {
  return answer.headers.get("etag") ?? "";
}

function trickle(offer: string, ...candidates: string[]): string {
  return [
    `a=ice-ufrag:${attribute(offer, "ice-ufrag")}`,
    `a=ice-pwd:${attribute(offer, "ice-pwd")}`,
    "m=audio 9 UDP/TLS/RTP/SAVPF 0",
    "a=mid:0",
    ...candidates.map((candidate) => `a=candidate:${candidate}`),
    "",
  ].join("\r\n");
}

function restart(credentials = freshCredentials()): string {
  return [
    "a=ice-options:trickle ice2",
    "a=group:BUNDLE 0 1",
    "m=audio 9 UDP/TLS/RTP/SAVPF 0",
    "a=mid:0",
    `a=ice-ufrag:${credentials.usernameFragment}`,
    `a=ice-pwd:${credentials.password}`,
    "a=candidate:1 1 udp 2113937151 192.0.2.1 51040 typ host generation 1",
    "a=end-of-candidates",
    "",
  ].join("\r\n");
}

const BOTH: readonly Endpoint[] = ["whip", "whep"];
const HOST_CANDIDATE = "1 1 udp 2113937151 192.0.2.1 51040 typ host generation 0";

export const CHECKS: readonly Check[] = [
  {
    points: "1, 39",
    level: "must",
    title: "an offer is answered with 201, its type and the URL of an unguessable session without the stream's name",
    run: onBoth(async (context, endpoint) => {
      const stream = endpoint === "whip" ? context.fresh() : context.live;
      const one = await context.client.post(endpoint, stream, offerOf(endpoint));
      const other = await create(context, endpoint);
      for (const answer of [one, other]) {
        expect(answer, [201], endpoint);
        assert.match(answer.headers.get("content-type") ?? "", /^application\/sdp/);
        assert.match(answer.body, /^v=0\r\n/);
      }
      const [path, last] = [sessionOf(one), sessionOf(other)].map((url) => new URL(url).pathname);
      assert.notEqual(path, last);
      assert.ok((path?.split("/").pop() ?? "").length >= 16, path);
      assert.ok(!path?.includes(stream), path);
      await close(context, one, other);
    }),
  },
  {
    points: "1",
    level: "must",
    title: "the recorded offers of all clients are answered",
    run: onBoth(async (context, endpoint) => {
      const clients =
        endpoint === "whip" ? ["chromium156", "firefox153", "gst"] : ["chromium156", "firefox153", "gst", "ndc", "werift"];
      for (const name of clients) {
        const answer = await create(context, endpoint, offerOf(endpoint, name));
        expect(answer, [201], `${endpoint} ${name}`);
        await close(context, answer);
      }
    }),
  },
  {
    points: "2",
    level: "must",
    title: "another content type, or none, is refused with 415",
    run: onBoth(async (context, endpoint) => {
      for (const type of ["application/json", "text/plain", "application/sdpx", undefined]) {
        const answer = await create(
          context,
          endpoint,
          offerOf(endpoint),
          type === undefined ? ({} as typeof SDP) : { "Content-Type": type },
        );
        expect(answer, [415], `${endpoint} ${type}`);
      }
    }),
  },
  {
    points: "3",
    level: "must",
    title: "parameters after the content type, and capitals in it, are accepted",
    run: onBoth(async (context, endpoint) => {
      for (const type of ["application/sdp; charset=utf-8", "Application/SDP", "application/sdp;x=y"]) {
        const answer = await create(context, endpoint, offerOf(endpoint), { "Content-Type": type });
        expect(answer, [201], `${endpoint} ${type}`);
        await close(context, answer);
      }
    }),
  },
  {
    points: "4",
    level: "must",
    title: "an empty body and a malformed SDP are refused with 400",
    run: onBoth(async (context, endpoint) => {
      const offer = offerOf(endpoint);
      for (const body of [
        "",
        "nonsense",
        "{}",
        "v=0\r\n",
        offer.replace(/a=ice-ufrag:.*/g, "a=ice-ufrag:x"),
        offer.replace("v=0", "v=1"),
      ]) {
        expect(await create(context, endpoint, body), [400], `${endpoint} ${body.slice(0, 20)}`);
      }
    }),
  },
  {
    points: "5, 7",
    level: "must",
    title: "directions, BUNDLE, rtcp-mux, rtcp-mux-only, the same sections in the same order",
    run: withSession(async (_context, answer, _session, endpoint) => {
      const sections = sectionsOf(answer.body);
      const offered = sectionsOf(offerOf(endpoint));
      assert.deepEqual(
        sections.map(({ kind, mid }) => [kind, mid]),
        offered.map(({ kind, mid }) => [kind, mid]),
      );
      const bundled = (attribute(answer.body, "group") ?? "").split(" ");
      assert.equal(bundled[0], "BUNDLE");
      for (const { lines, mid, port } of sections) {
        if (port === 0) continue;
        assert.ok(bundled.includes(mid));
        for (const line of [endpoint === "whip" ? "a=recvonly" : "a=sendonly", "a=rtcp-mux", "a=rtcp-mux-only"]) {
          assert.ok(lines.includes(line), `${endpoint}: ${line}`);
        }
      }
    }),
  },
  {
    points: "6",
    level: "must",
    title: "an offer in the wrong direction is refused, sendrecv accepted",
    run: onBoth(async (context, endpoint) => {
      const right = endpoint === "whip" ? "a=sendonly" : "a=recvonly";
      for (const wrong of [endpoint === "whip" ? "a=recvonly" : "a=sendonly", "a=inactive"]) {
        expectRefusal(await create(context, endpoint, offerOf(endpoint).replaceAll(right, wrong)), `${endpoint} ${wrong}`);
      }
      const answer = await create(context, endpoint, offerOf(endpoint).replaceAll(right, "a=sendrecv"));
      expect(answer, [201], `${endpoint} sendrecv`);
      await close(context, answer);
    }),
  },
  {
    points: "7",
    level: "must",
    title: "a section that cannot be used comes back with port 0, in its place",
    run: onBoth(async (context, endpoint) => {
      const data = "m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\nc=IN IP4 0.0.0.0\r\na=mid:data\r\na=sctp-port:5000\r\n";
      const offer = offerOf(endpoint);
      const credentials = `a=ice-ufrag:${attribute(offer, "ice-ufrag")}\r\na=ice-pwd:${attribute(offer, "ice-pwd")}\r\n`;
      const more = offer.replace(/^m=/m, `${data}${credentials}m=`).replace(/a=group:BUNDLE /, "a=group:BUNDLE data ");
      const answer = await create(context, endpoint, more);
      expect(answer, [201], endpoint);
      const first = sectionsOf(answer.body)[0];
      assert.deepEqual([first?.kind, first?.port, first?.mid], ["application", 0, "data"]);
      assert.ok(!(attribute(answer.body, "group") ?? "").includes("data"));
      await close(context, answer);
    }),
  },
  {
    points: "8",
    level: "must",
    title: "a second audio or video or stream makes the whole POST refused",
    run: async (context) => {
      const offer = offerOf("whip");
      for (const kind of ["audio", "video"]) {
        const section = offer.split(/^(?=m=)/m).find((part) => part.startsWith(`m=${kind}`)) ?? "";
        const second = section.replace(/a=mid:.*\r\n/, "a=mid:9\r\n").replaceAll(/a=ssrc.*\r\n/g, "");
        const more = (offer + second).replace(/(a=group:BUNDLE .*)\r\n/, "$1 9\r\n");
        expect(await create(context, "whip", more), [422, 400], `two ${kind}`);
      }
      expect(await create(context, "whip", offer.replace(/a=msid:\S+/, "a=msid:another")), [422, 400], "two streams");
      return undefined;
    },
  },
  {
    points: "9",
    level: "should",
    title: "no partial success when one section's codecs are unknown",
    run: async (context) => {
      const offer = offerOf("whip").replaceAll(/a=rtpmap:(\d+) (VP8|VP9|H264|AV1|H265)\//g, "a=rtpmap:$1 X-UNKNOWN/");
      expect(await create(context, "whip", offer), [422, 400], "unknown video codecs");
      return undefined;
    },
  },
  {
    points: "10",
    level: "should",
    title: "setup: actpass is answered with a role, active is accepted or refused cleanly",
    run: onBoth(async (context, endpoint) => {
      const answer = await create(context, endpoint);
      expect(answer, [201], "actpass");
      assert.match(attribute(answer.body, "setup") ?? "", /^(passive|active)$/);
      const active = await create(context, endpoint, offerOf(endpoint).replaceAll("a=setup:actpass", "a=setup:active"));
      if (active.status === 201) assert.equal(attribute(active.body, "setup"), "passive");
      else expectRefusal(active, "active");
      await close(context, answer, active);
    }),
  },
  {
    points: "11, 12",
    level: "must",
    title: "all candidates are in the answer, with ICE options, credentials and fingerprint",
    run: withSession(async (_context, answer) => {
      const accepted = sectionsOf(answer.body).filter(({ port }) => port !== 0);
      assert.ok(accepted[0]?.lines.some((line) => line.startsWith("a=candidate:")));
      assert.match(attribute(answer.body, "ice-options") ?? "", /trickle/);
      assert.match(attribute(answer.body, "ice-ufrag") ?? "", /^[A-Za-z0-9+/]{4,256}$/);
      assert.match(attribute(answer.body, "ice-pwd") ?? "", /^[A-Za-z0-9+/]{22,256}$/);
      assert.match(attribute(answer.body, "fingerprint") ?? "", /^sha-256 ([0-9A-F]{2}:){31}[0-9A-F]{2}$/);
      assert.ok(answer.body.includes("a=ice-lite\r\n"));
    }),
  },
  {
    points: "13",
    level: "must",
    title: "GET of endpoint and session succeeds without content",
    run: withSession(async ({ client, live }, _answer, session, endpoint) => {
      for (const url of [client.target.url(endpoint, live), session]) {
        const got = await client.request("GET", url);
        assert.ok(got.status >= 200 && got.status < 300, `${got.status}`);
        assert.equal(got.body, "");
      }
    }),
  },
  {
    points: "14, 15, 16",
    level: "must",
    title: "OPTIONS works on endpoint and session without a token, names the type, and gives no ICE servers away",
    run: withSession(async ({ client, live }, _answer, session, endpoint) => {
      for (const url of [client.target.url(endpoint, live), session]) {
        const headers = { Origin: "http://page.example", "Access-Control-Request-Method": "POST" };
        const options = await client.request("OPTIONS", url, { authorized: false, headers });
        expect(options, [200], url);
        assert.equal(options.headers.get("accept-post"), "application/sdp");
        assert.ok(!(options.headers.get("link") ?? "").includes("ice-server"));
      }
    }),
  },
  {
    points: "17",
    level: "must",
    title: "CORS: what a page may read and send",
    run: withSession(async ({ client, live }, answer, _session, endpoint) => {
      const exposed = (answer.headers.get("access-control-expose-headers") ?? "").toLowerCase();
      for (const name of ["location", "link", "etag"]) assert.ok(exposed.includes(name), exposed);
      const headers = {
        Origin: "http://page.example",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,content-type,if-match",
      };
      const options = await client.request("OPTIONS", client.target.url(endpoint, live), { headers });
      const allowed = (options.headers.get("access-control-allow-headers") ?? "").toLowerCase();
      for (const name of ["authorization", "content-type", "if-match"]) assert.ok(allowed.includes(name), allowed);
      const methods = options.headers.get("access-control-allow-methods") ?? "";
      for (const name of ["POST", "PATCH", "DELETE"]) assert.ok(methods.includes(name), methods);
    }),
  },
  {
    points: "18, 19",
    level: "must",
    title: "DELETE ends the session whatever If-Match says; after it, and for sessions that never were, 404",
    run: withSession(async ({ client }, _answer, session) => {
      expect(await client.request("DELETE", session, { headers: { "If-Match": '"stale"' } }), [200], "DELETE");
      for (const method of ["DELETE", "GET"]) expect(await client.request(method, session), [404], method);
      expect(await client.patch(session, "a=end-of-candidates\r\n", '"x"'), [404], "PATCH");
      const unknown = `${session.slice(0, -4)}AAAA`;
      expect(await client.request("DELETE", unknown), [404], "DELETE of an unknown session");
    }),
  },
  {
    points: "22",
    level: "must",
    title: "the entity tag is strong, quoted and unique",
    run: onBoth(async (context, endpoint) => {
      const answers = [await create(context, endpoint), await create(context, endpoint)];
      for (const answer of answers) assert.match(tagOf(answer), /^"[^"*]+"$/);
      assert.equal(new Set(answers.map(tagOf)).size, 2);
      await close(context, ...answers);
    }),
  },
  {
    points: "23",
    level: "must",
    title: "PATCH of another type is refused with 415, a malformed fragment with 400",
    run: withSession(async ({ client }, answer, session) => {
      const tag = tagOf(answer);
      for (const type of ["application/json", "text/plain", "application/sdp"]) {
        expect(await client.patch(session, "a=end-of-candidates\r\n", tag, type), [415], type);
      }
      for (const body of ["", "nonsense", "a=candidate:1 1 udp\r\n", "a=ice-ufrag:x\r\n"]) {
        expect(await client.patch(session, body, tag), [400], JSON.stringify(body));
      }
      expect(await client.patch(session, "a=end-of-candidates\r\n", tag), [204], "and the session goes on");
    }),
  },
  {
    points: "24, 27",
    level: "must",
    title: "candidates under the right tag: 204 without body and tag; those that cannot be used are skipped",
    run: onBoth(async (context, endpoint) => {
      const offer = offerOf(endpoint);
      const answer = await create(context, endpoint, offer);
      const session = sessionOf(answer);
      for (const candidate of [
        HOST_CANDIDATE,
        "2 1 udp 2113937151 a1b2c3d4-0000-4000-8000-000000000000.local 51040 typ host generation 0",
        "3 1 tcp 1518280447 192.0.2.1 9 typ host tcptype active generation 0",
        "4 1 udp 2113937151 2001:db8::1 51040 typ host generation 0",
      ]) {
        const patched = await context.client.patch(
          session,
          trickle(offer, candidate),
          tagOf(answer),
          `${FRAGMENT_TYPE}; charset=utf-8`,
        );
        expect(patched, [204], candidate);
        assert.equal(patched.body, "");
        assert.equal(patched.headers.get("etag"), null);
      }
      await close(context, answer);
    }),
  },
  {
    points: "25, 26",
    level: "must",
    title: "PATCH without If-Match is refused with 428, with a stale tag with 412",
    run: withSession(async ({ client }, answer, session) => {
      expect(await client.patch(session, "a=end-of-candidates\r\n", undefined), [428], "without");
      for (const stale of ['"stale"', `W/${tagOf(answer)}`]) {
        expect(await client.patch(session, "a=end-of-candidates\r\n", stale), [412], stale);
      }
    }),
  },
  {
    points: "28, 29",
    level: "must",
    title: "ICE restart: new credentials and a new tag; the old tag is stale then",
    run: withSession(async ({ client }, answer, session) => {
      let [tag, fragment] = [tagOf(answer), attribute(answer.body, "ice-ufrag")];
      for (const star of ['"*"', "*"]) {
        const restarted = await client.patch(session, restart(), star);
        expect(restarted, [200], `If-Match: ${star}`);
        assert.match(restarted.headers.get("content-type") ?? "", new RegExp(`^${FRAGMENT_TYPE}`));
        assert.match(tagOf(restarted), /^"[^"*]+"$/);
        assert.notEqual(tagOf(restarted), tag);
        assert.ok(attribute(restarted.body, "ice-pwd") !== undefined);
        assert.notEqual(attribute(restarted.body, "ice-ufrag"), fragment);
        expect(await client.patch(session, "a=end-of-candidates\r\n", tag), [412], "the old tag");
        expect(await client.patch(session, "a=end-of-candidates\r\n", tagOf(restarted)), [204], "the new tag");
        [tag, fragment] = [tagOf(restarted), attribute(restarted.body, "ice-ufrag")];
      }
    }),
  },
  {
    points: "30",
    level: "must",
    title: "a restart that is refused changes nothing",
    run: withSession(async ({ client }, answer, session) => {
      const { usernameFragment } = freshCredentials();
      for (const body of [
        `a=ice-ufrag:${usernameFragment}\r\n`,
        `a=ice-ufrag:${usernameFragment}\r\na=ice-pwd:short\r\n`,
        "junk",
      ]) {
        expectRefusal(await client.patch(session, body, '"*"'), body);
      }
      expect(await client.patch(session, "a=end-of-candidates\r\n", tagOf(answer)), [204], "the old tag");
    }),
  },
  {
    points: "32",
    level: "should",
    title: "PATCHes that overlap are all answered, restarts among them",
    run: withSession(async ({ client }, answer, session) => {
      const trickles = await Promise.all(
        Array.from({ length: 50 }, () => client.patch(session, "a=end-of-candidates\r\n", tagOf(answer))),
      );
      for (const patched of trickles) expect(patched, [204], "candidates");
      const mixed = await Promise.all(
        Array.from({ length: 20 }, (_, index) =>
          index % 4 === 0
            ? client.patch(session, restart(), '"*"')
            : client.patch(session, "a=end-of-candidates\r\n", tagOf(answer)),
        ),
      );
      mixed.forEach((patched, index) => {
        expect(patched, index % 4 === 0 ? [200] : [204, 412], `request ${index}`);
      });
    }),
  },
  {
    points: "33",
    level: "must",
    title: "no redirect but 307; the endpoint without its final slash",
    run: onBoth(async (context, endpoint) => {
      const url = context.client.target.url(endpoint, endpoint === "whip" ? context.fresh() : context.live).replace("/?", "?");
      const answer = await context.client.request("POST", url, { headers: SDP, body: offerOf(endpoint) });
      expect(answer, [201, 307], endpoint);
      await close(context, answer);
    }),
  },
  {
    points: "35",
    level: "must",
    title: "a missing or wrong token is refused with 401 and WWW-Authenticate: Bearer",
    run: async (context) => {
      const { client, live } = context;
      if (client.target.token === undefined) return "this server wants no token";
      const answer = await create(context, "whep");
      const session = sessionOf(answer);
      for (const authorization of [undefined, "Bearer wrong", "Basic abc"]) {
        const headers = { ...SDP, ...(authorization !== undefined && { Authorization: authorization }) };
        const requests = [
          await client.request("POST", client.target.url("whep", live), { authorized: false, headers, body: offerOf("whep") }),
          await client.request("PATCH", session, {
            authorized: false,
            headers: { ...headers, "Content-Type": FRAGMENT_TYPE },
            body: "a=x\r\n",
          }),
          await client.request("DELETE", session, { authorized: false, headers }),
        ];
        for (const refused of requests) {
          expect(refused, [401], String(authorization));
          assert.match(refused.headers.get("www-authenticate") ?? "", /^Bearer/);
        }
      }
      await close(context, answer);
      return undefined;
    },
  },
  {
    points: "36, 37",
    level: "may",
    title: "links: ICE servers with credentials, extensions one by one",
    run: withSession(async (_context, answer) => {
      for (const link of (answer.headers.get("link") ?? "").split(/,\s*(?=<)/).filter((text) => text !== "")) {
        assert.match(link, /^<[^>]+>;.*rel="?[^"]+"?/);
        if (!link.includes("ice-server") || !link.includes("<turn")) continue;
        assert.match(link, /username=.*credential=.*credential-type="password"/);
        assert.ok(!link.includes("%3F"));
      }
    }),
  },
  {
    points: "38",
    level: "must",
    title: "an offer of simulcast is accepted as RFC 8853 says, or refused cleanly",
    run: async (context) => {
      const offer = offerOf("whip").replace(
        /(m=video[\s\S]*?a=sendonly\r\n)/,
        "$1a=rid:a send\r\na=rid:b send\r\na=simulcast:send a;b\r\n",
      );
      const answer = await create(context, "whip", offer);
      if (answer.status === 201) assert.match(answer.body, /a=simulcast:recv/);
      else expectRefusal(answer, "simulcast");
      await close(context, answer);
      return undefined;
    },
  },
  {
    points: "41",
    level: "may",
    title: "refusals are problem documents that say what is wrong",
    run: onBoth(async (context, endpoint) => {
      const refused = await create(context, endpoint, "nonsense");
      assert.match(refused.headers.get("content-type") ?? "", /^application\/problem\+json/);
      const problem = JSON.parse(refused.body) as { type: string; title: string; status: number; detail: string };
      assert.equal(problem.status, refused.status);
      assert.ok(problem.type.length > 0 && problem.title.length > 0 && problem.detail.length > 0);
    }),
  },
  {
    points: "43",
    level: "must",
    title: "WHEP of a stream that is not live: 409 and Retry-After; it works once somebody publishes",
    run: async (context) => {
      const { client } = context;
      const stream = context.fresh();
      const refused = await client.post("whep", stream, offerOf("whep"));
      expect(refused, [409], "nothing is live");
      assert.match(refused.headers.get("retry-after") ?? "", /^\d+$/);
      const published = await client.post("whip", stream, offerOf("whip"));
      const played = await client.post("whep", stream, offerOf("whep"));
      expect(played, [201], "after the publish");
      await close(context, played, published);
      return undefined;
    },
  },
  {
    points: "44, 45",
    level: "may",
    title: "a viewer that asks for the server's offer gets it, or is refused cleanly",
    run: async (context) => {
      const { client, live } = context;
      const answer = await client.request("POST", client.target.url("whep", live), { headers: SDP, body: "" });
      if (answer.status === 406) {
        assert.match(answer.headers.get("content-type") ?? "", /^application\/sdp; ?valid-until="/);
        assert.ok(answer.headers.get("location") !== null);
      } else {
        expectRefusal(answer, "an empty offer");
      }
      return undefined;
    },
  },
  {
    points: "46",
    level: "should",
    title: "HEAD of the WHEP endpoint names the type",
    run: async ({ client, live }) => {
      const head = await client.request("HEAD", client.target.url("whep", live));
      expect(head, [200], "HEAD");
      assert.match(head.headers.get("content-type") ?? "", /^application\/sdp/);
      return undefined;
    },
  },
  {
    points: "47",
    level: "must",
    title: "WHEP: one stream id in all sections, at most one audio and one video",
    run: async (context) => {
      const answer = await create(context, "whep");
      expect(answer, [201], "whep");
      const accepted = sectionsOf(answer.body).filter(({ port }) => port !== 0);
      const ids = accepted.map(
        ({ lines }) =>
          lines
            .find((line) => line.startsWith("a=msid:"))
            ?.slice(7)
            .split(" ")[0],
      );
      assert.equal(new Set(ids).size, 1);
      assert.ok(ids[0] !== undefined);
      for (const kind of ["audio", "video"]) assert.ok(accepted.filter((section) => section.kind === kind).length <= 1);
      await close(context, answer);
      return undefined;
    },
  },
  {
    points: "48, 49",
    level: "may",
    title: "server-sent events and layers: offered by a link, or refused cleanly",
    run: withSession(async ({ client }, answer, session, endpoint) => {
      if (endpoint === "whip" || (answer.headers.get("link") ?? "").includes("urn:ietf:params:whep:ext")) return;
      for (const path of ["sse", "layer"]) {
        const headers = { "Content-Type": "application/json" };
        expectRefusal(await client.request("POST", `${session}/${path}`, { headers, body: '["active"]' }), path);
      }
      expectRefusal(await client.request("POST", session, { headers: SDP, body: offerOf("whep") }), "POST to the session");
    }),
  },
  {
    points: "busy",
    level: "must",
    title: "a second publisher is refused with a reason while the first one sends",
    run: async (context) => {
      const answer = await context.client.post("whip", context.live, offerOf("whip"));
      expect(answer, [409], "the live stream");
      assert.ok(answer.body.length > 0);
      return undefined;
    },
  },
  {
    points: "guessing",
    level: "must",
    title: "guessed sessions are not found, and hostile ones do no harm",
    run: async (context) => {
      const answer = await create(context, "whep");
      const session = sessionOf(answer);
      const folder = session.slice(0, session.lastIndexOf("/") + 1);
      for (const id of ["a", "..%2f..%2f", "%00", "x".repeat(200), "x".repeat(5000), "constructor", "__proto__"]) {
        const deleted = await context.client.request("DELETE", folder + id);
        assert.ok(deleted.status >= 400 && deleted.status < 500, `${id.slice(0, 20)}: ${deleted.status}`);
      }
      expect(await context.client.request("GET", session), [200, 204], "the session goes on");
      await close(context, answer);
      return undefined;
    },
  },
];
