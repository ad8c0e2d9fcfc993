// Names that people read: rooms, languages, voices; and the ids that machines read.

import type { VoiceInfo } from "./wire.ts";

const FIRST = [
  "amber",
  "calm",
  "clear",
  "gentle",
  "golden",
  "green",
  "kind",
  "quiet",
  "silver",
  "swift",
  "warm",
  "wide",
];
const SECOND = [
  "bridge",
  "brook",
  "garden",
  "harbour",
  "lantern",
  "meadow",
  "orchard",
  "river",
  "stone",
  "table",
  "terrace",
  "valley",
];

/** Room names that the server accepts. */
export const ROOM_PATTERN = "[A-Za-z0-9_\\-]{1,64}";

/** A room's name that is easy to say, such as `calm-harbour-4821`. `random` gives 0 to 1. */
export function inventedRoom(random: () => number): string {
  const pick = (words: string[]) => words[Math.floor(random() * words.length)];
  return `${pick(FIRST)}-${pick(SECOND)}-${1000 + Math.floor(random() * 9000)}`;
}

/** An identity for a name: what the server accepts of it, and a suffix that tells namesakes apart. */
export function identityFor(name: string, suffix: string): string {
  const plain = name
    .normalize("NFD")
    .replace(/[^A-Za-z0-9_.@-]+/g, "-")
    .slice(0, 48);
  return `${plain.replace(/^-+|-+$/g, "") || "guest"}-${suffix}`;
}

/** `es` as `Spanish (español)`. */
export function languageName(code: string): string {
  const inEnglish = nameIn("en", code);
  const own = nameIn(code, code);
  return own.toLowerCase() === inEnglish.toLowerCase() ? inEnglish : `${inEnglish} (${own})`;
}

/** `fr` as `Français`. */
export function ownLanguageName(code: string): string {
  const own = nameIn(code, code);
  return own.charAt(0).toUpperCase() + own.slice(1);
}

export const shortLanguageName = (code: string) => nameIn("en", code);

function nameIn(language: string, code: string): string {
  try {
    return new Intl.DisplayNames([language], { type: "language" }).of(code) ?? code;
  } catch {
    return code;
  }
}

/**
 * `ef_dora` of Kokoro as `Dora, a woman`: its names are a letter for the language, `f` or `m`, and
 * a name. Other engines' names stay as they are, and so do those of learned voices.
 */
export function voiceLabel({ name, engine, kind }: VoiceInfo): string {
  if (kind === "learned") return `${name}, learned`;
  const parts = /^[a-z]([fm])_([a-z]+)$/.exec(name);
  if (!parts?.[1] || !parts[2]) return `${name} (${engine})`;
  const [, who, given] = parts;
  const shown = given.charAt(0).toUpperCase() + given.slice(1);
  return `${shown}, ${who === "f" ? "a woman" : "a man"}`;
}
