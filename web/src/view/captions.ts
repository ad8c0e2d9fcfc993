// The captions as a conversation: mine on one side, the others' on the other.

import { type Caption, lines, type Text } from "../captions.ts";
import { byId, fromTemplate, make, part } from "./dom.ts";
import { lagOf } from "./lag.ts";

// How near its end a list counts as read to the end, in pixels.
const AT_END_PX = 80;

export class CaptionList {
  readonly #list: HTMLElement;
  readonly #empty: HTMLElement;
  // Read aloud by screen readers: finished sentences alone, partial ones would never end.
  readonly #spoken: HTMLElement;
  readonly #newest: HTMLButtonElement;
  readonly #items = new Map<string, HTMLElement>();

  /** `id` names the list; what belongs to it is named after it. */
  constructor(id: string) {
    this.#list = byId(id, HTMLElement);
    this.#empty = byId(`${id}-empty`, HTMLElement);
    this.#spoken = byId(`${id}-live`, HTMLElement);
    this.#newest = byId(`${id}-newest`, HTMLButtonElement);
    this.#newest.addEventListener("click", () => this.#scrollToEnd());
    // Whoever scrolls up reads; whoever is at the end follows, however the window changes.
    this.#list.addEventListener("scroll", () => {
      this.#newest.hidden = this.#isAtEnd();
    });
    new ResizeObserver(() => {
      if (this.#newest.hidden) this.#scrollToEnd();
    }).observe(this.#list);
  }

  clear(): void {
    this.#items.clear();
    this.#list.replaceChildren();
    this.#spoken.replaceChildren();
    this.#empty.hidden = false;
    this.#newest.hidden = true;
  }

  /** A line between what came before and what comes; none where nothing came before. */
  divide(text: string): void {
    const before = this.#list.lastElementChild;
    if (!before) return;
    const wasAtEnd = this.#isAtEnd();
    if (before.matches(".divider")) before.textContent = text;
    else this.#list.append(make("li", "divider", text));
    if (wasAtEnd) this.#scrollToEnd();
  }

  remove(id: string): void {
    this.#items.get(id)?.remove();
    this.#items.delete(id);
    this.#empty.hidden = this.#items.size > 0;
  }

  show(caption: Caption, speaker: string): void {
    const wasAtEnd = this.#isAtEnd();
    const item = this.#items.get(caption.id) ?? this.#add(caption, speaker);
    const { lead, second } = lines(caption);
    write(part(item, ".lead"), lead);
    write(part(item, ".second"), second);
    const isListening = !caption.over && !lead && !second;
    part(item, ".listening").hidden = !isListening;
    const note = part(item, ".note");
    note.textContent = caption.dropped ? `Not spoken: ${caption.dropped}` : "";
    note.hidden = !caption.dropped;
    if (caption.trace && !item.querySelector(".lag")) item.append(lagOf(caption.trace));
    if (lead && !lead.partial && !caption.mine) this.#say(item, speaker, lead);
    if (wasAtEnd) this.#scrollToEnd();
  }

  #add(caption: Caption, speaker: string): HTMLElement {
    const item = fromTemplate("caption");
    item.classList.add(caption.mine ? "mine" : "theirs");
    part(item, ".speaker").textContent = caption.mine ? "You" : speaker;
    this.#items.set(caption.id, item);
    this.#list.append(item);
    this.#empty.hidden = true;
    return item;
  }

  #say(item: HTMLElement, speaker: string, { text, language }: Text): void {
    if (item.dataset.said === text) return;
    item.dataset.said = text;
    const line = document.createElement("p");
    line.lang = language;
    line.textContent = `${speaker}: ${text}`;
    this.#spoken.replaceChildren(line);
  }

  #scrollToEnd(): void {
    this.#list.scrollTo({ top: this.#list.scrollHeight });
  }

  #isAtEnd(): boolean {
    const { scrollTop, clientHeight, scrollHeight } = this.#list;
    return scrollHeight - scrollTop - clientHeight < AT_END_PX;
  }
}

function write(line: HTMLElement, text: Text | null): void {
  line.hidden = !text;
  if (!text) return;
  line.textContent = text.text;
  line.lang = text.language;
  line.classList.toggle("partial", text.partial);
}
