// How long to wait before the next attempt.

const FIRST_MS = 500;
const LONGEST_MS = 15_000;

/**
 * Milliseconds before attempt `attempt` (counted from 0): twice as long each time up to 15 s. Half
 * of it is chance (`random` between 0 and 1), so that clients which a server lost at once do not
 * come back at once.
 */
export function delayMs(attempt: number, random: number): number {
  const longest = Math.min(LONGEST_MS, FIRST_MS * 2 ** attempt);
  return longest / 2 + (longest / 2) * random;
}
