// The page during a conference: the dial, what is heard and how loud, one's own microphone. People,
// captions and what stands beside them are views of their own.

import type { TranscriptFormat } from "../api.ts";
import type { Channel, Channels } from "../channels.ts";
import type { Attendee } from "../conference.ts";
import { ownLanguageName, shortLanguageName } from "../names.ts";
import { STEPS, stepName } from "../steps.ts";
import { FLOOR } from "../wire.ts";
import { Dial } from "./dial.ts";
import { byId } from "./dom.ts";
import { RoomTools } from "./room-tools.ts";
import { askTwice, Roster } from "./roster.ts";

export interface ConferenceControls {
  tune: (channel: string) => void;
  originalGain: (gain: number) => void;
  /** Asks for the microphone and speaks. */
  speak: () => void;
  mute: (muted: boolean) => void;
  silence: (identity: string, muted: boolean) => void;
  remove: (identity: string) => void;
  endRoom: () => void;
  transcript: (format: TranscriptFormat) => Promise<Blob>;
  leave: () => void;
}

/** What one's own microphone does. */
export type Voice = "none" | "off" | "live";

export class ConferenceView {
  readonly #section = byId("conference", HTMLElement);
  readonly #state = byId("conference-state", HTMLElement);
  readonly #note = byId("conference-note", HTMLElement);
  readonly #busy = byId("conference-busy", HTMLElement);
  readonly #ownVoice = byId("conference-own-voice", HTMLElement);
  readonly #over = byId("over", HTMLElement);
  readonly #speak = byId("speak", HTMLButtonElement);
  readonly #level = byId("conference-level", HTMLMeterElement);
  readonly #volume = byId("conference-volume", HTMLInputElement);
  readonly #step = byId("step", HTMLInputElement);
  readonly #end = byId("end-room", HTMLButtonElement);
  // Never another one: whatever is switched to is heard from it.
  readonly #sound = byId("sound-channel", HTMLAudioElement);
  readonly #controls: ConferenceControls;
  readonly #dial: Dial;
  readonly #roster: Roster;
  readonly #tools: RoomTools;
  #me: Attendee | undefined;
  #voice: Voice = "none";
  #muted = false;

  constructor(controls: ConferenceControls) {
    this.#controls = controls;
    this.#dial = new Dial(controls.tune);
    this.#roster = new Roster(controls);
    this.#tools = new RoomTools(controls.transcript);
    this.#volume.addEventListener("input", () => {
      this.#sound.volume = Number(this.#volume.value);
    });
    this.#step.addEventListener("input", () => this.#nameStep());
    this.#step.addEventListener("change", () => {
      controls.originalGain(STEPS[Number(this.#step.value)] ?? 0);
    });
    this.#speak.addEventListener("click", () => this.#toggleVoice());
    byId("conference-leave", HTMLButtonElement).addEventListener("click", () => controls.leave());
    byId("over-back", HTMLButtonElement).addEventListener("click", () => controls.leave());
    askTwice(this.#end, "End for all", "End the conference for everybody", () =>
      controls.endRoom(),
    );
    addEventListener("keydown", (event) => this.#key(event));
  }

  show(me: Attendee, channels: readonly Channel[]): void {
    this.#me = me;
    this.#over.hidden = true;
    this.#section.classList.remove("over");
    this.#end.hidden = !me.can.moderates;
    this.#dial.build(channels, me.can.channels);
    this.#roster.reset(me.identity, me.can.moderates);
    this.#tools.show(me);
    this.note("");
    this.voice(me.can.voice ? "off" : "none");
    this.#sound.volume = Number(this.#volume.value);
    this.#section.hidden = false;
  }

  /** Puts the keyboard where one turns the dial. */
  focus(): void {
    this.#section.querySelector<HTMLInputElement>("#dial input:checked")?.focus();
  }

  hide(): void {
    this.#section.hidden = true;
    this.ownVoice("");
    this.#sound.srcObject = null;
  }

  /** What the connection does, and whether that is a reason to worry. */
  state(text: string, kind: "good" | "busy" | "bad"): void {
    if (this.#state.textContent !== text) this.#state.textContent = text;
    this.#state.dataset.kind = kind;
  }

  /** Something to know that is no state of the connection; an empty text takes it back. */
  note(text: string): void {
    if (this.#note.textContent !== text) this.#note.textContent = text;
  }

  /** What a busy server leaves out; an empty text takes it back. */
  busy(text: string): void {
    if (this.#busy.textContent !== text) this.#busy.textContent = text;
  }

  /** What is known of one's own voice; an empty text where there is nothing to say. */
  ownVoice(text: string): void {
    if (this.#ownVoice.textContent !== text) this.#ownVoice.textContent = text;
  }

  /** It is over; what was read stays to be read. */
  over(message: string): void {
    byId("over-message", HTMLElement).textContent = message;
    this.#over.hidden = false;
    this.#section.classList.add("over");
    this.#sound.srcObject = null;
    this.#dial.stop();
    this.voice("none");
    this.note("");
    this.ownVoice("");
    this.state("Over", "bad");
    byId("over-back", HTMLButtonElement).focus();
  }

  /** People, and who speaks and interprets on which channel. */
  update(channels: Channels, tuned: string, originalGain: number): void {
    const list = channels.list();
    this.#dial.show(list, tuned, (identity) => channels.nameOf(identity));
    const speaking = new Set(list.flatMap((channel) => channel.speaking));
    this.#roster.show(channels.people, speaking);
    const step = STEPS.indexOf(originalGain);
    if (document.activeElement !== this.#step) this.#step.value = String(Math.max(0, step));
    this.#step.disabled = tuned === FLOOR;
    this.#nameStep();
    const empty = byId("conference-captions-empty", HTMLElement);
    empty.textContent =
      tuned === FLOOR
        ? "What is said is written here as it is said."
        : `What is said is written here in ${shortLanguageName(tuned)}.`;
    byId("conference-captions", HTMLElement).setAttribute(
      "aria-label",
      tuned === FLOOR ? "Captions of the floor" : `Captions, ${ownLanguageName(tuned)}`,
    );
    const me = channels.person(this.#me?.identity ?? "");
    this.#section.classList.toggle("silenced", me?.muted === true && this.#voice === "live");
  }

  voice(voice: Voice): void {
    this.#voice = voice;
    this.#muted = false;
    this.#showVoice();
  }

  level(level: number): void {
    this.#level.value = this.#muted ? 0 : level;
  }

  sound(track: MediaStreamTrack): void {
    this.#sound.srcObject = new MediaStream([track]);
    this.#sound.play().catch((error: unknown) => {
      if (!(error instanceof DOMException) || error.name !== "NotAllowedError") return;
      // Some browsers want a gesture first.
      this.note("Press anywhere to hear the conference.");
      const play = () => {
        this.note("");
        void this.#sound.play();
      };
      addEventListener("pointerdown", play, { once: true });
    });
  }

  #nameStep(): void {
    const name = stepName(STEPS[Number(this.#step.value)] ?? 0);
    byId("step-name", HTMLOutputElement).textContent = name;
    this.#step.setAttribute("aria-valuetext", name);
  }

  #toggleVoice(): void {
    if (this.#voice === "none") return;
    if (this.#voice === "off") {
      this.#controls.speak();
      return;
    }
    this.#muted = !this.#muted;
    this.#controls.mute(this.#muted);
    this.#showVoice();
  }

  #showVoice(): void {
    this.#speak.hidden = this.#voice === "none";
    byId("conference-level-field", HTMLElement).hidden = this.#voice !== "live";
    this.#section.classList.toggle("muted", this.#muted);
    this.#speak.classList.toggle("primary", this.#voice === "off");
    if (this.#voice === "off") {
      this.#speak.textContent = "Speak";
      this.#speak.title = "Open the microphone (M)";
      this.#speak.removeAttribute("aria-pressed");
    } else {
      this.#speak.textContent = this.#muted ? "Muted" : "Mute";
      this.#speak.title = "Mute the microphone (M)";
      this.#speak.setAttribute("aria-pressed", String(this.#muted));
    }
  }

  /** M mutes, unless a letter is meant for a field. */
  #key(event: KeyboardEvent): void {
    const isTyping =
      event.target instanceof HTMLElement &&
      event.target.matches("input:not([type=radio]), select");
    if (this.#section.hidden || isTyping || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key.toLowerCase() === "m") this.#toggleVoice();
  }
}
