// Who is in a conference, with what a moderator may do about it.

import { shortLanguageName } from "../names.ts";
import { FLOOR, type Participant } from "../wire.ts";
import { byId, make, part } from "./dom.ts";

export interface Moderation {
  silence: (identity: string, muted: boolean) => void;
  remove: (identity: string) => void;
}

// How long a button that removes somebody waits for the second press.
const SURE_MS = 4000;

export class Roster {
  readonly #list = byId("roster", HTMLElement);
  readonly #title = byId("roster-title", HTMLElement);
  readonly #items = new Map<string, HTMLElement>();
  readonly #moderation: Moderation;
  #moderates = false;
  #me = "";

  constructor(moderation: Moderation) {
    this.#moderation = moderation;
  }

  reset(me: string, moderates: boolean): void {
    this.#me = me;
    this.#moderates = moderates;
    this.#items.clear();
    this.#list.replaceChildren();
  }

  /** In place, so that a button keeps the focus. */
  show(people: readonly Participant[], speaking: ReadonlySet<string>): void {
    this.#title.textContent = people.length > 0 ? `People (${people.length})` : "People";
    const ids = new Set(people.map(({ identity }) => identity));
    for (const [identity, item] of this.#items) {
      if (ids.has(identity)) continue;
      item.remove();
      this.#items.delete(identity);
    }
    people.forEach((person, index) => {
      const item = this.#items.get(person.identity) ?? this.#add(person);
      if (this.#list.children[index] !== item) {
        this.#list.insertBefore(item, this.#list.children[index] ?? null);
      }
      this.#update(item, person, speaking.has(person.identity));
    });
  }

  #add({ identity, name }: Participant): HTMLElement {
    const item = make("li", "person");
    const initial = make("span", "initial", name.charAt(0).toUpperCase());
    initial.setAttribute("aria-hidden", "true");
    const text = make("span", "person-text");
    text.append(make("strong"), make("small"));
    item.append(initial, text);
    if (this.#moderates && identity !== this.#me) text.append(this.#actions(identity, name));
    this.#items.set(identity, item);
    return item;
  }

  #update(item: HTMLElement, person: Participant, isSpeaking: boolean): void {
    const { identity, name, muted = false } = person;
    part(item, "strong").textContent = identity === this.#me ? `${name} (you)` : name;
    part(item, "small").textContent = [muted ? "muted" : "", doing(person)]
      .filter(Boolean)
      .join(" · ");
    item.classList.toggle("speaking", isSpeaking && !muted);
    const mute = item.querySelector<HTMLButtonElement>("[data-action=mute]");
    if (!mute) return;
    mute.textContent = muted ? "Unmute" : "Mute";
    mute.setAttribute("aria-label", `${mute.textContent} ${name}`);
    mute.value = String(!muted);
  }

  #actions(identity: string, name: string): HTMLElement {
    const actions = make("span", "person-actions");
    const mute = make("button");
    mute.type = "button";
    mute.dataset.action = "mute";
    mute.addEventListener("click", () => this.#moderation.silence(identity, mute.value === "true"));
    const remove = make("button", "danger");
    remove.type = "button";
    remove.dataset.action = "remove";
    askTwice(remove, "Remove", `Remove ${name}`, () => this.#moderation.remove(identity));
    actions.append(mute, remove);
    return actions;
  }
}

/** Makes a button that acts when it is pressed a second time within a few seconds. */
export function askTwice(
  button: HTMLButtonElement,
  label: string,
  fullLabel: string,
  act: () => void,
): void {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const calm = () => {
    clearTimeout(timer);
    timer = undefined;
    button.textContent = label;
    button.setAttribute("aria-label", fullLabel);
  };
  button.addEventListener("click", () => {
    if (timer !== undefined) {
      calm();
      act();
      return;
    }
    button.textContent = "Sure?";
    button.setAttribute("aria-label", `${fullLabel}: press again to confirm`);
    timer = setTimeout(calm, SURE_MS);
  });
  calm();
}

function doing({ language, interprets, channel }: Participant): string {
  if (interprets) return `interprets into ${shortLanguageName(interprets)}`;
  if (channel === FLOOR) return "listens to the floor";
  if (channel) return `listens to ${shortLanguageName(channel)}`;
  return `speaks ${shortLanguageName(language)}`;
}
