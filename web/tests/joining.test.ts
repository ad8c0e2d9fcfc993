import assert from "node:assert/strict";
import { test } from "node:test";
import { asked, claimsOf, shareLink } from "../src/address.ts";
import { eventsAddress, Refused, Unreachable } from "../src/api.ts";
import { delayMs } from "../src/backoff.ts";
import { explain, isFinal } from "../src/messages.ts";
import { levelOf } from "../src/meter.ts";
import { areUnderstood } from "../src/people.ts";

const refused = (status: number, slug: string) =>
  new Refused(status, { type: `/problems/${slug}`, title: "A title", status, detail: "a detail" });

test("room, key and token are read from the address", () => {
  const at = (address: string) => asked(new URL(address, "http://localhost:8080"));
  assert.deepEqual(at("/?room=desk"), { room: "desk", access: "" });
  assert.deepEqual(at("/#room=desk&key=dev_1"), { room: "desk", access: "dev_1" });
  assert.deepEqual(at("/#token=a.b.c"), { room: "", access: "a.b.c" });
});

test("a shared link carries the room and never the key", () => {
  const page = new URL("http://localhost:8080/?room=old#key=dev_secret");
  assert.equal(shareLink(page, "desk"), "http://localhost:8080/?room=desk");
});

test("claims are read from a token and from nothing else", () => {
  const payload = btoa(JSON.stringify({ sub: "anna", room: "desk", hear: "es" }));
  assert.deepEqual(claimsOf(`x.${payload}.y`), { sub: "anna", room: "desk", hear: "es" });
  for (const other of ["", "dev_0123", "a.b.c", `${payload}.x`, "..", "x.bnVsbA.y"]) {
    assert.equal(claimsOf(other), null, other);
  }
});

test("the events are on the same host with the token in the query", () => {
  const address = eventsAddress("my room", "a.b", "https://example.org/?room=x#key=y");
  assert.equal(address.href, "wss://example.org/v1/rooms/my%20room/events?access_token=a.b");
});

test("waits double up to fifteen seconds, and half of each is chance", () => {
  assert.equal(delayMs(0, 1), 500);
  assert.equal(delayMs(0, 0), 250);
  assert.equal(delayMs(3, 1), 4000);
  assert.equal(delayMs(50, 1), 15_000);
});

test("errors are explained to the person before the screen", () => {
  assert.match(explain(refused(409, "room-full")), /full/);
  assert.match(explain(refused(401, "invalid-token")), /expired/);
  assert.equal(explain(refused(422, "invalid-field")), "A detail.");
  assert.match(explain(new Unreachable()), /cannot be reached/);
  assert.match(explain(new DOMException("no", "NotAllowedError")), /Allow it/);
  assert.match(explain("what"), /went wrong/);
});

test("joining again is given up only when it is pointless", () => {
  for (const error of [
    new Unreachable(),
    refused(503, "overloaded"),
    refused(409, "identity-taken"),
    refused(409, "room-full"),
  ]) {
    assert.equal(isFinal(error), false, error.message);
  }
  assert.equal(isFinal(refused(401, "invalid-token")), true);
  assert.equal(isFinal(refused(404, "no-such-room")), true);
});

test("the level is even to the ear: silence 0, full scale 1, a tenth of it two thirds", () => {
  assert.equal(levelOf(new Float32Array(64)), 0);
  assert.equal(levelOf(new Float32Array(64).fill(1)), 1);
  assert.ok(Math.abs(levelOf(new Float32Array(64).fill(0.1)) - 2 / 3) < 1e-6);
  assert.equal(levelOf(new Float32Array(0)), 0);
});

test("nobody is interpreted for me when everybody speaks what I hear", () => {
  const speaking = (language: string) => ({ identity: language, name: "", language, hear: "de" });
  assert.equal(areUnderstood([speaking("en-GB")], "en"), true);
  assert.equal(areUnderstood([speaking("en"), speaking("es")], "en"), false);
  assert.equal(areUnderstood([], "en"), false);
});
