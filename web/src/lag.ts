// Where the time of an utterance went: a trace in parts that can be drawn and said.

import { STAGES, type Stage, type Trace } from "./wire.ts";

export interface Part {
  stage: Stage;
  ms: number;
  /** Share of the lag, 0 to 1. */
  share: number;
}

/** What each stage is, in words for whoever speaks and listens. */
export const STAGE_TITLES: Record<Stage, string> = {
  endpoint: "noticing the pause",
  queue: "waiting",
  transcribe: "understanding",
  translate: "translating",
  speak: "voicing",
  playout: "sending",
};

/** Every stage in its order; a stage that is missing or nonsense took no time. */
export function partsOf(trace: Trace): Part[] {
  const times = STAGES.map((stage) => {
    const ms = trace[`${stage}_ms`] ?? 0;
    return { stage, ms: Number.isFinite(ms) ? Math.max(0, ms) : 0 };
  });
  const total = times.reduce((sum, { ms }) => sum + ms, 0);
  return times.map(({ stage, ms }) => ({ stage, ms, share: total > 0 ? ms / total : 0 }));
}

/** Milliseconds as `1.9 s`, or as `80 ms` below a tenth of a second. */
export function say(ms: number): string {
  return ms < 100 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`;
}

/** The upper median; `undefined` of nothing. */
export function median(values: readonly number[]): number | undefined {
  return values.toSorted((one, other) => one - other)[Math.floor(values.length / 2)];
}
