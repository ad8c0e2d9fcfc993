// Who is in the call, seen from oneself.

import type { Participant } from "./wire.ts";

/** Whether two tags name one language, whatever the region. */
export function isSameLanguage(one: string, other: string): boolean {
  const primary = (tag: string) => tag.split("-")[0]?.toLowerCase();
  return primary(one) === primary(other);
}

/**
 * Whether everybody else speaks the language that I hear: then nothing is interpreted for me, and
 * the original is all there is to hear.
 */
export function areUnderstood(others: readonly Participant[], hear: string): boolean {
  return others.length > 0 && others.every(({ language }) => isSameLanguage(language, hear));
}
