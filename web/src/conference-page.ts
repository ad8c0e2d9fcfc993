// Puts a conference and what is seen of it together.

import type { Tokens } from "./call.ts";
import type { Caption } from "./captions.ts";
import { ChannelCaptions } from "./channel-captions.ts";
import { Conference, type LaneState } from "./conference.ts";
import { explain } from "./messages.ts";
import { Meter } from "./meter.ts";
import { openMicrophone } from "./microphone.ts";
import { shortLanguageName } from "./names.ts";
import { CaptionList } from "./view/captions.ts";
import { ConferenceView } from "./view/conference.ts";
import { FLOOR, type UtteranceEvent } from "./wire.ts";

export class ConferencePage {
  readonly #left: (message: string) => void;
  readonly #list = new CaptionList("conference-captions");
  readonly #view: ConferenceView;
  #conference: Conference | null = null;
  #captions: ChannelCaptions | null = null;
  #read = "";
  #meter: Meter | null = null;
  #isOver = false;

  /** `left` is called when the conference is no longer before the eye. */
  constructor(left: (message: string) => void) {
    this.#left = left;
    this.#view = new ConferenceView({
      tune: (channel) => void this.#conference?.tune(channel),
      originalGain: (gain) => void this.#conference?.setOriginalGain(gain),
      speak: () => void this.#speak(),
      mute: (muted) => this.#conference?.mute(muted),
      silence: (identity, muted) => void this.#conference?.silence(identity, muted),
      remove: (identity) => void this.#conference?.remove(identity),
      endRoom: () => void this.#conference?.endRoom(),
      transcript: (format) =>
        this.#conference?.transcript(format) ?? Promise.reject(new Error("nothing is joined")),
      leave: () => this.leave(),
    });
  }

  get isOn(): boolean {
    return this.#conference !== null;
  }

  /** Joins with a token; `channel` is what to listen to, null leaves it to the token. */
  async join(tokens: Tokens, channel: string | null): Promise<void> {
    this.#isOver = false;
    const early: UtteranceEvent[] = [];
    let sound: MediaStreamTrack | null = null;
    let state: LaneState | null = null;
    const conference = await Conference.join(tokens, channel, {
      listening: (now) => {
        state = now;
        if (this.#conference) this.#showState(now);
      },
      speaking: (now) => this.#showVoice(now),
      ended: (message) => this.#end(message),
      changed: () => this.#update(),
      sound: (track) => {
        sound = track;
        if (this.#conference) this.#view.sound(track);
      },
      utterance: (event) => {
        if (this.#captions) this.#take(event);
        else early.push(event);
      },
      busy: (message) => this.#view.busy(message),
      ownVoice: (message) => this.#view.ownVoice(message),
      failed: (message) => this.#view.note(message),
    });
    this.#conference = conference;
    this.#read = conference.channel;
    this.#captions = new ChannelCaptions(conference.me.identity, conference.channel);
    this.#list.clear();
    this.#view.show(conference.me, conference.channels.list());
    this.#view.state("Connecting …", "busy");
    if (state) this.#showState(state);
    if (sound) this.#view.sound(sound);
    for (const event of early) this.#take(event);
    this.#update();
    this.#view.focus();
    // Not waited for: whoever is asked for the microphone hears the room meanwhile.
    if (conference.me.can.speaksAtOnce) void this.#speak();
  }

  leave(): void {
    if (!this.#conference) return;
    void this.#conference.leave();
    this.#conference = null;
    this.#captions = null;
    this.#stopMeter();
    this.#view.hide();
    this.#left(this.#isOver ? "" : "You left.");
  }

  async #speak(): Promise<void> {
    const conference = this.#conference;
    if (!conference || conference.isSpeaking) return;
    try {
      const microphone = await openMicrophone();
      if (this.#conference !== conference || this.#isOver) {
        // Left while the browser asked.
        for (const track of microphone.getTracks()) track.stop();
        return;
      }
      this.#view.note("");
      this.#view.voice("live");
      this.#meter = new Meter(microphone, (level) => this.#view.level(level));
      await conference.speak(microphone);
    } catch (error) {
      this.#showVoice(null);
      this.#view.note(explain(error, "conference"));
    }
  }

  #showVoice(state: LaneState | null): void {
    if (!state) {
      this.#stopMeter();
      if (!this.#isOver) this.#view.voice(this.#conference?.me.can.voice ? "off" : "none");
    } else if (state.is === "retrying") {
      this.#view.note("Your microphone's connection was lost. Connecting again …");
    } else {
      this.#view.note("");
    }
  }

  #stopMeter(): void {
    this.#meter?.stop();
    this.#meter = null;
  }

  #showState(state: LaneState): void {
    if (state.is === "connected") {
      this.#view.state(this.#connectedText(), "good");
      return;
    }
    const seconds = Math.ceil(state.waitMs / 1000);
    this.#view.state(`The connection was lost. Joining again in ${seconds} s …`, "bad");
    this.#isConnected = false;
  }
  #isConnected = false;

  #connectedText(): string {
    this.#isConnected = true;
    const channel = this.#conference?.channel ?? FLOOR;
    return channel === FLOOR
      ? "Connected. You hear the floor."
      : `Connected. You hear ${shortLanguageName(channel)}.`;
  }

  #update(): void {
    const conference = this.#conference;
    if (!conference || this.#isOver) return;
    for (const id of this.#captions?.expire(Date.now()) ?? []) this.#list.remove(id);
    this.#view.update(conference.channels, conference.channel, conference.originalGain);
    if (this.#isConnected) this.#view.state(this.#connectedText(), "good");
    if (this.#read === conference.channel) return;
    this.#read = conference.channel;
    this.#list.divide(
      this.#read === FLOOR
        ? "The floor from here on"
        : `${shortLanguageName(this.#read)} from here on`,
    );
    for (const caption of this.#captions?.tune(conference.channel) ?? []) this.#show(caption);
  }

  #take(event: UtteranceEvent): void {
    const changed = this.#captions?.take(event);
    if (!changed) return;
    if ("removed" in changed) this.#list.remove(changed.removed);
    else this.#show(changed);
  }

  #show(caption: Caption): void {
    this.#list.show(caption, this.#conference?.channels.nameOf(caption.speaker) ?? caption.speaker);
  }

  #end(message: string): void {
    if (!this.#conference) return;
    this.#isOver = true;
    this.#isConnected = false;
    this.#stopMeter();
    this.#view.over(message);
  }
}
