// Lag as a stacked bar with numbers: one for each utterance, and a summary of the call.

import { median, partsOf, STAGE_TITLES, say } from "../lag.ts";
import { STAGES, type Stage, type Trace } from "../wire.ts";
import { byId, make } from "./dom.ts";

/** The bar of one utterance, and its numbers when it is opened. */
export function lagOf(trace: Trace): HTMLElement {
  const parts = partsOf(trace);
  const details = make("details", "lag");
  const summary = make("summary");
  const bar = make("span", "bar");
  bar.setAttribute("aria-hidden", "true");
  for (const { stage, share } of parts) {
    const piece = make("span", `stage ${stage}`);
    piece.style.flexGrow = String(share);
    bar.append(piece);
  }
  const total = make("span", "total", say(trace.lag_ms ?? 0));
  total.title = "from the last word to the first word of the interpretation";
  summary.append(make("span", "hidden-text", "Interpreted after "), bar, total);
  const numbers = make("dl", "numbers");
  for (const { stage, ms } of parts) numbers.append(row(stage, say(ms)));
  details.append(summary, numbers);
  return details;
}

function row(stage: Stage, ...values: string[]): HTMLElement {
  const line = make("div");
  const title = make("dt", "", STAGE_TITLES[stage]);
  title.prepend(make("span", `swatch ${stage}`));
  line.append(title, ...values.map((value) => make("dd", "", value)));
  return line;
}

/** The panel with the legend: the latest utterance and the median of all. */
export class LagPanel {
  readonly #headline = byId("lag-headline", HTMLElement);
  readonly #bar = byId("lag-bar", HTMLElement);
  readonly #legend = byId("lag-legend", HTMLElement);
  #traces: Trace[] = [];

  clear(): void {
    this.#traces = [];
    this.#headline.textContent = "Nothing was interpreted yet.";
    this.#bar.replaceChildren();
    this.#legend.replaceChildren(...STAGES.map((stage) => row(stage, "", "")));
  }

  add(trace: Trace): void {
    this.#traces.push(trace);
    const typical = median(this.#traces.map(({ lag_ms }) => lag_ms ?? 0)) ?? 0;
    const count = this.#traces.length;
    this.#headline.textContent =
      count === 1
        ? `Heard ${say(trace.lag_ms ?? 0)} after the last word.`
        : `Heard ${say(trace.lag_ms ?? 0)} after the last word; ${say(typical)} is the median of ${count}.`;
    const latest = partsOf(trace);
    this.#bar.replaceChildren(
      ...latest.map(({ stage, share }) => {
        const piece = make("span", `stage ${stage}`);
        piece.style.flexGrow = String(share);
        return piece;
      }),
    );
    const all = this.#traces.map(partsOf);
    this.#legend.replaceChildren(
      ...latest.map(({ stage, ms }, index) =>
        row(stage, say(ms), say(median(all.map((parts) => parts[index]?.ms ?? 0)) ?? 0)),
      ),
    );
  }
}
