// What one can be in a conference, and what each may do.

import type { Grants } from "./wire.ts";

export const ROLES = ["listener", "speaker", "interpreter", "moderator"] as const;
export type Role = (typeof ROLES)[number];

export const isRole = (name: string): name is Role => (ROLES as readonly string[]).includes(name);

/** The grants to ask for. `channel` is the one that an interpreter interprets into. */
export function grantsFor(role: Role, channel: string): Grants {
  return {
    speak: role === "speaker" || role === "moderator",
    listen: true,
    interpret: role === "interpreter" ? [channel] : [],
    moderate: role === "moderator",
  };
}

/** What a participant can do, seen from the page. */
export interface Abilities {
  /** Where their voice goes: to the floor, into a channel, or nowhere. */
  voice: "floor" | { channel: string } | null;
  /** Whether the microphone is wanted from the start: a moderator mostly listens. */
  speaksAtOnce: boolean;
  moderates: boolean;
  /** Channels that may be listened to; every one when null. */
  channels: string[] | null;
}

/** Reads grants as the server does: one who is granted nothing in particular speaks and listens. */
export function abilitiesOf(grants: Grants | undefined): Abilities {
  const { speak = true, channels, interpret = [], moderate = false } = grants ?? {};
  const [channel] = interpret;
  return {
    voice: channel ? { channel } : speak ? "floor" : null,
    speaksAtOnce: channel !== undefined || (speak && !moderate),
    moderates: moderate,
    channels: channels ?? null,
  };
}
