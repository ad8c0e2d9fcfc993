// What went wrong, for the person before the screen.

import { Refused, Unreachable } from "./api.ts";
import type { RoomKind } from "./wire.ts";

const BY_PROBLEM: Record<string, string> = {
  "room-full": "This room is full: a call is for two. Take another room name.",
  "channel-taken": "Somebody else interprets into this channel already.",
  "no-such-room": "There is no such room. Whoever runs the server can create it.",
  "not-ready": "The server is still loading its models. Try again in a minute.",
  "cannot-learn": "This server can learn no voices any more. Join without your own.",
  overloaded: "The server has its hands full. Try again in a minute.",
  "invalid-token": "The key or token is not this server's, or it has expired.",
  "token-revoked": "A moderator removed you from the room.",
  "missing-credentials": "This server asks for a key or a token.",
  forbidden: "The token does not allow this; it may be for another room.",
};

const IN_A_CONFERENCE: Record<string, string> = {
  "room-full": "This room is full: nobody more may be in it for now.",
  "identity-taken": "The server still knows you from before. Try again in a moment.",
  // Readable as the server says it: which grant is missing.
  forbidden: "",
};

/** `kind` is what was being joined. */
export function explain(error: unknown, kind: RoomKind = "call"): string {
  if (error instanceof Refused) {
    const known = { ...BY_PROBLEM, ...(kind === "conference" && IN_A_CONFERENCE) }[error.slug];
    return known || sentence(error.message);
  }
  if (error instanceof Unreachable) return "The server cannot be reached. Is it still running?";
  if (!(error instanceof Error)) return "Something went wrong.";
  switch (error.name) {
    case "NotAllowedError":
      return kind === "conference"
        ? "The microphone is needed to speak. Allow it in the browser's address bar, and try again."
        : "The microphone is needed for a call. Allow it in the browser's address bar, and join again.";
    case "NotFoundError":
      return "No microphone was found. Plug one in, and join again.";
    case "NotReadableError":
      return "The microphone is taken by another program. Close that, and join again.";
    default:
      return `That did not work: ${error.message}`;
  }
}

/** That a room is over, by the reason of its `room.ended`. */
export function overBecause(reason: string): string {
  switch (reason) {
    case "deleted":
      return "The room is over: it was ended for everybody.";
    case "empty":
    case "departed":
      return "The room is over: nobody was left in it.";
    case "shutdown":
      return "The room is over: the server is being shut down.";
    default:
      return "The room is over.";
  }
}

/**
 * What a busy server leaves out, by the tier of its `server.tier`; empty where nobody would notice.
 * Each tier leaves out what those before it do; a human interpreter is left alone by all of them.
 */
export function leftOutIn(tier: string): string {
  switch (tier) {
    case "cheaper_voice":
      return "The server is busy: machine translations may be spoken in a simpler voice.";
    case "cheaper_translator":
      return "The server is busy: machine translations may be less exact, in a simpler voice.";
    case "captions_only":
      return "The server is busy: machine translations are written, not spoken, for now.";
    default:
      return "";
  }
}

/** Why joining again is pointless; false for what may pass by itself. */
export function isFinal(error: unknown): boolean {
  if (!(error instanceof Refused)) return false;
  // After a lost connection the server still counts our old self for a while.
  if (["room-full", "identity-taken"].includes(error.slug)) return false;
  return error.status >= 400 && error.status < 500 && error.status !== 408 && error.status !== 429;
}

function sentence(text: string): string {
  const first = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?]$/.test(first) ? first : `${first}.`;
}
