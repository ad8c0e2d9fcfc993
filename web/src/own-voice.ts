// Being heard in one's own voice: asking for it, and what is known of it, in words. It draws nothing.

import type { Wish } from "./api.ts";
import { isSameLanguage } from "./people.ts";
import type { LanguageInfo, OwnVoice, Participant, RoomEvent } from "./wire.ts";

/** The voice of a token that asks for it. */
export const OWN_VOICE = "own";

/** The wish of somebody who agrees to their voice being learned. */
export function inOwnVoice(wish: Wish): Wish {
  return { ...wish, voice: OWN_VOICE, grants: { ...wish.grants, own_voice: true } };
}

/** Languages in which somebody who speaks `spoken` can be heard in their own voice. */
export function ownVoiceTargets(languages: readonly LanguageInfo[], spoken: string): string[] {
  const language = languages.find(({ code }) => isSameLanguage(code, spoken));
  return language?.own_voice ?? [];
}

/** What is known of one's own voice, in a sentence; empty where there is nothing to say. */
export function ownVoiceSaid(state: OwnVoice | undefined, collectedMs = 0, neededMs = 0): string {
  switch (state) {
    case "collecting": {
      const [collected, needed] = [collectedMs, neededMs].map((ms) => Math.floor(ms / 1000));
      return collected && needed
        ? `Learning your voice: ${collected} of ${needed} s of clear speech.`
        : "Learning your voice while you speak.";
    }
    case "learned":
      return "Others hear you in your own voice.";
    case "failed":
      return "Your voice could not be learned: others hear the usual one.";
    case "forgotten":
      return "The server forgot your voice: others hear the usual one.";
    default:
      return "";
  }
}

/** What an event says of the own voice of `identity`; null when it is about something else. */
export function ownVoiceTold(event: RoomEvent, identity: string): string | null {
  if (event.type !== "participant.voice" || event.identity !== identity) return null;
  return ownVoiceSaid(event.state, event.collected_ms, event.needed_ms);
}

/** What those who are in the room say of it: events tell only of what comes later. */
export function ownVoiceAmong(people: readonly Participant[], identity: string): string {
  return ownVoiceSaid(people.find((person) => person.identity === identity)?.own_voice);
}
