// The dial: the channels of a conference as one group of radio buttons, so that arrow keys turn it.

import type { Channel } from "../channels.ts";
import { ownLanguageName, shortLanguageName } from "../names.ts";
import { FLOOR } from "../wire.ts";
import { byId, make, part } from "./dom.ts";

export class Dial {
  readonly #group = byId("dial", HTMLFieldSetElement);
  readonly #turn: (channel: string) => void;
  readonly #stops = new Map<string, HTMLElement>();
  #tuned = "";

  constructor(turn: (channel: string) => void) {
    this.#turn = turn;
  }

  /** A stop for each channel; `allowed` names those that may be listened to, null allows all. */
  build(channels: readonly Channel[], allowed: readonly string[] | null): void {
    this.#stops.clear();
    this.#tuned = "";
    for (const { id } of channels) this.#stops.set(id, this.#stop(id, allowed));
    byId("dial-stops", HTMLElement).replaceChildren(...this.#stops.values());
    this.#group.disabled = false;
  }

  /** Nothing is left to listen to. */
  stop(): void {
    this.#group.disabled = true;
  }

  show(channels: readonly Channel[], tuned: string, nameOf: (identity: string) => string): void {
    for (const channel of channels) {
      const stop = this.#stops.get(channel.id);
      if (!stop) continue;
      const input = stop.querySelector("input");
      const isTuned = channel.id === tuned;
      if (input && input.checked !== isTuned) input.checked = isTuned;
      if (isTuned && this.#tuned !== tuned) {
        this.#tuned = tuned;
        stop.scrollIntoView({ block: "nearest", inline: "center" });
      }
      stop.classList.toggle("human", channel.interpreter !== null);
      stop.classList.toggle("live", channel.speaking.length > 0);
      const text = saidOf(channel, nameOf);
      const line = part(stop, ".stop-line");
      if (line.textContent !== text) line.textContent = text;
    }
  }

  #stop(id: string, allowed: readonly string[] | null): HTMLElement {
    const stop = make("label", "stop");
    const input = make("input");
    input.type = "radio";
    input.name = "channel";
    input.value = id;
    input.disabled = !(allowed?.includes(id) ?? true);
    input.addEventListener("change", () => this.#turn(id));
    const text = make("span", "stop-text");
    const name = make("span", "stop-name", id === FLOOR ? "Floor" : ownLanguageName(id));
    if (id !== FLOOR) {
      name.lang = id;
      text.append(make("span", "hidden-text", `${shortLanguageName(id)}, `));
    }
    text.append(name, make("span", "stop-line"));
    stop.append(input, text);
    return stop;
  }
}

function saidOf(
  { id, interpreter, speaking }: Channel,
  nameOf: (identity: string) => string,
): string {
  const names = speaking.map(nameOf).join(", ");
  if (id === FLOOR)
    return names ? `${names} ${speaking.length > 1 ? "speak" : "speaks"}` : "as it is said";
  if (interpreter) return `${nameOf(interpreter)} interprets`;
  return names ? `${names}, directly` : "by the machine";
}
