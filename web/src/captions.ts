// The captions of a call: events in, one caption an utterance out. It draws nothing.

import type { Trace, UtteranceEvent } from "./wire.ts";

/** A text and whether it may still change. */
export interface Text {
  text: string;
  language: string;
  partial: boolean;
}

/** What is known of one utterance. */
export interface Caption {
  id: string;
  speaker: string;
  mine: boolean;
  transcript: Text | null;
  translation: Text | null;
  /** Where the time went, once the interpretation was heard. */
  trace: Trace | null;
  /** Why it was not spoken, in the server's words. */
  dropped: string | null;
  /** Nothing more will come. */
  over: boolean;
}

/** Captions that are kept; the oldest go first. */
export const MOST_CAPTIONS = 500;

export class Captions {
  readonly #identity: string;
  readonly #hear: string;
  readonly #captions = new Map<string, Caption>();

  /** `identity` is whoever reads them, `hear` the language they want to read. */
  constructor(identity: string, hear: string) {
    this.#identity = identity;
    this.#hear = hear;
  }

  /**
   * Takes an event and returns the caption that it changed, or the id of one that is gone: what
   * began like speech and was none.
   */
  take(event: UtteranceEvent): Caption | { removed: string } | null {
    const known = this.#captions.get(event.utterance);
    if (event.type === "utterance.dropped" && event.reason === "no_speech") {
      this.#captions.delete(event.utterance);
      return { removed: event.utterance };
    }
    const caption = known ?? this.#begin(event);
    return this.#change(caption, event) || !known ? caption : null;
  }

  #begin({ utterance, speaker }: UtteranceEvent): Caption {
    const caption: Caption = {
      id: utterance,
      speaker,
      mine: speaker === this.#identity,
      transcript: null,
      translation: null,
      trace: null,
      dropped: null,
      over: false,
    };
    this.#captions.set(utterance, caption);
    const [oldest] = this.#captions.keys();
    if (this.#captions.size > MOST_CAPTIONS && oldest) this.#captions.delete(oldest);
    return caption;
  }

  /** Whether the event changed anything that is shown. */
  #change(caption: Caption, event: UtteranceEvent): boolean {
    switch (event.type) {
      case "utterance.started":
        return false;
      case "utterance.partial":
        return this.#write(caption, event.stage, event, true);
      case "utterance.transcript":
        return this.#write(caption, "transcript", event, false);
      case "utterance.translation":
        return this.#write(caption, "translation", event, false);
      case "utterance.spoken":
        if (!this.#isForMe(caption, event.language)) return false;
        caption.trace = event.trace;
        caption.over = true;
        return true;
      case "utterance.dropped":
        caption.dropped = event.detail;
        caption.over = true;
        return true;
    }
  }

  #write(
    caption: Caption,
    which: "transcript" | "translation",
    { text, language }: { text: string; language: string },
    partial: boolean,
  ): boolean {
    if (which === "translation" && !this.#isForMe(caption, language)) return false;
    // A partial text that was overtaken by the final one says nothing new.
    if (partial && caption[which]?.partial === false) return false;
    caption[which] = { text, language, partial };
    return true;
  }

  /** What I said is of interest in every language, what others said in the one that I hear. */
  #isForMe(caption: Caption, language: string): boolean {
    return caption.mine || language === this.#hear;
  }
}

/** The line to read first and the one beneath it: what was said in my language leads. */
export function lines(caption: Caption): { lead: Text | null; second: Text | null } {
  const { transcript, translation } = caption;
  if (caption.mine || !translation) return { lead: transcript, second: translation };
  return { lead: translation, second: transcript };
}
