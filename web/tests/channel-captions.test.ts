import assert from "node:assert/strict";
import { test } from "node:test";
import type { Caption } from "../src/captions.ts";
import { ChannelCaptions, LONGEST_WAIT_MS } from "../src/channel-captions.ts";
import type { UtteranceEvent } from "../src/wire.ts";

const told = { seq: 1, time_ms: 0, room: "hall" };
const of = (utterance: string) => ({ ...told, utterance, speaker: "anna" });
const started = (id: string): UtteranceEvent => ({ ...of(id), type: "utterance.started" });
const said = (id: string, language: string, text: string): UtteranceEvent => ({
  ...of(id),
  type: "utterance.transcript",
  language,
  text,
  trace: {},
});
const became = (id: string, language: string, text: string): UtteranceEvent => ({
  ...of(id),
  type: "utterance.translation",
  language,
  text,
  trace: {},
});
const partly = (
  id: string,
  stage: "transcript" | "translation",
  language: string,
  text: string,
): UtteranceEvent => ({ ...of(id), type: "utterance.partial", stage, language, text });
const dropped = (id: string, reason: string): UtteranceEvent => ({
  ...of(id),
  type: "utterance.dropped",
  reason,
  detail: "captioned only",
});

/** The text of the caption that the last event changed. */
function read(captions: ChannelCaptions, ...events: UtteranceEvent[]): Caption {
  let last: Caption | undefined;
  for (const event of events) {
    const changed = captions.take(event);
    if (changed && !("removed" in changed)) last = changed;
  }
  assert.ok(last);
  return last;
}

test("the floor is read as it is said, whatever is translated", () => {
  const captions = new ChannelCaptions("luc", "floor");
  const caption = read(captions, said("u", "en", "Hello."), became("u", "fr", "Bonjour."));
  assert.equal(caption.transcript?.text, "Hello.");
  assert.equal(caption.over, true);
});

test("a language's channel is read in that language alone", () => {
  const captions = new ChannelCaptions("luc", "fr");
  const before = read(
    captions,
    started("u"),
    said("u", "en", "Hello."),
    became("u", "es", "Hola."),
  );
  assert.equal(before.transcript, null);
  assert.equal(before.over, false);
  const after = read(captions, became("u", "fr", "Bonjour."));
  assert.deepEqual(after.transcript, { text: "Bonjour.", language: "fr", partial: false });
  assert.equal(after.speaker, "anna");
  assert.equal(after.mine, false);
});

test("what is said in the channel's own language is read as it was said", () => {
  const captions = new ChannelCaptions("luc", "fr");
  const caption = read(captions, said("u", "fr-CA", "Bonjour."));
  assert.equal(caption.transcript?.text, "Bonjour.");
});

test("a partial text is told from a final one, and a late partial one changes nothing", () => {
  const captions = new ChannelCaptions("luc", "fr");
  const partial = read(captions, partly("u", "translation", "fr", "Bon"));
  assert.equal(partial.transcript?.partial, true);
  assert.equal(partial.over, false);
  const final = read(captions, became("u", "fr", "Bonjour."));
  assert.equal(final.transcript?.partial, false);
  assert.equal(captions.take(partly("u", "translation", "fr", "Bonj")), null);
});

test("turning the dial leaves what was read, and open captions go on in the other language", () => {
  const captions = new ChannelCaptions("luc", "fr");
  read(captions, started("a"), became("a", "fr", "Bonjour."));
  read(captions, started("b"), partly("b", "translation", "fr", "Nous"));
  const going = captions.tune("es");
  assert.deepEqual(
    going.map(({ id, transcript }) => [id, transcript]),
    [["b", null]],
  );
  assert.equal(read(captions, became("b", "es", "Vamos.")).transcript?.text, "Vamos.");
  assert.equal(captions.take(became("a", "es", "Hola.")), null);
});

test("what could not be interpreted is read as it was said, with the reason", () => {
  const captions = new ChannelCaptions("luc", "fr");
  const caption = read(captions, said("u", "en", "Hello."), dropped("u", "failed"));
  assert.equal(caption.transcript?.text, "Hello.");
  assert.equal(caption.dropped, "captioned only");
  assert.equal(caption.over, true);
});

test("on the floor it does not matter whether the machine could speak", () => {
  const captions = new ChannelCaptions("luc", "floor");
  const caption = read(captions, said("u", "en", "Hello."), dropped("u", "too_late"));
  assert.equal(caption.dropped, null);
});

test("what began like speech and was none is taken back", () => {
  const captions = new ChannelCaptions("luc", "fr");
  captions.take(started("u"));
  assert.deepEqual(captions.take(dropped("u", "no_speech")), { removed: "u" });
});

test("a caption that gets no text on this channel is forgotten, one with a text is kept", () => {
  const captions = new ChannelCaptions("luc", "fr");
  captions.take(started("a"), 1000);
  captions.take(started("b"), 1000);
  captions.take(became("b", "fr", "Bonjour."), 1500);
  assert.deepEqual(captions.expire(1000 + LONGEST_WAIT_MS), []);
  assert.deepEqual(captions.expire(1001 + LONGEST_WAIT_MS), ["a"]);
  assert.deepEqual(captions.expire(1001 + LONGEST_WAIT_MS), []);
});
