import assert from "node:assert/strict";
import { afterEach, beforeEach, type TestContext, test } from "node:test";
import { Call, type CallHandlers } from "../src/call.ts";
import { Conference, type ConferenceHandlers } from "../src/conference.ts";
import { leftOutIn } from "../src/messages.ts";
import type { RoomKind } from "../src/wire.ts";

const SIMPLER_VOICE = leftOutIn("cheaper_voice");
const CAPTIONS_ONLY = leftOutIn("captions_only");

/** Stands for the browser's socket: the test is the server. */
class Socket {
  static all: Socket[] = [];
  static #seq = 0;
  onopen: () => void = () => {};
  onmessage: (message: { data: string }) => void = () => {};
  onclose: () => void = () => {};

  constructor() {
    Socket.all.push(this);
  }

  close(): void {}

  tell(event: { type: "server.tier"; tier: string }): void {
    Socket.#seq += 1;
    const told = { seq: Socket.#seq, time_ms: Socket.#seq, room: "hall", ...event };
    this.onmessage({ data: JSON.stringify(told) });
  }
}

/** Stands for the browser's connection, which connects to anything. */
class Connection {
  readonly iceGatheringState = "complete";
  readonly localDescription = { sdp: "v=0" };
  addTransceiver(): void {}
  addEventListener(): void {}
  async setLocalDescription(): Promise<void> {}
  async setRemoteDescription(): Promise<void> {}
  close(): void {}
}

const microphone = {
  getTracks: () => [],
  getAudioTracks: () => [{ enabled: true }],
} as unknown as MediaStream;
const tokens = {
  get: async () => `x.${btoa(JSON.stringify({ sub: "anna", room: "hall", hear: "en" }))}.y`,
  renewable: true,
};

const { fetch, WebSocket, RTCPeerConnection, location } = globalThis;
const real = { fetch, WebSocket, RTCPeerConnection, location };
let kind: RoomKind = "call";
/** The server's tier, as the room shows it. */
let tier = "full";

beforeEach(() => {
  Socket.all = [];
  tier = "full";
  Object.assign(globalThis, {
    WebSocket: Socket,
    RTCPeerConnection: Connection,
    location: { href: "http://localhost/" },
    fetch: async (path: string) =>
      path === "/v1/rooms/hall"
        ? Response.json({
            name: "hall",
            kind,
            languages: ["en"],
            original_gain: 0,
            tier,
            participants: [],
          })
        : new Response("{}", { status: 201, headers: { Location: "/s1" } }),
  });
});
afterEach(() => {
  Object.assign(globalThis, real);
});

/** Handlers that keep what a busy server leaves out and ignore everything else. */
function listening<Handlers extends CallHandlers | ConferenceHandlers>() {
  const said: string[] = [];
  const handlers = new Proxy({} as Handlers, {
    get: (_, name) => (name === "busy" ? (message: string) => said.push(message) : () => {}),
  });
  return { said, handlers, last: () => said.at(-1) };
}

function latest(): Socket {
  const socket = Socket.all.at(-1);
  assert.ok(socket);
  return socket;
}

/** The page's own events, and what it asks the server for when they begin. */
async function opened(): Promise<void> {
  latest().onopen();
  await new Promise(setImmediate);
}

async function joinCall(context: TestContext) {
  kind = "call";
  const { handlers, ...heard } = listening<CallHandlers>();
  const call = await Call.join(microphone, tokens, handlers);
  context.after(() => call.leave());
  await opened();
  return heard;
}

async function joinConference(context: TestContext) {
  kind = "conference";
  const { handlers, ...heard } = listening<ConferenceHandlers>();
  const conference = await Conference.join(tokens, null, handlers);
  context.after(() => conference.leave());
  await opened();
  return { conference, ...heard };
}

test("what a busy server leaves out is said once somebody would notice", () => {
  for (const tier of ["full", "no_speculation", "a_tier_of_tomorrow"]) {
    assert.equal(leftOutIn(tier), "", tier);
  }
  assert.match(leftOutIn("cheaper_voice"), /busy.*voice/);
  assert.match(leftOutIn("cheaper_translator"), /busy.*less exact.*voice/);
  assert.match(leftOutIn("captions_only"), /busy.*written, not spoken/);
});

test("a call says what the server leaves out, until nothing is left out any more", async (context) => {
  const { said } = await joinCall(context);
  for (const tier of ["cheaper_voice", "captions_only", "full"]) {
    latest().tell({ type: "server.tier", tier });
  }
  assert.deepEqual(said, ["", SIMPLER_VOICE, CAPTIONS_ONLY, ""]);
});

test("whoever joins a busy server is told at once, in a call and in a conference", async (context) => {
  tier = "captions_only";
  assert.equal((await joinCall(context)).last(), CAPTIONS_ONLY);
  assert.equal((await joinConference(context)).last(), CAPTIONS_ONLY);
});

test("a call whose events were interrupted says what the server leaves out by then", async (context) => {
  context.mock.timers.enable({ apis: ["setTimeout"] });
  const { last } = await joinCall(context);
  latest().tell({ type: "server.tier", tier: "captions_only" });
  latest().onclose();
  assert.equal(last(), CAPTIONS_ONLY);
  context.mock.timers.tick(500);
  await opened();
  assert.equal(last(), "");
});

test("a conference says it too, and goes on when the channel is switched", async (context) => {
  const { conference, said } = await joinConference(context);
  latest().tell({ type: "server.tier", tier: "captions_only" });
  tier = "captions_only";
  await conference.tune("floor");
  await opened();
  assert.equal(Socket.all.length, 2, "the events of the other channel");
  assert.ok(said.slice(1).every((message) => message === CAPTIONS_ONLY));
  latest().tell({ type: "server.tier", tier: "no_speculation" });
  assert.equal(said.at(-1), "");
});
