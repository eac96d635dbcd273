import assert from "node:assert/strict";
import { test } from "node:test";

type PageLocation = Pick<URL, "protocol" | "host" | "hostname" | "search" | "pathname">;

const { endpointUrl, legacyApi, legacyUrl, mediaUrl, streamOf, wantsAutostart } = (await import(
  new URL("../../../players/js/page-url.js", import.meta.url).href
)) as {
  endpointUrl(kind: "whep" | "whip", location: PageLocation): string;
  mediaUrl(location: PageLocation): string;
  legacyUrl(location: PageLocation): string;
  legacyApi(url: string, location: PageLocation): string;
  streamOf(address: string, base?: string): { app: string; stream: string; vhost?: string } | undefined;
  wantsAutostart(search: string): boolean;
};

const HERE = "http://gw.example:8080/players/whep.html";

const PAGES: readonly [page: string, endpoint: string][] = [
  [HERE, "http://gw.example:8080/rtc/v1/whep/?app=live&stream=livestream"],
  ["https://gw.example/players/whep.html", "https://gw.example/rtc/v1/whep/?app=live&stream=livestream"],
  ["https://site.example/media/players/whep.html", "https://site.example/media/rtc/v1/whep/?app=live&stream=livestream"],
  [`${HERE}?autostart=true&app=a&stream=b`, "http://gw.example:8080/rtc/v1/whep/?app=a&stream=b"],
  [`${HERE}?api=1985`, "http://gw.example:1985/rtc/v1/whep/?app=live&stream=livestream"],
  [`${HERE}?port=8081`, "http://gw.example:8081/rtc/v1/whep/?app=live&stream=livestream"],
  [`${HERE}?server=other.example`, "http://other.example:1985/rtc/v1/whep/?app=live&stream=livestream"],
  [`${HERE}?server=other.example&schema=https`, "https://other.example:1990/rtc/v1/whep/?app=live&stream=livestream"],
  [`${HERE}?server=fd00::1&api=80`, "http://[fd00::1]:80/rtc/v1/whep/?app=live&stream=livestream"],
  [`${HERE}?path=/my/whep`, "http://gw.example:8080/my/whep?app=live&stream=livestream"],
  [
    `${HERE}?vhost=v.example&eip=192.0.2.1&vcodec=h264`,
    "http://gw.example:8080/rtc/v1/whep/?app=live&stream=livestream&vhost=v.example&eip=192.0.2.1&vcodec=h264",
  ],
  [
    `${HERE}?stream=a%20b%26c&token=x%3Dy&token=z`,
    "http://gw.example:8080/rtc/v1/whep/?app=live&stream=a+b%26c&token=x%3Dy&token=z",
  ],
  ["file:///tmp/players/whep.html", "http://127.0.0.1:1985/rtc/v1/whep/?app=live&stream=livestream"],
];

for (const [page, endpoint] of PAGES) {
  test(`from ${page}`, () => assert.equal(endpointUrl("whep", new URL(page)), endpoint));
}

const FLV = "http://gw.example:8080/players/srs_player.html";

const MEDIA: readonly [page: string, media: string][] = [
  [FLV, "http://gw.example:8080/live/livestream.flv"],
  [`${FLV}?stream=evening`, "http://gw.example:8080/live/evening.flv"],
  [`${FLV}?app=a&stream=b.flv&autostart=true&only=audio`, "http://gw.example:8080/a/b.flv?only=audio"],
  [`${FLV}?stream=x.m3u8`, "http://gw.example:8080/live/x.m3u8"],
  [`${FLV}?schema=ws`, "ws://gw.example:8080/live/livestream.flv"],
  [`${FLV}?schema=wss&server=other.example`, "wss://other.example:8088/live/livestream.flv"],
  [`${FLV}?server=fd00::1&port=80`, "http://[fd00::1]:80/live/livestream.flv"],
  [`${FLV}?stream=a%20b%26c.flv&vhost=v`, "http://gw.example:8080/live/a%20b%26c.flv?vhost=v"],
  [`${FLV}?app=one/two`, "http://gw.example:8080/one/two/livestream.flv"],
  ["https://site.example/media/players/srs_player.html", "https://site.example/media/live/livestream.flv"],
];

for (const [page, media] of MEDIA) {
  test(`from ${page}`, () => assert.equal(mediaUrl(new URL(page)), media));
}

const PLAYER = "http://gw.example:8080/players/rtc_player.html";

const LEGACY: readonly [page: string, url: string, api: string][] = [
  [PLAYER, "webrtc://gw.example/live/livestream", "http://gw.example:8080/"],
  [`${PLAYER}?app=a&stream=b%20c&k=v`, "webrtc://gw.example/a/b%20c?k=v", "http://gw.example:8080/"],
  [`${PLAYER}?api=1985&vhost=v`, "webrtc://gw.example:1985/live/livestream?vhost=v", "http://gw.example:1985/"],
  [`${PLAYER}?server=other.example`, "webrtc://other.example/live/livestream", "http://other.example:1985/"],
  [`${PLAYER}?server=other.example&schema=https`, "webrtc://other.example/live/livestream", "https://other.example:1990/"],
  [`${PLAYER}?server=fd00::1&port=80`, "webrtc://[fd00::1]:80/live/livestream", "http://[fd00::1]:80/"],
  ["https://site.example/media/players/rtc_player.html", "webrtc://site.example/live/livestream", "https://site.example/media/"],
];

for (const [page, url, api] of LEGACY) {
  test(`older signaling from ${page}`, () => {
    assert.equal(legacyUrl(new URL(page)), url);
    assert.equal(legacyApi(url, new URL(page)), api);
  });
}

test("an address of any page tells its stream", () => {
  assert.deepEqual(streamOf("http://x/rtc/v1/whep/?app=a&stream=b&vhost=v"), { app: "a", stream: "b", vhost: "v" });
  assert.deepEqual(streamOf("http://x/rtc/v1/whip/"), { app: "live", stream: "livestream" });
  assert.deepEqual(streamOf("webrtc://x:1/one/two/a%20b?k=v"), { app: "one/two", stream: "a b" });
  assert.deepEqual(streamOf("ws://x/live/%zz.flv"), { app: "live", stream: "%zz" });
  assert.equal(streamOf("http://"), undefined);
});

test("autostart is on when it says so", () => {
  assert.equal(wantsAutostart("?autostart=true"), true);
  assert.equal(wantsAutostart("?autostart=false"), false);
  assert.equal(wantsAutostart(""), false);
});
