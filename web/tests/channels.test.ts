import assert from "node:assert/strict";
import { test } from "node:test";
import { Channels, LONGEST_UTTERANCE_MS } from "../src/channels.ts";
import type { Participant, RoomEvent } from "../src/wire.ts";

const told = { seq: 1, time_ms: 0, room: "hall" };
const person = (identity: string, language: string, more: Partial<Participant> = {}) => ({
  identity,
  name: identity.toUpperCase(),
  language,
  hear: language,
  ...more,
});
const started = (speaker: string, utterance = "u1"): RoomEvent => ({
  ...told,
  type: "utterance.started",
  utterance,
  speaker,
});

function hall(...participants: Participant[]): Channels {
  const channels = new Channels(["en", "fr"]);
  channels.sync({ participants });
  return channels;
}

const speakingOn = (channels: Channels) =>
  Object.fromEntries(channels.list().map(({ id, speaking }) => [id, speaking]));
const interpreterOf = (channels: Channels, id: string) =>
  channels.list().find((channel) => channel.id === id)?.interpreter;

test("the floor comes first, then the room's languages in its order", () => {
  assert.deepEqual(
    hall()
      .list()
      .map(({ id }) => id),
    ["floor", "en", "fr"],
  );
});

test("a speaker is heard on the floor, and on the channel of their own language", () => {
  const channels = hall(person("anna", "en-GB"));
  assert.equal(channels.take(started("anna")), true);
  assert.deepEqual(speakingOn(channels), { floor: ["anna"], en: ["anna"], fr: [] });
});

test("a speaker is silent once the utterance is over, whichever of its ends is told", () => {
  const utterance = { ...told, utterance: "u1", speaker: "anna" };
  const ends: RoomEvent[] = [
    { ...utterance, type: "utterance.transcript", language: "en", text: "Hello.", trace: {} },
    { ...utterance, type: "utterance.translation", language: "fr", text: "Bonjour.", trace: {} },
    { ...utterance, type: "utterance.spoken", language: "fr", listener: "luc", trace: {} },
    { ...utterance, type: "utterance.dropped", reason: "no_speech", detail: "none" },
  ];
  for (const end of ends) {
    const channels = hall(person("anna", "en"));
    channels.take(started("anna"));
    assert.equal(channels.take(end), true, end.type);
    assert.deepEqual(speakingOn(channels).floor, [], end.type);
  }
});

test("a human takes a channel over from the machine and gives it back", () => {
  const channels = hall(person("marie", "fr"));
  assert.equal(interpreterOf(channels, "fr"), null);
  const taken: RoomEvent = { ...told, type: "channel.interpreter", channel: "fr" };
  channels.take({ ...taken, interpreter: "marie" });
  assert.equal(interpreterOf(channels, "fr"), "marie");
  assert.equal(interpreterOf(channels, "en"), null);
  channels.take(started("marie"));
  assert.deepEqual(speakingOn(channels), { floor: [], en: [], fr: ["marie"] });
  channels.take(taken);
  assert.equal(interpreterOf(channels, "fr"), null);
});

test("an interpreter who leaves leaves the channel to the machine", () => {
  const marie = person("marie", "fr", { interprets: "fr" });
  const channels = hall(marie);
  assert.equal(interpreterOf(channels, "fr"), "marie");
  channels.take({ ...told, type: "participant.left", participant: marie, reason: "left" });
  assert.equal(interpreterOf(channels, "fr"), null);
  assert.deepEqual(channels.people, []);
});

test("whoever leaves in the middle of a sentence speaks no more", () => {
  const anna = person("anna", "en");
  const channels = hall(anna);
  channels.take(started("anna"));
  channels.take({ ...told, type: "participant.left", participant: anna, reason: "left" });
  assert.deepEqual(speakingOn(channels).floor, []);
});

test("a muted participant is known as muted until they may speak again", () => {
  const channels = hall(person("anna", "en"));
  const muted = (value: boolean): RoomEvent => ({
    ...told,
    type: "participant.muted",
    identity: "anna",
    muted: value,
  });
  assert.equal(channels.take(muted(true)), true);
  assert.equal(channels.person("anna")?.muted, true);
  channels.take(muted(false));
  assert.equal(channels.person("anna")?.muted, false);
  assert.equal(
    channels.take({ ...told, type: "participant.muted", identity: "x", muted: true }),
    false,
  );
});

test("looking at the room again corrects what was missed, and names of the gone are kept", () => {
  const channels = hall(person("anna", "en"), person("luc", "fr"));
  channels.take(started("luc"));
  channels.sync({
    participants: [person("anna", "en"), person("bea", "fr", { interprets: "fr" })],
  });
  assert.deepEqual(
    channels.people.map(({ identity }) => identity),
    ["anna", "bea"],
  );
  assert.deepEqual(speakingOn(channels).fr, []);
  assert.equal(interpreterOf(channels, "fr"), "bea");
  assert.equal(channels.nameOf("luc"), "LUC");
  assert.equal(channels.nameOf("nobody"), "nobody");
});

test("somebody of whom no end is told speaks no longer than an utterance can be", () => {
  const channels = hall(person("anna", "en"));
  channels.take(started("anna"), 1000);
  assert.equal(channels.expire(1000 + LONGEST_UTTERANCE_MS), false);
  assert.deepEqual(speakingOn(channels).floor, ["anna"]);
  assert.equal(channels.expire(1001 + LONGEST_UTTERANCE_MS), true);
  assert.deepEqual(speakingOn(channels).floor, []);
});
