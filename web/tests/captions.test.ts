import assert from "node:assert/strict";
import { test } from "node:test";
import { type Caption, Captions, lines } from "../src/captions.ts";
import type { UtteranceEvent } from "../src/wire.ts";

const told = { seq: 1, time_ms: 0, room: "r" };
const of = (speaker: string, utterance = "utt-1") => ({ ...told, utterance, speaker });
const text = (language: string, words: string) => ({ language, text: words, trace: {} });

function captionsAfter(...events: UtteranceEvent[]): Caption | null {
  const captions = new Captions("anna", "en");
  let last: Caption | null = null;
  for (const event of events) {
    const changed = captions.take(event);
    if (changed && !("removed" in changed)) last = changed;
  }
  return last;
}

test("a final text replaces the partial one, and a late partial one changes nothing", () => {
  const captions = new Captions("anna", "en");
  const partial = (words: string): UtteranceEvent => ({
    ...of("beto"),
    type: "utterance.partial",
    stage: "transcript",
    language: "es",
    text: words,
  });
  captions.take({ ...of("beto"), type: "utterance.started" });
  const first = captions.take(partial("Buenos")) as Caption;
  assert.deepEqual(first.transcript, { text: "Buenos", language: "es", partial: true });
  captions.take(partial("Buenos días"));
  const final = captions.take({
    ...of("beto"),
    type: "utterance.transcript",
    ...text("es", "Buenos días, Anna."),
  }) as Caption;
  assert.deepEqual(final.transcript, {
    text: "Buenos días, Anna.",
    language: "es",
    partial: false,
  });
  assert.equal(captions.take(partial("Buenos días an")), null);
});

test("what others said leads in my language, what I said leads as I said it", () => {
  const theirs = captionsAfter(
    { ...of("beto"), type: "utterance.transcript", ...text("es", "Hola.") },
    { ...of("beto"), type: "utterance.translation", ...text("en", "Hello.") },
  );
  assert.ok(theirs);
  assert.equal(lines(theirs).lead?.text, "Hello.");
  assert.equal(lines(theirs).second?.text, "Hola.");
  const mine = captionsAfter(
    { ...of("anna"), type: "utterance.transcript", ...text("en", "Hello.") },
    { ...of("anna"), type: "utterance.translation", ...text("es", "Hola.") },
  );
  assert.ok(mine);
  assert.equal(lines(mine).lead?.text, "Hello.");
  assert.equal(lines(mine).second?.text, "Hola.");
});

test("a translation for somebody else is not shown to me", () => {
  const caption = captionsAfter(
    { ...of("beto"), type: "utterance.transcript", ...text("es", "Hola.") },
    { ...of("beto"), type: "utterance.translation", ...text("fr", "Bonjour.") },
  );
  assert.equal(caption?.translation, null);
});

test("what began like speech and was none is taken back", () => {
  const captions = new Captions("anna", "en");
  captions.take({ ...of("beto"), type: "utterance.started" });
  const reason = { reason: "no_speech", detail: "none" };
  assert.deepEqual(captions.take({ ...of("beto"), type: "utterance.dropped", ...reason }), {
    removed: "utt-1",
  });
});

test("what was too late to be spoken stays as a caption and says why", () => {
  const caption = captionsAfter(
    { ...of("beto"), type: "utterance.transcript", ...text("es", "Hola.") },
    { ...of("beto"), type: "utterance.dropped", reason: "too_late", detail: "captioned only" },
  );
  assert.equal(caption?.dropped, "captioned only");
  assert.equal(caption?.over, true);
});

test("old captions are forgotten", () => {
  const captions = new Captions("anna", "en");
  for (let index = 0; index <= 500; index += 1) {
    captions.take({ ...of("beto", `utt-${index}`), type: "utterance.started" });
  }
  // Known ones change nothing when they start again; a forgotten one is begun anew.
  assert.equal(captions.take({ ...of("beto", "utt-500"), type: "utterance.started" }), null);
  assert.notEqual(captions.take({ ...of("beto", "utt-0"), type: "utterance.started" }), null);
});
