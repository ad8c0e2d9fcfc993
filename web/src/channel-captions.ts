// The captions of a conference: every text of an utterance, so that another channel can be read
// from where one was. It draws nothing.

import { type Caption, MOST_CAPTIONS, type Text } from "./captions.ts";
import { isSameLanguage } from "./people.ts";
import { FLOOR, type UtteranceEvent } from "./wire.ts";

interface Utterance {
  id: string;
  speaker: string;
  original: Text | null;
  translations: Map<string, Text>;
  dropped: string | null;
}

export class ChannelCaptions {
  readonly #identity: string;
  readonly #utterances = new Map<string, Utterance>();
  #channel: string;

  /** `identity` is whoever reads them, `channel` a language or `floor`. */
  constructor(identity: string, channel: string) {
    this.#identity = identity;
    this.#channel = channel;
  }

  /** Reads another channel from now on; the captions of it that are known. */
  tune(channel: string): Caption[] {
    this.#channel = channel;
    return [...this.#utterances.values()].map((utterance) => this.#captionOf(utterance));
  }

  /** The caption that an event changed, or the id of one that is gone: it was no speech. */
  take(event: UtteranceEvent): Caption | { removed: string } | null {
    const known = this.#utterances.get(event.utterance);
    if (event.type === "utterance.dropped" && event.reason === "no_speech") {
      this.#utterances.delete(event.utterance);
      return { removed: event.utterance };
    }
    const utterance = known ?? this.#begin(event);
    return this.#change(utterance, event) || !known ? this.#captionOf(utterance) : null;
  }

  #begin({ utterance, speaker }: UtteranceEvent): Utterance {
    const begun: Utterance = {
      id: utterance,
      speaker,
      original: null,
      translations: new Map(),
      dropped: null,
    };
    this.#utterances.set(utterance, begun);
    const [oldest] = this.#utterances.keys();
    if (this.#utterances.size > MOST_CAPTIONS && oldest) this.#utterances.delete(oldest);
    return begun;
  }

  /** Whether the event changed anything that is shown. */
  #change(utterance: Utterance, event: UtteranceEvent): boolean {
    switch (event.type) {
      case "utterance.started":
      case "utterance.spoken":
        return false;
      case "utterance.dropped":
        utterance.dropped = event.detail;
        return true;
      case "utterance.partial":
      case "utterance.transcript":
      case "utterance.translation": {
        const partial = event.type === "utterance.partial";
        const isOriginal = partial
          ? event.stage === "transcript"
          : event.type === "utterance.transcript";
        const { language, text } = event;
        const before = isOriginal ? utterance.original : utterance.translations.get(language);
        // A partial text that was overtaken by the final one says nothing new.
        if (partial && before?.partial === false) return false;
        if (isOriginal) utterance.original = { text, language, partial };
        else utterance.translations.set(language, { text, language, partial });
        return this.#isRead(utterance, language);
      }
    }
  }

  #isRead({ original }: Utterance, language: string): boolean {
    return original?.language === language || isSameLanguage(language, this.#channel);
  }

  /** In the channel's language; as it was said where that is all there will be. */
  #captionOf({ id, speaker, original, translations, dropped }: Utterance): Caption {
    const isAsSaid =
      this.#channel === FLOOR || isSameLanguage(original?.language ?? "", this.#channel);
    const translation = isAsSaid ? null : this.#translationIn(translations);
    const text = isAsSaid || (dropped && !translation) ? original : translation;
    return {
      id,
      speaker,
      mine: speaker === this.#identity,
      transcript: text,
      translation: null,
      trace: null,
      // What passes through or is read on the floor is heard, whatever became of its interpretation.
      dropped: isAsSaid ? null : dropped,
      over: dropped !== null || (text !== null && !text.partial),
    };
  }

  #translationIn(translations: Map<string, Text>): Text | null {
    for (const [language, text] of translations) {
      if (isSameLanguage(language, this.#channel)) return text;
    }
    return null;
  }
}
