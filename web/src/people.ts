// Who is in the call, seen from oneself.

import type { Participant } from "./wire.ts";

/**
 * Whether everybody else speaks the language that I hear: then nothing is interpreted for me, and
 * the original is all there is to hear.
 */
export function areUnderstood(others: readonly Participant[], hear: string): boolean {
  const primary = (tag: string) => tag.split("-")[0]?.toLowerCase();
  return others.length > 0 && others.every(({ language }) => primary(language) === primary(hear));
}
