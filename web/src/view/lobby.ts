// The form before a room: who one is, what one speaks and hears, and where.

import { asked, claimsOf } from "../address.ts";
import type { Wish } from "../api.ts";
import {
  identityFor,
  inventedRoom,
  languageName,
  shortLanguageName,
  voiceLabel,
} from "../names.ts";
import { inOwnVoice, ownVoiceTargets } from "../own-voice.ts";
import type { LanguageInfo, RoomKind, VoiceInfo } from "../wire.ts";
import { byId } from "./dom.ts";
import { ConferenceFields } from "./lobby-conference.ts";

const NAME_KEY = "dragoman.name";

export class Lobby {
  readonly #section = byId("lobby", HTMLElement);
  readonly #form = byId("join", HTMLFormElement);
  readonly #title = byId("join-title", HTMLElement);
  readonly #name = byId("name", HTMLInputElement);
  readonly #language = byId("language", HTMLSelectElement);
  readonly #hear = byId("hear", HTMLSelectElement);
  readonly #voice = byId("voice", HTMLSelectElement);
  readonly #ownVoice = byId("own-voice", HTMLInputElement);
  readonly #room = byId("room", HTMLInputElement);
  readonly #access = byId("access", HTMLInputElement);
  readonly #button = byId("join-button", HTMLButtonElement);
  readonly #error = byId("join-error", HTMLElement);
  readonly #kinds = byId("kind", HTMLFieldSetElement);
  readonly #conference: ConferenceFields;
  readonly #isInvited: boolean;
  #voices: VoiceInfo[] = [];
  #languages: LanguageInfo[] = [];

  /**
   * `join` is called with a complete form; `channel` is what is to be heard of a conference, null
   * in a call.
   */
  constructor(join: (wish: Wish, access: string, channel: string | null) => Promise<void>) {
    const { room, access, conference } = asked(new URL(location.href));
    this.#isInvited = room !== "";
    this.#conference = new ConferenceFields(conference, () => this.#showKind());
    this.#name.value = localStorage.getItem(NAME_KEY) ?? "";
    this.#access.value = access;
    this.#room.value = room || inventedRoom(Math.random);
    // Whoever was invited has nothing to choose here.
    this.#kinds.hidden = this.#isInvited;
    if (conference) byId("kind-conference", HTMLInputElement).checked = true;
    this.#kinds.addEventListener("change", () => this.#showKind());
    this.#language.addEventListener("change", () => {
      this.#showVoices();
      this.#showOwnVoice();
    });
    this.#ownVoice.addEventListener("change", () => this.#showVoices());
    this.#hear.addEventListener("change", () => this.#showVoices());
    byId("new-room", HTMLButtonElement).addEventListener("click", () => {
      this.#room.value = inventedRoom(Math.random);
      this.#room.focus();
    });
    this.#form.addEventListener("submit", (event) => {
      event.preventDefault();
      localStorage.setItem(NAME_KEY, this.#name.value);
      this.fail("");
      this.#button.disabled = true;
      const channel = this.#kind === "conference" ? this.#conference.heard : null;
      void join(this.#wish(), this.#access.value.trim(), channel).finally(() => {
        this.#button.disabled = false;
      });
    });
    this.#showKind();
  }

  get #kind(): RoomKind {
    return byId("kind-conference", HTMLInputElement).checked ? "conference" : "call";
  }

  #showKind(): void {
    const kind = this.#kind;
    const isConference = kind === "conference";
    this.#button.textContent = `${this.#isInvited ? "Join" : "Start"} the ${kind}`;
    this.#title.textContent = `${this.#isInvited ? "Join" : "Start"} a ${kind}`;
    for (const field of this.#form.querySelectorAll<HTMLElement>("[data-for]")) {
      field.hidden = field.dataset.for !== kind;
    }
    this.#conference.show(isConference);
    const speaks = !isConference || this.#conference.speaks;
    byId("language-field", HTMLElement).hidden = !speaks;
    this.#showOwnVoice();
    byId("room-help", HTMLElement).textContent = isConference
      ? "Whoever enters the same name is in the same conference."
      : "Whoever enters the same name is in the same call.";
  }

  offer(languages: LanguageInfo[], voices: VoiceInfo[], needsNoKey: boolean): void {
    this.#voices = voices;
    this.#languages = languages;
    const mine = navigator.language.split("-")[0];
    const options = languages
      .map(({ code }) => new Option(languageName(code), code, code === mine, code === mine))
      .toSorted((one, other) => one.text.localeCompare(other.text));
    this.#language.replaceChildren(...options);
    const heard = options.map(({ text, value }) => new Option(text, value));
    this.#hear.replaceChildren(new Option("the same", "", true, true), ...heard);
    // A token that was given to us knows better who we are.
    const field = byId("access-field", HTMLElement);
    field.hidden = needsNoKey && !this.#access.value;
    this.#access.required = !needsNoKey;
    this.#showVoices();
    this.#showOwnVoice();
    this.#conference.offer(languages);
    this.#button.disabled = false;
  }

  show(): void {
    this.#section.hidden = false;
    this.#button.focus();
  }

  hide(): void {
    this.#section.hidden = true;
  }

  /** Says what went wrong; an empty message takes it back. */
  fail(message: string): void {
    this.#error.textContent = message;
  }

  #showVoices(): void {
    const hear = this.#hear.value || this.#language.value;
    const before = this.#voice.value;
    const options = this.#voices
      .filter(({ language }) => language === hear)
      .map((voice) => new Option(voiceLabel(voice), voice.name));
    this.#voice.replaceChildren(new Option("the usual one", "", true, true), ...options);
    if (options.some(({ value }) => value === before)) this.#voice.value = before;
    // One voice is asked for: one's own, or that of what one hears.
    this.#voice.disabled = options.length === 0 || this.#ownVoice.checked;
    if (this.#ownVoice.checked) this.#voice.value = "";
  }

  /** Offers what the server can do for what one speaks. Nobody agrees to it by accident. */
  #showOwnVoice(): void {
    const speaks = this.#kind === "call" || this.#conference.speaks;
    const targets = speaks ? ownVoiceTargets(this.#languages, this.#language.value) : [];
    byId("own-voice-field", HTMLElement).hidden = targets.length === 0;
    if (targets.length === 0 && this.#ownVoice.checked) {
      this.#ownVoice.checked = false;
      this.#showVoices();
    }
    const heard = targets.map(shortLanguageName).join(", ");
    byId("own-voice-help", HTMLElement).textContent =
      `The server learns your voice while you speak, and interprets you in it for those who hear ${heard}. ` +
      "It forgets your voice when you leave.";
  }

  #wish(): Wish {
    const wish = this.#plainWish();
    return this.#ownVoice.checked ? inOwnVoice(wish) : wish;
  }

  #plainWish(): Wish {
    const name = this.#name.value.trim();
    const language = this.#language.value;
    const bytes = crypto.getRandomValues(new Uint8Array(3));
    const suffix = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
    const who = {
      room: claimsOf(this.#access.value.trim())?.room ?? this.#room.value,
      identity: identityFor(name, suffix),
      name,
    };
    if (this.#kind === "conference") return { ...who, ...this.#conference.wish(language) };
    return {
      ...who,
      language,
      hear: this.#hear.value || language,
      voice: this.#voice.value || null,
    };
  }
}
