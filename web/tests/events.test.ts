import assert from "node:assert/strict";
import { afterEach, test } from "node:test";
import { Events } from "../src/events.ts";
import type { RoomEvent } from "../src/wire.ts";

/** Stands for the browser's socket: the test is the server. */
class Socket {
  static all: Socket[] = [];
  readonly address: string;
  isClosed = false;
  onopen: () => void = () => {};
  onmessage: (message: { data: string }) => void = () => {};
  onclose: () => void = () => {};

  constructor(address: URL) {
    this.address = address.search;
    Socket.all.push(this);
  }

  close(): void {
    this.isClosed = true;
    this.onclose();
  }

  tell(seq: number, time_ms: number): void {
    this.onmessage({ data: JSON.stringify({ seq, time_ms, room: "hall", type: "room.started" }) });
  }
}

const realSocket = globalThis.WebSocket;
afterEach(() => {
  globalThis.WebSocket = realSocket;
});

function follow() {
  Socket.all = [];
  globalThis.WebSocket = Socket as unknown as typeof WebSocket;
  const taken: RoomEvent[] = [];
  const address = (after: number) => new URL(`ws://localhost/events?after=${after}`);
  const events = new Events(
    address,
    (event) => taken.push(event),
    () => {},
  );
  const [socket] = Socket.all;
  assert.ok(socket);
  return { events, socket, numbers: () => taken.map(({ seq }) => seq) };
}

test("a stream that is opened again goes on after the last event, and none comes twice", () => {
  const { events, socket, numbers } = follow();
  assert.equal(socket.address, "?after=0");
  socket.tell(4, 100);
  socket.tell(5, 110);
  events.reopen();
  const again = Socket.all[1];
  assert.ok(again);
  assert.equal(again.address, "?after=5");
  assert.equal(socket.isClosed, true);
  again.tell(5, 110);
  again.tell(6, 120);
  // What the old stream still says was had from the new one.
  socket.tell(7, 130);
  assert.deepEqual(numbers(), [4, 5, 6]);
  assert.equal(Socket.all.length, 2);
  events.close();
});

test("a room that was made anew counts from one, and its events are taken", () => {
  const { events, socket, numbers } = follow();
  socket.tell(57, 100);
  socket.tell(1, 900);
  socket.tell(2, 901);
  assert.deepEqual(numbers(), [57, 1, 2]);
  events.close();
});

test("a message about the stream itself is no event", () => {
  const { events, socket, numbers } = follow();
  socket.onmessage({ data: JSON.stringify({ type: "lagged", missed: 3 }) });
  socket.tell(1, 100);
  assert.deepEqual(numbers(), [1]);
  events.close();
});

test("a lost stream is opened again, a closed one is not", async (context) => {
  context.mock.timers.enable({ apis: ["setTimeout"] });
  const { events, socket } = follow();
  socket.onclose();
  context.mock.timers.tick(500);
  assert.equal(Socket.all.length, 2);
  events.close();
  context.mock.timers.tick(60_000);
  assert.equal(Socket.all.length, 2);
});
