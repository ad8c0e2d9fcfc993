// The page during a call: people, controls, sound; captions and lag are views of their own.

import { shareLink } from "../address.ts";
import type { Me } from "../call.ts";
import { shortLanguageName } from "../names.ts";
import type { Sound } from "../peer.ts";
import { areUnderstood } from "../people.ts";
import type { Participant } from "../wire.ts";
import { byId, make } from "./dom.ts";
import { copy } from "./share.ts";

export interface CallControls {
  mute: (muted: boolean) => void;
  leave: () => void;
}

export class CallView {
  readonly #section = byId("call", HTMLElement);
  readonly #state = byId("state", HTMLElement);
  readonly #busy = byId("busy", HTMLElement);
  readonly #ownVoice = byId("own-voice-state", HTMLElement);
  readonly #people = byId("people", HTMLElement);
  readonly #mute = byId("mute", HTMLButtonElement);
  readonly #level = byId("level", HTMLMeterElement);
  readonly #volume = byId("volume", HTMLInputElement);
  readonly #original = byId("original", HTMLInputElement);
  readonly #originalField = byId("original-field", HTMLElement);
  readonly #sounds: Record<Sound, HTMLAudioElement> = {
    interpretation: byId("sound-interpretation", HTMLAudioElement),
    original: byId("sound-original", HTMLAudioElement),
  };
  readonly #controls: CallControls;
  #me: Me | undefined;
  #others: Participant[] = [];
  #hasOriginal = false;

  constructor(controls: CallControls) {
    this.#controls = controls;
    this.#mute.addEventListener("click", () => this.#setMuted(!this.#isMuted()));
    this.#volume.addEventListener("input", () => this.#setVolumes());
    this.#original.addEventListener("input", () => this.#setVolumes());
    byId("leave", HTMLButtonElement).addEventListener("click", () => controls.leave());
    const share = byId("share", HTMLButtonElement);
    const link = byId("share-link", HTMLInputElement);
    share.addEventListener("click", () => void copy(link, share));
    addEventListener("keydown", (event) => this.#key(event));
  }

  get isShown(): boolean {
    return !this.#section.hidden;
  }

  show(me: Me, originalGain: number): void {
    this.#me = me;
    byId("room-name", HTMLElement).textContent = me.room;
    byId("share-link", HTMLInputElement).value = shareLink(new URL(location.href), me.room);
    byId("languages", HTMLElement).textContent = saidOf(me);
    this.#original.value = String(originalGain);
    this.#setMuted(false);
    this.#section.hidden = false;
    this.people(this.#others);
    this.#mute.focus();
  }

  hide(): void {
    this.#section.hidden = true;
    this.ownVoice("");
    this.#others = [];
    this.#hasOriginal = false;
    for (const audio of Object.values(this.#sounds)) audio.srcObject = null;
  }

  /** What the connection does, and whether that is a reason to worry. */
  state(text: string, kind: "good" | "busy" | "bad"): void {
    if (this.#state.textContent !== text) this.#state.textContent = text;
    this.#state.dataset.kind = kind;
  }

  /** What a busy server leaves out; an empty text takes it back. */
  busy(text: string): void {
    if (this.#busy.textContent !== text) this.#busy.textContent = text;
  }

  /** What is known of one's own voice; an empty text where there is nothing to say. */
  ownVoice(text: string): void {
    if (this.#ownVoice.textContent !== text) this.#ownVoice.textContent = text;
  }

  level(level: number): void {
    this.#level.value = this.#isMuted() ? 0 : level;
  }

  people(others: Participant[]): void {
    this.#others = others;
    byId("alone", HTMLElement).hidden = others.length > 0;
    this.#people.replaceChildren(
      ...others.map(({ name, language, hear }) => {
        const item = make("li", "person");
        const initial = make("span", "initial", name.charAt(0).toUpperCase());
        initial.setAttribute("aria-hidden", "true");
        const languages =
          language === hear
            ? `speaks ${shortLanguageName(language)}`
            : `speaks ${shortLanguageName(language)}, hears ${shortLanguageName(hear)}`;
        const text = make("span");
        text.append(make("strong", "", name), make("small", "", languages));
        item.append(initial, text);
        return item;
      }),
    );
    this.#setVolumes();
  }

  nameOf(identity: string): string {
    return this.#others.find((person) => person.identity === identity)?.name ?? identity;
  }

  sound(which: Sound, track: MediaStreamTrack): void {
    const audio = this.#sounds[which];
    audio.srcObject = new MediaStream([track]);
    if (which === "original") this.#hasOriginal = true;
    this.#setVolumes();
    audio.play().catch((error: unknown) => {
      if (!(error instanceof DOMException) || error.name !== "NotAllowedError") return;
      // Some browsers want a gesture first.
      this.state("Press anywhere to hear the other side.", "busy");
      addEventListener("pointerdown", () => void audio.play(), { once: true });
    });
  }

  #setVolumes(): void {
    const volume = Number(this.#volume.value);
    const isDirect = areUnderstood(this.#others, this.#me?.hear ?? "");
    this.#sounds.interpretation.volume = volume;
    this.#sounds.original.volume = volume * (isDirect ? 1 : Number(this.#original.value));
    this.#originalField.hidden = !this.#hasOriginal || isDirect;
  }

  #isMuted(): boolean {
    return this.#mute.getAttribute("aria-pressed") === "true";
  }

  #setMuted(muted: boolean): void {
    this.#mute.setAttribute("aria-pressed", String(muted));
    this.#section.classList.toggle("muted", muted);
    this.#controls.mute(muted);
  }

  /** M mutes, unless a letter is meant for a field. */
  #key(event: KeyboardEvent): void {
    const isTyping = event.target instanceof HTMLElement && event.target.matches("input, select");
    if (!this.isShown || isTyping || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key.toLowerCase() === "m") this.#setMuted(!this.#isMuted());
  }
}

function saidOf({ language, hear }: Me): string {
  const spoken = shortLanguageName(language);
  return language === hear
    ? `You speak and hear ${spoken}.`
    : `You speak ${spoken} and hear ${shortLanguageName(hear)}.`;
}
