// Who is in a conference, who speaks, and who interprets into which channel: events in, state out.
// It draws nothing.

import { isSameLanguage } from "./people.ts";
import { FLOOR, type Participant, type Room, type RoomEvent } from "./wire.ts";

export interface Channel {
  /** A language or `floor`. */
  id: string;
  /** The human who interprets into it; null when it is the machine. */
  interpreter: string | null;
  /** Who is heard on it in their own voice right now. */
  speaking: string[];
}

/**
 * Longest that somebody speaks without an end being told, in milliseconds: a stream of one language
 * tells no end of what nobody translated into it.
 */
export const LONGEST_UTTERANCE_MS = 30_000;

export class Channels {
  readonly #languages: string[];
  readonly #people = new Map<string, Participant>();
  readonly #interpreters = new Map<string, string>();
  readonly #names = new Map<string, string>();
  // Utterances that have begun and are not over: whose they are, and when they were heard of.
  readonly #open = new Map<string, { speaker: string; since: number }>();

  constructor(languages: readonly string[]) {
    this.#languages = [...languages];
  }

  /** Everybody, by name. */
  get people(): Participant[] {
    return [...this.#people.values()].toSorted((one, other) => one.name.localeCompare(other.name));
  }

  person(identity: string): Participant | undefined {
    return this.#people.get(identity);
  }

  /** A name to show; that of somebody who has left is what it was. */
  nameOf(identity: string): string {
    return this.#names.get(identity) ?? identity;
  }

  /** The state as the server has it: events tell only of what comes later. */
  sync({ participants }: Pick<Room, "participants">): void {
    this.#people.clear();
    this.#interpreters.clear();
    for (const person of participants) {
      this.#meet(person);
      if (person.interprets) this.#interpreters.set(person.interprets, person.identity);
    }
    for (const [utterance, { speaker }] of this.#open) {
      if (!this.#people.has(speaker)) this.#open.delete(utterance);
    }
  }

  /** Whether anything changed that is shown. `now` is in milliseconds. */
  take(event: RoomEvent, now: number = Date.now()): boolean {
    switch (event.type) {
      case "participant.joined":
        this.#meet(event.participant);
        return true;
      case "participant.left":
        return this.#leave(event.participant.identity);
      case "participant.muted": {
        const person = this.#people.get(event.identity);
        if (!person) return false;
        this.#people.set(event.identity, { ...person, muted: event.muted });
        return true;
      }
      case "channel.interpreter":
        if (event.interpreter) this.#interpreters.set(event.channel, event.interpreter);
        else this.#interpreters.delete(event.channel);
        return true;
      case "utterance.started":
        this.#open.set(event.utterance, { speaker: event.speaker, since: now });
        return true;
      // Whichever comes first: of what is said in another language, some streams tell the end alone.
      case "utterance.transcript":
      case "utterance.translation":
      case "utterance.spoken":
      case "utterance.dropped":
        return this.#open.delete(event.utterance);
      default:
        return false;
    }
  }

  /** Forgets who began to speak long ago; whether anybody did. */
  expire(now: number): boolean {
    const before = this.#open.size;
    for (const [utterance, { since }] of this.#open) {
      if (now - since > LONGEST_UTTERANCE_MS) this.#open.delete(utterance);
    }
    return this.#open.size < before;
  }

  /** The floor first, then the languages in the room's order. */
  list(): Channel[] {
    return [FLOOR, ...this.#languages].map((id) => ({
      id,
      interpreter: this.#interpreters.get(id) ?? null,
      speaking: this.#speakingOn(id),
    }));
  }

  #speakingOn(id: string): string[] {
    const everybody = [...new Set(Array.from(this.#open.values(), ({ speaker }) => speaker))];
    return everybody.filter((identity) => {
      const person = this.#people.get(identity);
      const booth = person?.interprets ?? this.#boothOf(identity);
      if (id === FLOOR) return !booth;
      // What is said in a channel's own language passes through to it.
      return booth ? booth === id : isSameLanguage(person?.language ?? "", id);
    });
  }

  #boothOf(identity: string): string | undefined {
    for (const [channel, interpreter] of this.#interpreters) {
      if (interpreter === identity) return channel;
    }
    return undefined;
  }

  #meet(person: Participant): void {
    this.#people.set(person.identity, person);
    this.#names.set(person.identity, person.name || person.identity);
  }

  #leave(identity: string): boolean {
    for (const [utterance, { speaker }] of this.#open) {
      if (speaker === identity) this.#open.delete(utterance);
    }
    for (const [channel, interpreter] of this.#interpreters) {
      if (interpreter === identity) this.#interpreters.delete(channel);
    }
    return this.#people.delete(identity);
  }
}
