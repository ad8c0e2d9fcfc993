import assert from "node:assert/strict";
import { test } from "node:test";
import { asked, shareLink } from "../src/address.ts";
import { explain, overBecause } from "../src/messages.ts";
import { ownLanguageName } from "../src/names.ts";
import { abilitiesOf, grantsFor } from "../src/roles.ts";
import { STEPS, stepFor, stepName } from "../src/steps.ts";

test("an invitation carries room, channels and role, never a key, and is read back", () => {
  const page = new URL("http://localhost:8080/?room=old#key=dev_secret");
  const invitation = { role: "interpreter", languages: ["en", "fr"], channel: "fr" } as const;
  const link = shareLink(page, "hall", { ...invitation, languages: ["en", "fr"] });
  assert.equal(
    link,
    "http://localhost:8080/?room=hall&kind=conference&languages=en,fr&role=interpreter&channel=fr",
  );
  assert.deepEqual(asked(new URL(link)), { room: "hall", access: "", conference: invitation });
});

test("only an interpreter is invited to a channel", () => {
  const page = new URL("http://localhost:8080/");
  const link = shareLink(page, "hall", { role: "listener", languages: ["en"], channel: "fr" });
  assert.equal(new URL(link).searchParams.has("channel"), false);
});

test("an invitation with a role that nobody knows is one to listen", () => {
  const address = new URL("http://localhost:8080/?room=hall&kind=conference&role=emperor");
  assert.deepEqual(asked(address).conference, { role: "listener", languages: [], channel: "" });
});

test("a role asks for no more than it needs", () => {
  const fields = (role: Parameters<typeof grantsFor>[0]) => {
    const { speak, listen, interpret, moderate } = grantsFor(role, "fr");
    return [speak, listen, interpret, moderate];
  };
  assert.deepEqual(fields("listener"), [false, true, [], false]);
  assert.deepEqual(fields("speaker"), [true, true, [], false]);
  assert.deepEqual(fields("interpreter"), [false, true, ["fr"], false]);
  assert.deepEqual(fields("moderator"), [true, true, [], true]);
});

test("what one can do follows from the token's grants alone", () => {
  assert.equal(abilitiesOf(grantsFor("listener", "")).voice, null);
  assert.deepEqual(abilitiesOf(grantsFor("interpreter", "fr")).voice, { channel: "fr" });
  const moderator = abilitiesOf(grantsFor("moderator", ""));
  assert.deepEqual([moderator.voice, moderator.speaksAtOnce], ["floor", false]);
  assert.equal(moderator.moderates, true);
  assert.deepEqual(abilitiesOf({ channels: ["es"] }).channels, ["es"]);
  // A token without grants is one of a plain participant.
  const plain = { voice: "floor", speaksAtOnce: true, moderates: false, channels: null };
  assert.deepEqual(abilitiesOf(undefined), plain);
});

test("any gain falls on the server's nearest step", () => {
  assert.deepEqual([0, 0.04, 0.16, 0.29, 0.5, 0.9, 7].map(stepFor), [0, 0, 0.2, 0.2, 0.4, 1, 1]);
  assert.deepEqual(STEPS.map(stepName), ["off", "10 %", "20 %", "40 %", "100 %"]);
});

test("that the room is over is said plainly, with the reason where it is known", () => {
  for (const reason of ["deleted", "empty", "departed", "shutdown", "", "something new"]) {
    assert.match(overBecause(reason), /^The room is over[:.]/);
  }
  assert.match(overBecause("deleted"), /ended for everybody/);
  assert.match(overBecause("shutdown"), /server/);
});

test("a microphone that is refused is asked for in the words of the room", () => {
  const refusal = new DOMException("no", "NotAllowedError");
  assert.match(explain(refusal, "conference"), /needed to speak/);
  assert.match(explain(refusal), /needed for a call/);
});

test("a channel is called as its listeners call their language", () => {
  assert.equal(ownLanguageName("fr"), "Français");
  assert.equal(ownLanguageName("en"), "English");
});
