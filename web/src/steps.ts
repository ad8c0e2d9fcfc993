// How loud the original is under the interpretation: the server mixes it once for each of five steps.

export const STEPS: readonly number[] = [0, 0.1, 0.2, 0.4, 1];

/** The step that is nearest to a gain. */
export function stepFor(gain: number): number {
  return STEPS.reduce(
    (best, step) => (Math.abs(step - gain) < Math.abs(best - gain) ? step : best),
    0,
  );
}

/** What a step is called. */
export function stepName(step: number): string {
  return step === 0 ? "off" : `${Math.round(step * 100)} %`;
}
