// Beside a conference: inviting others, and the transcript to keep.

import { shareLink } from "../address.ts";
import type { TranscriptFormat } from "../api.ts";
import type { Attendee } from "../conference.ts";
import { explain } from "../messages.ts";
import { shortLanguageName } from "../names.ts";
import { isRole } from "../roles.ts";
import { byId } from "./dom.ts";
import { copy } from "./share.ts";

const FORMATS: readonly TranscriptFormat[] = ["txt", "vtt", "srt", "json"];

export class RoomTools {
  readonly #role = byId("invite-role", HTMLSelectElement);
  readonly #channel = byId("invite-channel", HTMLSelectElement);
  readonly #link = byId("invite-link", HTMLInputElement);
  readonly #format = byId("transcript-format", HTMLSelectElement);
  readonly #download = byId("transcript", HTMLButtonElement);
  readonly #error = byId("transcript-error", HTMLElement);
  #me: Attendee | undefined;

  /** `transcript` gets one, in the language that is listened to. */
  constructor(transcript: (format: TranscriptFormat) => Promise<Blob>) {
    this.#role.addEventListener("change", () => this.#write());
    this.#channel.addEventListener("change", () => this.#write());
    const button = byId("invite", HTMLButtonElement);
    button.addEventListener("click", () => void copy(this.#link, button));
    this.#download.addEventListener("click", () => void this.#save(transcript));
  }

  show(me: Attendee): void {
    this.#me = me;
    byId("conference-room", HTMLElement).textContent = me.room;
    this.#channel.replaceChildren(
      ...me.languages.map((code) => new Option(`into ${shortLanguageName(code)}`, code)),
    );
    this.#error.textContent = "";
    this.#write();
  }

  #write(): void {
    if (!this.#me) return;
    const { room, languages } = this.#me;
    const role = isRole(this.#role.value) ? this.#role.value : "listener";
    this.#channel.hidden = role !== "interpreter";
    const invitation = { role, languages, channel: this.#channel.value };
    this.#link.value = shareLink(new URL(location.href), room, invitation);
  }

  async #save(transcript: (format: TranscriptFormat) => Promise<Blob>): Promise<void> {
    const format = FORMATS.find((known) => known === this.#format.value) ?? "txt";
    this.#error.textContent = "";
    this.#download.disabled = true;
    try {
      const link = document.createElement("a");
      // The token stays out of the address, which is kept in logs and in the list of downloads.
      link.href = URL.createObjectURL(await transcript(format));
      link.download = `${this.#me?.room ?? "conference"}.${format}`;
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
    } catch (error) {
      this.#error.textContent = explain(error, "conference");
    } finally {
      this.#download.disabled = false;
    }
  }
}
