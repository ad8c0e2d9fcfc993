import assert from "node:assert/strict";
import { test } from "node:test";
import { identityFor, inventedRoom, languageName, ROOM_PATTERN, voiceLabel } from "../src/names.ts";

test("invented rooms have names that the server accepts", () => {
  const pattern = new RegExp(`^${ROOM_PATTERN}$`);
  for (const chance of [0, 0.5, 0.999999]) {
    assert.match(
      inventedRoom(() => chance),
      pattern,
    );
  }
  assert.equal(
    inventedRoom(() => 0),
    "amber-bridge-1000",
  );
});

test("an identity keeps what it can of a name", () => {
  assert.equal(identityFor("Anna Müller", "0a1b2c"), "Anna-Mu-ller-0a1b2c");
  assert.equal(identityFor("  ", "0a1b2c"), "guest-0a1b2c");
  assert.equal(identityFor("李", "0a1b2c"), "guest-0a1b2c");
  assert.ok(identityFor("x".repeat(200), "0a1b2c").length <= 64);
});

test("a language is named in English and in itself", () => {
  assert.equal(languageName("en"), "English");
  assert.equal(languageName("es"), "Spanish (español)");
  assert.equal(languageName("no such tag"), "no such tag");
});

test("a voice is called by its name where the engine gives it one", () => {
  const voice = (name: string, engine: string) => voiceLabel({ name, engine, language: "es" });
  assert.equal(voice("ef_dora", "kokoro"), "Dora, a woman");
  assert.equal(voice("em_alex", "kokoro"), "Alex, a man");
  assert.equal(voice("es", "espeak-ng"), "es (espeak-ng)");
  const learned = { name: "af_ana", engine: "some", language: "en", kind: "learned" } as const;
  assert.equal(voiceLabel(learned), "af_ana, learned");
});
