// A conference from joining to leaving: token, events, a session to listen and one to speak, and
// whatever a moderator does. It draws nothing.

import { claimsOf } from "./address.ts";
import * as api from "./api.ts";
import type { Tokens } from "./call.ts";
import { Channels } from "./channels.ts";
import { Events } from "./events.ts";
import { Lane } from "./lane.ts";
import { explain, isFinal, leftOutIn, overBecause } from "./messages.ts";
import { Publisher, Receiver } from "./one-way.ts";
import { ownVoiceAmong, ownVoiceTold } from "./own-voice.ts";
import { type Abilities, abilitiesOf } from "./roles.ts";
import { stepFor } from "./steps.ts";
import { type Change, FLOOR, type RoomEvent, type UtteranceEvent } from "./wire.ts";

/** What a connection does. */
export type LaneState = { is: "connected" } | { is: "retrying"; waitMs: number };

export interface ConferenceHandlers {
  listening: (state: LaneState) => void;
  /** Null when nothing is spoken, or no more. */
  speaking: (state: LaneState | null) => void;
  /** It is over, and not because we left. */
  ended: (message: string) => void;
  /** People or channels are not what they were. */
  changed: () => void;
  sound: (track: MediaStreamTrack) => void;
  utterance: (event: UtteranceEvent) => void;
  /** What the server leaves out while it is busy, in a sentence; empty when that is nothing. */
  busy: (message: string) => void;
  /** What is known of our own voice, in a sentence; empty when it was not asked for. */
  ownVoice: (message: string) => void;
  /** Something did not work that leaves everything else as it was. */
  failed: (message: string) => void;
}

/** Who we are in it. */
export interface Attendee {
  identity: string;
  room: string;
  /** Channels of the room, without the floor. */
  languages: string[];
  can: Abilities;
}

// Several people often leave at once; then the room is looked at once.
const LOOK_AGAIN_MS = 400;
// How long the reason of an end is waited for.
const REASON_MS = 1500;
// How often it is looked for what is over though no event said so.
const TICK_MS = 5000;

export class Conference {
  readonly me: Attendee;
  readonly channels: Channels;
  readonly #tokens: Tokens;
  readonly #handlers: ConferenceHandlers;
  readonly #listening: Lane;
  readonly #iceServers: RTCIceServer[];
  #token: string;
  #wish: Required<Change>;
  #events: Events | undefined;
  #speaking: Lane | undefined;
  #microphone: MediaStream | undefined;
  #lookAgain: ReturnType<typeof setTimeout> | undefined;
  #tick: ReturnType<typeof setInterval> | undefined;
  #pending: Change | undefined;
  #changing: Promise<void> | undefined;
  #ended = false;

  /** Takes part in the token's room, listening to `channel`, or to what its token says. */
  static async join(
    tokens: Tokens,
    channel: string | null,
    handlers: ConferenceHandlers,
  ): Promise<Conference> {
    const token = await tokens.get();
    const claims = claimsOf(token);
    if (!claims?.room) throw new Error("the token names no room");
    const [room, iceServers] = await Promise.all([
      api.room(claims.room, token),
      api.iceServers(claims.room, token),
    ]);
    if (room.kind !== "conference") {
      throw new Error("this room holds a call; take another name for a conference");
    }
    const me = {
      identity: claims.sub,
      room: claims.room,
      languages: room.languages,
      can: abilitiesOf(claims.grants),
    };
    const wish = {
      channel: firstChannel(me, channel ?? claims.hear ?? claims.language ?? FLOOR),
      original_gain: stepFor(room.original_gain),
    };
    const conference = new Conference(me, wish, token, iceServers, tokens, handlers);
    conference.channels.sync(room);
    try {
      // Before the connection, so that no event of ours is missed.
      conference.#follow();
      conference.#tick = setInterval(() => conference.#expire(), TICK_MS);
      await conference.#listening.start();
    } catch (error) {
      await conference.leave();
      throw error;
    }
    return conference;
  }

  private constructor(
    me: Attendee,
    wish: Required<Change>,
    token: string,
    iceServers: RTCIceServer[],
    tokens: Tokens,
    handlers: ConferenceHandlers,
  ) {
    this.me = me;
    this.channels = new Channels(me.languages);
    this.#wish = wish;
    this.#token = token;
    this.#iceServers = iceServers;
    this.#tokens = tokens;
    this.#handlers = handlers;
    this.#listening = new Lane(
      {
        carrier: (servers, lane) => new Receiver(servers, { ...lane, sound: handlers.sound }),
        open: (offer) => api.listen(me.room, this.#token, offer, this.#wish),
        close: (session) => api.disconnect(session, this.#token),
      },
      {
        connected: () => handlers.listening({ is: "connected" }),
        retrying: (waitMs) => handlers.listening({ is: "retrying", waitMs }),
        refused: (error) => this.#renewToken(error),
        failed: (error) => this.#giveUp(error),
      },
      iceServers,
    );
  }

  /** The channel that is listened to: a language or `floor`. */
  get channel(): string {
    return this.#wish.channel;
  }

  /** How loud the original is under the interpretation. */
  get originalGain(): number {
    return this.#wish.original_gain;
  }

  get isSpeaking(): boolean {
    return this.#speaking !== undefined;
  }

  /** Switches to another channel on the connection that there is. */
  tune(channel: string): Promise<void> {
    return this.#change({ channel });
  }

  /** Sets how loud the original is under the interpretation. */
  setOriginalGain(gain: number): Promise<void> {
    return this.#change({ original_gain: gain });
  }

  /** Speaks with an open microphone, which is ours from now on. */
  async speak(microphone: MediaStream): Promise<void> {
    const { voice } = this.me.can;
    const channel = typeof voice === "object" ? (voice?.channel ?? null) : null;
    this.#microphone = microphone;
    const lane = new Lane(
      {
        carrier: (servers, handlers) => new Publisher(microphone, servers, handlers),
        open: (offer) => api.publish(this.me.room, this.#token, offer, channel),
        close: (session) => api.disconnect(session, this.#token),
      },
      {
        connected: () => this.#handlers.speaking({ is: "connected" }),
        retrying: (waitMs) => this.#handlers.speaking({ is: "retrying", waitMs }),
        refused: (error) => this.#renewToken(error),
        failed: (error) => {
          this.#handlers.failed(explain(error, "conference"));
          void this.stopSpeaking();
        },
      },
      this.#iceServers,
    );
    this.#speaking = lane;
    try {
      await lane.start();
    } catch (error) {
      await this.stopSpeaking();
      throw error;
    }
  }

  async stopSpeaking(): Promise<void> {
    for (const track of this.#microphone?.getTracks() ?? []) track.stop();
    this.#microphone = undefined;
    const lane = this.#speaking;
    this.#speaking = undefined;
    if (lane && !this.#ended) this.#handlers.speaking(null);
    await lane?.stop();
  }

  /** Silences our own microphone, or opens it again. */
  mute(muted: boolean): void {
    for (const track of this.#microphone?.getAudioTracks() ?? []) track.enabled = !muted;
  }

  // What moderators do. That it is done is seen from the events.

  silence(identity: string, muted: boolean): Promise<void> {
    return this.#try(api.mute(this.me.room, this.#token, identity, muted));
  }

  remove(identity: string): Promise<void> {
    return this.#try(api.remove(this.me.room, this.#token, identity));
  }

  endRoom(): Promise<void> {
    return this.#try(api.endRoom(this.me.room, this.#token));
  }

  transcript(format: api.TranscriptFormat): Promise<Blob> {
    const language = this.channel === FLOOR ? null : this.channel;
    return api.transcript(this.me.room, this.#token, format, language);
  }

  async leave(): Promise<void> {
    this.#ended = true;
    clearTimeout(this.#lookAgain);
    clearInterval(this.#tick);
    this.#events?.close();
    await Promise.all([this.stopSpeaking(), this.#listening.stop()]);
  }

  /** Says what is wrong instead of failing. */
  async #try(action: Promise<void>): Promise<void> {
    await action.catch((error: unknown) => this.#handlers.failed(explain(error, "conference")));
  }

  /** One change at a time; of those that come meanwhile the last one counts. */
  #change(change: Change): Promise<void> {
    this.#pending = { ...this.#pending, ...change };
    this.#changing ??= this.#applyChanges().finally(() => {
      this.#changing = undefined;
    });
    return this.#changing;
  }

  async #applyChanges(): Promise<void> {
    while (this.#pending) {
      const change = this.#pending;
      this.#pending = undefined;
      const before = this.#wish;
      // At once, so that a session that has to be made again is made with it.
      this.#wish = { ...before, ...change };
      try {
        await this.#listening.ask((session) => api.change(session, this.#token, change));
        // Its captions, from where those of the other channel ended.
        if (this.channel !== before.channel) this.#events?.reopen();
      } catch (error) {
        this.#wish = before;
        this.#handlers.failed(explain(error, "conference"));
      }
      this.#handlers.changed();
    }
  }

  #follow(): void {
    this.#events?.close();
    const address = (after: number) => {
      const language = this.channel === FLOOR ? null : this.channel;
      return api.eventsAddress(this.me.room, this.#token, location.href, { after, language });
    };
    this.#events = new Events(
      address,
      (event) => this.#take(event),
      () => void this.#look(),
    );
  }

  #take(event: RoomEvent): void {
    if (this.channels.take(event)) this.#handlers.changed();
    if ("utterance" in event) this.#handlers.utterance(event);
    const voice = ownVoiceTold(event, this.me.identity);
    if (voice !== null) this.#handlers.ownVoice(voice);
    if (event.type === "server.tier") this.#handlers.busy(leftOutIn(event.tier));
    if (event.type === "room.ended") this.#end(overBecause(event.reason));
    if (event.type !== "participant.left") return;
    if (event.participant.identity === this.me.identity) {
      if (event.reason === "removed") this.#end("A moderator removed you from the room.");
      // Why it ended follows.
      if (event.reason === "room_ended") setTimeout(() => this.#end(overBecause("")), REASON_MS);
      // The server may have given us up before we noticed: asking tells.
      if (event.reason === "connection_lost") void this.#change({ channel: this.channel });
    }
    // Whoever has two sessions leaves twice, and may still be there.
    clearTimeout(this.#lookAgain);
    this.#lookAgain = setTimeout(() => void this.#look(), LOOK_AGAIN_MS);
  }

  #expire(): void {
    this.channels.expire(Date.now());
    this.#handlers.changed();
  }

  async #look(): Promise<void> {
    const room = await api.room(this.me.room, this.#token).catch(() => null);
    if (!room || this.#ended) return;
    this.channels.sync(room);
    this.#handlers.busy(leftOutIn(room.tier));
    this.#handlers.ownVoice(ownVoiceAmong(room.participants, this.me.identity));
    this.#handlers.changed();
  }

  /** A server that was started anew knows neither our room nor our token. */
  async #renewToken(error: unknown): Promise<boolean> {
    const slug = error instanceof api.Refused ? error.slug : "";
    if (!this.#tokens.renewable || slug !== "invalid-token") return false;
    try {
      this.#token = await this.#tokens.get();
      this.#follow();
      return true;
    } catch (refusal) {
      return !isFinal(refusal);
    }
  }

  #giveUp(error: unknown): void {
    const slug = error instanceof api.Refused ? error.slug : "";
    if (slug === "no-such-room") this.#end(overBecause(""));
    else if (slug) this.#end(explain(error, "conference"));
    else this.#end("The connection was lost, and the server could not be reached again.");
  }

  #end(message: string): void {
    if (this.#ended) return;
    void this.leave();
    this.#handlers.ended(message);
  }
}

/** The channel to begin with: the one asked for where there is such a one and we may hear it. */
function firstChannel({ languages, can }: Attendee, wanted: string): string {
  const open = [FLOOR, ...languages].filter((id) => can.channels?.includes(id) ?? true);
  return open.includes(wanted) ? wanted : (open[0] ?? FLOOR);
}
