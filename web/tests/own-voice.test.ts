import assert from "node:assert/strict";
import { test } from "node:test";
import {
  inOwnVoice,
  ownVoiceAmong,
  ownVoiceSaid,
  ownVoiceTargets,
  ownVoiceTold,
} from "../src/own-voice.ts";
import type { OwnVoice, RoomEvent } from "../src/wire.ts";

const wish = {
  room: "desk",
  identity: "ana",
  name: "Ana",
  language: "es",
  hear: "es",
  voice: "ef_dora",
};

test("asking for one's own voice says that one agrees, and asks for nothing else anew", () => {
  const asked = inOwnVoice({ ...wish, grants: { speak: true, moderate: true } });
  assert.equal(asked.voice, "own");
  assert.deepEqual(asked.grants, { speak: true, moderate: true, own_voice: true });
  assert.deepEqual(inOwnVoice(wish).grants, { own_voice: true });
  assert.equal(asked.room, "desk");
});

test("one's own voice is offered for the languages that it can speak", () => {
  const languages = [
    { code: "en", name: "English", targets: ["es", "fr"] },
    { code: "es", name: "Spanish", targets: ["en", "fr"], own_voice: ["en"] },
  ];
  assert.deepEqual(ownVoiceTargets(languages, "es"), ["en"]);
  assert.deepEqual(ownVoiceTargets(languages, "es-MX"), ["en"]);
  assert.deepEqual(ownVoiceTargets(languages, "en"), []);
  assert.deepEqual(ownVoiceTargets([], "es"), []);
});

test("what is known of a voice is said plainly", () => {
  assert.match(ownVoiceSaid("collecting", 0, 18_000), /while you speak/);
  assert.match(ownVoiceSaid("collecting", 6_500, 18_000), /6 of 18 s/);
  assert.match(ownVoiceSaid("learned"), /own voice/);
  assert.match(ownVoiceSaid("failed"), /usual/);
  assert.match(ownVoiceSaid("forgotten"), /forgot/);
  assert.equal(ownVoiceSaid("granted"), "");
  assert.equal(ownVoiceSaid(undefined), "");
});

test("events about the voices of others are not about mine", () => {
  const told = (identity: string, state: OwnVoice): RoomEvent => ({
    ...{ seq: 1, time_ms: 1, room: "desk", type: "participant.voice" },
    ...{ identity, state, collected_ms: 1_000, needed_ms: 18_000 },
  });
  assert.equal(ownVoiceTold(told("ben", "learned"), "ana"), null);
  assert.match(ownVoiceTold(told("ana", "learned"), "ana") ?? "", /own voice/);
  assert.match(ownVoiceTold(told("ana", "collecting"), "ana") ?? "", /1 of 18 s/);
  const other: RoomEvent = { seq: 1, time_ms: 1, room: "desk", type: "room.started" };
  assert.equal(ownVoiceTold(other, "ana"), null);
});

test("a room that is looked at tells what is known of a voice", () => {
  const person = { identity: "ana", name: "Ana", language: "es", hear: "es" };
  assert.match(ownVoiceAmong([{ ...person, own_voice: "learned" }], "ana"), /own voice/);
  assert.equal(ownVoiceAmong([person], "ana"), "");
  assert.equal(ownVoiceAmong([], "ana"), "");
});
