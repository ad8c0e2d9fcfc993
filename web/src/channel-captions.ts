// The captions of a conference, in the language of the channel that is listened to. It draws nothing.

import { type Caption, MOST_CAPTIONS, type Text } from "./captions.ts";
import { isSameLanguage } from "./people.ts";
import { FLOOR, type UtteranceEvent } from "./wire.ts";

interface Utterance {
  id: string;
  speaker: string;
  since: number;
  /** The channel that it is read on: the one of the time when its text was final. */
  channel: string;
  original: Text | null;
  translations: Map<string, Text>;
  dropped: string | null;
}

/** Longest that a caption waits for its first text, in milliseconds. */
export const LONGEST_WAIT_MS = 45_000;

export class ChannelCaptions {
  readonly #identity: string;
  readonly #utterances = new Map<string, Utterance>();
  #channel: string;

  /** `identity` is whoever reads them, `channel` a language or `floor`. */
  constructor(identity: string, channel: string) {
    this.#identity = identity;
    this.#channel = channel;
  }

  /**
   * Reads another channel from now on. What was read stays as it was; the captions that are not
   * final yet, and go on in the other language, are returned.
   */
  tune(channel: string): Caption[] {
    this.#channel = channel;
    const open = [...this.#utterances.values()].filter((one) => !captionOf(one, false).over);
    return open.map((utterance) => {
      utterance.channel = channel;
      return this.#captionOf(utterance);
    });
  }

  /**
   * The caption that an event changed, or the id of one that is gone: it was no speech. `now` is in
   * milliseconds.
   */
  take(event: UtteranceEvent, now: number = Date.now()): Caption | { removed: string } | null {
    const known = this.#utterances.get(event.utterance);
    if (event.type === "utterance.dropped" && event.reason === "no_speech") {
      this.#utterances.delete(event.utterance);
      return { removed: event.utterance };
    }
    const utterance = known ?? this.#begin(event, now);
    return this.#change(utterance, event) || !known ? this.#captionOf(utterance) : null;
  }

  /** Forgets what began long ago and has no text: this channel will have none. Their ids. */
  expire(now: number): string[] {
    const ids: string[] = [];
    for (const [id, utterance] of this.#utterances) {
      const { transcript, over } = captionOf(utterance, false);
      if (transcript || over || now - utterance.since <= LONGEST_WAIT_MS) continue;
      this.#utterances.delete(id);
      ids.push(id);
    }
    return ids;
  }

  #begin({ utterance, speaker }: UtteranceEvent, since: number): Utterance {
    const begun: Utterance = {
      id: utterance,
      speaker,
      since,
      channel: this.#channel,
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
        return isOriginal || isSameLanguage(language, utterance.channel);
      }
    }
  }

  #captionOf(utterance: Utterance): Caption {
    return captionOf(utterance, utterance.speaker === this.#identity);
  }
}

/** In the channel's language; as it was said where that is all there will be. */
function captionOf(utterance: Utterance, mine: boolean): Caption {
  const { id, speaker, channel, original, dropped } = utterance;
  const isAsSaid = channel === FLOOR || isSameLanguage(original?.language ?? "", channel);
  const translation = isAsSaid ? null : translationFor(utterance);
  const text = isAsSaid || (dropped && !translation) ? original : translation;
  return {
    id,
    speaker,
    mine,
    transcript: text,
    translation: null,
    trace: null,
    // What is heard as it is said is heard, whatever became of its interpretation.
    dropped: isAsSaid ? null : dropped,
    over: dropped !== null || (text !== null && !text.partial),
  };
}

function translationFor({ channel, translations }: Utterance): Text | null {
  for (const [language, text] of translations) {
    if (isSameLanguage(language, channel)) return text;
  }
  return null;
}
