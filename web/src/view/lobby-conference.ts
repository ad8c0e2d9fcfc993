// The part of the form that is about a conference: as what one comes, which channel one hears, and
// which channels there are to be.

import type { Invitation } from "../address.ts";
import type { Wish } from "../api.ts";
import { languageName, shortLanguageName } from "../names.ts";
import { grantsFor, isRole, type Role } from "../roles.ts";
import { FLOOR, type LanguageInfo } from "../wire.ts";
import { byId, make } from "./dom.ts";

// With more languages than these, none but one's own is chosen before one looks.
const MOST_CHOSEN = 6;

export class ConferenceFields {
  readonly #role = byId("role", HTMLSelectElement);
  readonly #listen = byId("listen", HTMLSelectElement);
  readonly #interpret = byId("interpret", HTMLSelectElement);
  readonly #languages = byId("room-languages", HTMLElement);
  readonly #invitation: Invitation | undefined;
  #isShown = false;

  /** `changed` is called when another role was chosen. */
  constructor(invitation: Invitation | undefined, changed: () => void) {
    this.#invitation = invitation;
    if (invitation) this.#role.value = invitation.role;
    this.#role.addEventListener("change", () => {
      // Interpreters hear what they interpret.
      if (this.#as === "interpreter") this.#listen.value = FLOOR;
      changed();
    });
    this.#languages.addEventListener("change", () => this.#showChannels());
  }

  /** Offers every language that can be interpreted into as a channel. */
  offer(languages: readonly LanguageInfo[]): void {
    const spoken = new Set(languages.flatMap(({ targets }) => targets));
    const codes = [...spoken].toSorted((one, other) =>
      languageName(one).localeCompare(languageName(other)),
    );
    const mine = navigator.language.split("-")[0];
    const isChosen = (code: string) =>
      codes.length <= MOST_CHOSEN || code === mine || code === "en";
    this.#languages.replaceChildren(
      ...codes.map((code) => {
        const label = make("label", "chip");
        const box = make("input");
        box.type = "checkbox";
        box.value = code;
        box.checked = isChosen(code);
        const name = make("span", "", shortLanguageName(code));
        label.append(box, name);
        return label;
      }),
    );
    this.#showChannels();
  }

  show(isShown: boolean): void {
    this.#isShown = isShown;
    byId("interpret-field", HTMLElement).hidden = !isShown || this.#as !== "interpreter";
    const known = this.#invitation?.languages ?? [];
    byId("room-languages-field", HTMLElement).hidden = !isShown || known.length > 0;
    this.#check();
  }

  /** Whether the form is to ask which language one speaks. */
  get speaks(): boolean {
    return this.#as === "speaker" || this.#as === "moderator";
  }

  /** The channel to begin with: a language or `floor`. */
  get heard(): string {
    return this.#listen.value || FLOOR;
  }

  /** What to ask for; `language` is what the form says one speaks. */
  wish(language: string): Omit<Wish, "room" | "identity" | "name"> {
    const into = this.#interpret.value;
    const heard = this.heard === FLOOR ? null : this.heard;
    const languages = this.#chosen();
    // What interpreters speak is where they speak to; for listeners it is what they would speak.
    const quiet = this.#as === "interpreter" ? into : (heard ?? languages[0] ?? "");
    const mine = (this.speaks ? language : quiet) || language;
    return {
      language: mine,
      hear: heard ?? mine,
      voice: null,
      grants: grantsFor(this.#as, into),
      kind: "conference",
      languages,
    };
  }

  get #as(): Role {
    return isRole(this.#role.value) ? this.#role.value : "listener";
  }

  #chosen(): string[] {
    const known = this.#invitation?.languages ?? [];
    if (known.length > 0) return known;
    const boxes = this.#languages.querySelectorAll<HTMLInputElement>("input:checked");
    return Array.from(boxes, ({ value }) => value);
  }

  #showChannels(): void {
    const chosen = this.#chosen();
    const mine = navigator.language.split("-")[0] ?? "";
    const heard = this.#as === "interpreter" ? FLOOR : mine;
    const channels = () => chosen.map((code) => new Option(languageName(code), code));
    fill(this.#interpret, channels(), this.#invitation?.channel || mine);
    fill(this.#listen, [new Option("the floor, as it is said", FLOOR), ...channels()], heard);
    this.#check();
  }

  /** A conference without channels is none. */
  #check(): void {
    const [first] = this.#languages.querySelectorAll("input");
    const isMissing = this.#isShown && this.#chosen().length === 0;
    first?.setCustomValidity(isMissing ? "Choose at least one channel." : "");
  }
}

/** Other options, and the choice that was made before as far as it is still there. */
function fill(select: HTMLSelectElement, options: HTMLOptionElement[], first: string): void {
  const before = select.value || first;
  select.replaceChildren(...options);
  if (options.some(({ value }) => value === before)) select.value = before;
}
