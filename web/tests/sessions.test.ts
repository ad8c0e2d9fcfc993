import assert from "node:assert/strict";
import { afterEach, test } from "node:test";
import * as api from "../src/api.ts";
import { iceServersOf } from "../src/links.ts";

interface Asked {
  method: string;
  path: string;
  headers: Headers;
  body: string | undefined;
}

const realFetch = globalThis.fetch;
afterEach(() => {
  globalThis.fetch = realFetch;
});

/** Answers every request with `answer`; what was asked is kept. */
function answering(answer: () => Response): Asked[] {
  const asked: Asked[] = [];
  globalThis.fetch = async (path, request = {}) => {
    asked.push({
      method: request.method ?? "GET",
      path: String(path),
      headers: new Headers(request.headers),
      body: request.body?.toString(),
    });
    return answer();
  };
  return asked;
}

const created = (location: string, more: Record<string, string> = {}) =>
  new Response("v=0 answer", { status: 201, headers: { Location: location, ...more } });
const refused = (status: number, slug: string, detail: string) =>
  Response.json({ type: `/problems/${slug}`, title: "A title", status, detail }, { status });

test("an offer to listen names the channel and the gain of the original", async () => {
  const asked = answering(() => created("/v1/rooms/hall/whep/s1"));
  const to = { channel: "es", original_gain: 0.2 };
  const session = await api.listen("hall", "a.b.c", "v=0 offer", to);
  assert.equal(asked[0]?.method, "POST");
  assert.equal(asked[0]?.path, "/v1/rooms/hall/whep?channel=es&original_gain=0.2");
  assert.equal(asked[0]?.headers.get("Content-Type"), "application/sdp");
  assert.equal(asked[0]?.headers.get("Authorization"), "Bearer a.b.c");
  assert.equal(asked[0]?.body, "v=0 offer");
  assert.deepEqual(session, {
    location: "/v1/rooms/hall/whep/s1",
    answer: "v=0 answer",
    iceServers: [],
  });
});

test("an offer to speak goes to the floor, or into an interpreter's channel", async () => {
  const asked = answering(() => created("/s"));
  await api.publish("my hall", "a.b.c", "v=0", null);
  await api.publish("my hall", "a.b.c", "v=0", "fr");
  assert.deepEqual(
    asked.map(({ path }) => path),
    ["/v1/rooms/my%20hall/whip", "/v1/rooms/my%20hall/whip?channel=fr"],
  );
});

test("a session's address may be whole, from the root, or from where the offer went", async () => {
  for (const [location, path] of [
    ["http://localhost:8080/v1/rooms/hall/whep/s1", "/v1/rooms/hall/whep/s1"],
    ["/v1/rooms/hall/sessions/s1", "/v1/rooms/hall/sessions/s1"],
    ["whep/s1", "/v1/rooms/hall/whep/s1"],
  ] as const) {
    answering(() => created(location));
    const to = { channel: "floor", original_gain: 0 };
    assert.equal((await api.listen("hall", "t", "v=0", to)).location, path);
  }
});

test("switching is a JSON PATCH on the session, and what is left out stays", async () => {
  const asked = answering(() => new Response(null, { status: 204 }));
  await api.change("/s1", "a.b.c", { channel: "fr" });
  await api.change("/s1", "a.b.c", { original_gain: 0.4 });
  assert.deepEqual(
    asked.map(({ method, path, body }) => [method, path, body]),
    [
      ["PATCH", "/s1", '{"channel":"fr"}'],
      ["PATCH", "/s1", '{"original_gain":0.4}'],
    ],
  );
  assert.equal(asked[0]?.headers.get("Content-Type"), "application/json");
});

test("a refusal keeps the server's own words", async () => {
  answering(() => refused(404, "no-such-channel", 'there is no channel "ja" here'));
  await assert.rejects(api.change("/s1", "t", { channel: "ja" }), (error) => {
    assert.ok(error instanceof api.Refused);
    assert.equal(error.slug, "no-such-channel");
    assert.equal(error.message, 'there is no channel "ja" here');
    return true;
  });
});

test("moderators mute, remove and end", async () => {
  const asked = answering(() => new Response(null, { status: 204 }));
  await api.mute("hall", "t", "anna@home", true);
  await api.remove("hall", "t", "anna@home");
  await api.endRoom("hall", "t");
  assert.deepEqual(
    asked.map(({ method, path, body }) => [method, path, body]),
    [
      ["PATCH", "/v1/rooms/hall/participants/anna%40home", '{"muted":true}'],
      ["DELETE", "/v1/rooms/hall/participants/anna%40home", undefined],
      ["DELETE", "/v1/rooms/hall", undefined],
    ],
  );
});

test("a token for a conference is asked for with its grants, and the key makes the room first", async () => {
  const wish: api.Wish = {
    room: "hall",
    identity: "luc",
    name: "Luc",
    language: "fr",
    hear: "fr",
    voice: null,
    grants: { speak: false, listen: true },
    kind: "conference",
    languages: ["en", "fr"],
  };
  const asked = answering(() => Response.json({ token: "a.b.c", identity: "luc" }));
  await api.developmentToken(wish);
  await api.tokenWithKey("key", wish);
  const { room, kind, languages, ...claims } = wish;
  assert.deepEqual(
    asked.map(({ path, body }) => [path, JSON.parse(body ?? "")]),
    [
      ["/v1/development/tokens", wish],
      ["/v1/rooms", { name: room, kind, languages }],
      ["/v1/rooms/hall/tokens", claims],
    ],
  );
});

test("a transcript is asked for in a format, and in a language where there is one", async () => {
  const asked = answering(() => new Response("WEBVTT"));
  const blob = await api.transcript("hall", "t", "vtt", "es");
  await api.transcript("hall", "t", "txt", null);
  assert.equal(await blob.text(), "WEBVTT");
  assert.deepEqual(
    asked.map(({ path }) => path),
    ["/v1/rooms/hall/transcript?format=vtt&language=es", "/v1/rooms/hall/transcript?format=txt"],
  );
});

test("servers that help to get through are optional", async () => {
  const turn = { urls: ["turn:a"], username: "u", credential: "c" };
  answering(() => Response.json({ iceServers: [turn] }));
  assert.deepEqual(await api.iceServers("hall", "t"), [turn]);
  answering(() => refused(404, "no-such-path", "no route has this path"));
  assert.deepEqual(await api.iceServers("hall", "t"), []);
  answering(() => new Response("not JSON"));
  assert.deepEqual(await api.iceServers("hall", "t"), []);
});

test("Link headers name servers, with commas and quotes inside what is quoted", () => {
  const header =
    '<stun:s.example.net>; rel="ice-server", </page>; rel="next", ' +
    '<turn:t.example.net?transport=udp>; rel="ice-server"; username="a,b;\\"c"; ' +
    'credential="pass"; credential-type="password"';
  assert.deepEqual(iceServersOf(header), [
    { urls: "stun:s.example.net" },
    { urls: "turn:t.example.net?transport=udp", username: 'a,b;"c', credential: "pass" },
  ]);
  assert.deepEqual(iceServersOf(null), []);
  assert.deepEqual(iceServersOf("nonsense, <<>>;;"), []);
});

test("the events are asked for in a language and from where they were left", () => {
  const page = "https://example.org/";
  const address = (wish: api.EventsWish) => api.eventsAddress("hall", "t", page, wish).search;
  assert.equal(address({ after: 7, language: "es" }), "?access_token=t&after=7&language=es");
  assert.equal(address({ after: 0, language: null }), "?access_token=t");
});
