// A call from joining to leaving: token, events and connection, and joining again by itself when
// the connection is lost. It draws nothing.

import { claimsOf } from "./address.ts";
import * as api from "./api.ts";
import { delayMs } from "./backoff.ts";
import { Events } from "./events.ts";
import { explain, isFinal, leftOutIn } from "./messages.ts";
import { ownVoiceAmong, ownVoiceTold } from "./own-voice.ts";
import { Peer, type Sound } from "./peer.ts";
import { wait } from "./wait.ts";
import type { Participant, UtteranceEvent } from "./wire.ts";

/** Where tokens come from. */
export interface Tokens {
  get: () => Promise<string>;
  /** Whether asking again gives another one. */
  renewable: boolean;
}

/** Who we are and where. */
export interface Me {
  identity: string;
  room: string;
  language: string;
  hear: string;
}

export interface CallHandlers {
  connected: () => void;
  /** The connection was lost; `waitMs` until the next attempt to join. */
  rejoining: (waitMs: number) => void;
  /** It is over, and not because we left. */
  ended: (message: string) => void;
  people: (people: Participant[]) => void;
  /** What the server leaves out while it is busy, in a sentence; empty when that is nothing. */
  busy: (message: string) => void;
  /** What is known of our own voice, in a sentence; empty when it was not asked for. */
  ownVoice: (message: string) => void;
  sound: (which: Sound, track: MediaStreamTrack) => void;
  utterance: (event: UtteranceEvent) => void;
}

// About four minutes with the longest waits of the backoff.
const MOST_ATTEMPTS = 20;

export class Call {
  readonly me: Me;
  /** Gain of the original that the room suggests, 0 to 1. */
  readonly originalGain: number;
  readonly #microphone: MediaStream;
  readonly #tokens: Tokens;
  readonly #handlers: CallHandlers;
  readonly #people = new Map<string, Participant>();
  #token: string;
  #events: Events | undefined;
  #peer: Peer | undefined;
  #session: string | undefined;
  #isConnected = false;
  #isRejoining = false;
  #ended = false;

  /** Takes part in the token's room with an open microphone. */
  static async join(
    microphone: MediaStream,
    tokens: Tokens,
    handlers: CallHandlers,
  ): Promise<Call> {
    const token = await tokens.get();
    const claims = claimsOf(token);
    if (!claims?.room) throw new Error("the token names no room");
    const room = await api.room(claims.room, token);
    const language = claims.language ?? "";
    const me = {
      identity: claims.sub,
      room: claims.room,
      language,
      hear: claims.hear ?? language,
    };
    const call = new Call(me, room.original_gain, token, microphone, tokens, handlers);
    try {
      // Before the connection, so that no event of ours is missed.
      call.#listen();
      await call.#connect();
    } catch (error) {
      call.leave();
      throw error;
    }
    return call;
  }

  private constructor(
    me: Me,
    originalGain: number,
    token: string,
    microphone: MediaStream,
    tokens: Tokens,
    handlers: CallHandlers,
  ) {
    this.me = me;
    this.originalGain = originalGain;
    this.#token = token;
    this.#microphone = microphone;
    this.#tokens = tokens;
    this.#handlers = handlers;
  }

  mute(muted: boolean): void {
    for (const track of this.#microphone.getAudioTracks()) track.enabled = !muted;
  }

  leave(): void {
    this.#ended = true;
    this.#events?.close();
    for (const track of this.#microphone.getTracks()) track.stop();
    void this.#disconnect();
  }

  #listen(): void {
    this.#events?.close();
    const address = () => api.eventsAddress(this.me.room, this.#token, location.href);
    this.#events = new Events(
      address,
      (event) => {
        const voice = ownVoiceTold(event, this.me.identity);
        if (voice !== null) this.#handlers.ownVoice(voice);
        if (event.type === "participant.joined") {
          this.#people.set(event.participant.identity, event.participant);
          this.#showPeople();
        } else if (event.type === "participant.left") {
          this.#left(event.participant, event.reason);
        } else if (event.type === "server.tier") {
          this.#handlers.busy(leftOutIn(event.tier));
        } else if ("utterance" in event) {
          this.#handlers.utterance(event);
        }
      },
      () => void this.#look(),
    );
  }

  /** Events tell only of what comes later. */
  async #look(): Promise<void> {
    const room = await api.room(this.me.room, this.#token).catch(() => null);
    if (!room || this.#ended) return;
    this.#handlers.busy(leftOutIn(room.tier));
    this.#handlers.ownVoice(ownVoiceAmong(room.participants, this.me.identity));
    this.#people.clear();
    for (const participant of room.participants) {
      this.#people.set(participant.identity, participant);
    }
    this.#showPeople();
  }

  #left(participant: Participant, reason: string): void {
    if (participant.identity !== this.me.identity) {
      this.#people.delete(participant.identity);
      this.#showPeople();
    } else if (reason === "room_ended" || reason === "removed") {
      this.#end(reason === "removed" ? "You were removed from the call." : "The call was ended.");
    } else if (this.#isConnected) {
      // The server gave us up before we noticed.
      void this.#rejoin();
    }
  }

  #showPeople(): void {
    const others = [...this.#people.values()].filter(
      ({ identity }) => identity !== this.me.identity,
    );
    this.#handlers.people(others);
  }

  async #connect(): Promise<void> {
    const peer: Peer = new Peer(this.#microphone, {
      sound: this.#handlers.sound,
      connected: () => {
        this.#isConnected = true;
        this.#handlers.connected();
      },
      lost: () => {
        if (peer === this.#peer) void this.#rejoin();
      },
    });
    this.#peer = peer;
    await peer.connect(async (offer) => {
      const session = await api.connect(this.me.room, this.#token, offer);
      this.#session = session.location;
      return session.answer;
    });
    // Left while the answer was on its way.
    if (this.#ended) await this.#disconnect();
  }

  async #disconnect(): Promise<void> {
    const session = this.#session;
    this.#session = undefined;
    this.#isConnected = false;
    this.#peer?.close();
    this.#peer = undefined;
    if (session) await api.disconnect(session, this.#token);
  }

  async #rejoin(): Promise<void> {
    if (this.#ended || this.#isRejoining) return;
    this.#isRejoining = true;
    for (let attempt = 0; attempt < MOST_ATTEMPTS && !this.#ended; attempt += 1) {
      const waitMs = delayMs(attempt, Math.random());
      this.#handlers.rejoining(waitMs);
      // The server must forget our old self, which has our name.
      await this.#disconnect();
      await wait(waitMs);
      if (this.#ended) return;
      try {
        await this.#connect();
        this.#isRejoining = false;
        return;
      } catch (error) {
        if (isFinal(error) && !(await this.#renewToken(error))) {
          this.#end(explain(error));
          return;
        }
      }
    }
    this.#end("The connection was lost, and the server could not be reached again.");
  }

  /** A server that was started anew knows neither our room nor our token. */
  async #renewToken(error: unknown): Promise<boolean> {
    const curable = ["no-such-room", "invalid-token"];
    const slug = error instanceof api.Refused ? error.slug : "";
    if (!this.#tokens.renewable || !curable.includes(slug)) return false;
    try {
      this.#token = await this.#tokens.get();
      this.#listen();
      return true;
    } catch (refusal) {
      return !isFinal(refusal);
    }
  }

  #end(message: string): void {
    if (this.#ended) return;
    this.leave();
    this.#handlers.ended(message);
  }
}
