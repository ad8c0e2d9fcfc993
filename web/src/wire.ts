// The JSON of the server's API, as far as the page reads it. Times are milliseconds.

export interface Participant {
  identity: string;
  name: string;
  /** Language spoken. */
  language: string;
  /** Language heard. */
  hear: string;
  voice?: string;
  /** What is known of their own voice; missing when they have not agreed to its being learned. */
  own_voice?: OwnVoice;
  /** A moderator has silenced them. */
  muted?: boolean;
  /** The conference channel they interpret into. */
  interprets?: string;
  /** The conference channel they listen to: a language or `floor`. */
  channel?: string;
}

/** What is known of the own voice of somebody who has agreed to its being learned. */
export type OwnVoice = "granted" | "collecting" | "learned" | "failed" | "forgotten";

export type RoomKind = "call" | "conference";

/** The channel that carries the original sound of a conference. */
export const FLOOR = "floor";

export interface Room {
  name: string;
  kind: RoomKind;
  /** In a conference: its channels. */
  languages: string[];
  original_gain: number;
  /** What the server leaves out under load; `server.tier` tells when it changes. */
  tier: string;
  participants: Participant[];
}

/** What a participant may do; what is missing is as the server has it by default. */
export interface Grants {
  speak?: boolean;
  listen?: boolean;
  /** Channels that may be listened to; every one when missing. */
  channels?: string[];
  /** Channels that they may interpret into. */
  interpret?: string[];
  moderate?: boolean;
  /** They have agreed to their voice being learned. */
  own_voice?: boolean;
}

/** What a session listens to; what is missing stays as it is. */
export interface Change {
  channel?: string;
  original_gain?: number;
}

export interface LanguageInfo {
  code: string;
  name: string;
  /** Languages it can be interpreted into. */
  targets: string[];
  /** Those of them that can be spoken in the speaker's own voice. */
  own_voice?: string[];
}

export interface VoiceInfo {
  name: string;
  language: string;
  engine: string;
  kind?: "built-in" | "learned";
}

export interface Token {
  token: string;
  identity: string;
}

/** RFC 9457. */
export interface Problem {
  type: string;
  title: string;
  status: number;
  detail: string;
}

/** The stages of an utterance from its last voiced sample to its first translated packet. */
export const STAGES = ["endpoint", "queue", "transcribe", "translate", "speak", "playout"] as const;
export type Stage = (typeof STAGES)[number];

export type Trace = { [stage in `${Stage}_ms`]?: number } & { lag_ms?: number };

interface Told {
  seq: number;
  time_ms: number;
  room: string;
}

interface OfUtterance extends Told {
  utterance: string;
  speaker: string;
}

interface WithText extends OfUtterance {
  language: string;
  text: string;
}

export type RoomEvent =
  | (Told & { type: "room.started" })
  | (Told & { type: "room.ended"; reason: string })
  | (Told & { type: "participant.muted"; identity: string; muted: boolean })
  | (Told & {
      type: "participant.voice";
      identity: string;
      state: OwnVoice;
      collected_ms: number;
      needed_ms: number;
    })
  | (Told & { type: "channel.interpreter"; channel: string; interpreter?: string })
  | (Told & { type: "participant.joined"; participant: Participant })
  | (Told & { type: "participant.left"; participant: Participant; reason: string })
  | (OfUtterance & { type: "utterance.started" })
  | (WithText & { type: "utterance.partial"; stage: "transcript" | "translation" })
  | (WithText & { type: "utterance.transcript"; trace: Trace })
  | (WithText & { type: "utterance.translation"; trace: Trace })
  | (OfUtterance & {
      type: "utterance.spoken";
      language: string;
      listener: string;
      trace: Trace;
    })
  | (OfUtterance & { type: "utterance.dropped"; reason: string; detail: string })
  | (Told & { type: "server.tier"; tier: string });

export type UtteranceEvent = Extract<RoomEvent, OfUtterance>;
