// The server's HTTP API: one function a request, errors in the server's own words.

import { iceServersOf } from "./links.ts";
import type {
  Change,
  Grants,
  LanguageInfo,
  Problem,
  Room,
  RoomKind,
  Token,
  VoiceInfo,
} from "./wire.ts";

/** A refusal by the server. */
export class Refused extends Error {
  readonly status: number;
  /** The last part of the problem's type, such as `room-full`; empty when there was none. */
  readonly slug: string;

  constructor(status: number, problem: Partial<Problem> | null) {
    super(problem?.detail ?? problem?.title ?? `the server answered ${status}`);
    this.name = "Refused";
    this.status = status;
    this.slug = problem?.type?.split("/").pop() ?? "";
  }
}

/** The server cannot be reached at all. */
export class Unreachable extends Error {
  constructor() {
    super("the server cannot be reached");
    this.name = "Unreachable";
  }
}

interface Request {
  method?: string;
  bearer?: string;
  json?: unknown;
  sdp?: string;
  /** The page may be gone before the answer is there. */
  keepalive?: boolean;
}

async function ask(path: string, request: Request = {}): Promise<Response> {
  const headers = new Headers();
  if (request.bearer) headers.set("Authorization", `Bearer ${request.bearer}`);
  if (request.json !== undefined) headers.set("Content-Type", "application/json");
  if (request.sdp !== undefined) headers.set("Content-Type", "application/sdp");
  const body = request.json === undefined ? request.sdp : JSON.stringify(request.json);
  const answer = await fetch(path, {
    method: request.method ?? "GET",
    headers,
    ...(body !== undefined && { body }),
    keepalive: request.keepalive ?? false,
  }).catch(() => {
    throw new Unreachable();
  });
  if (!answer.ok) {
    throw new Refused(answer.status, (await answer.json().catch(() => null)) as Problem | null);
  }
  return answer;
}

async function askJson<T>(path: string, request: Request = {}): Promise<T> {
  return (await ask(path, request)).json() as Promise<T>;
}

const roomPath = (room: string) => `/v1/rooms/${encodeURIComponent(room)}`;

export const languages = () => askJson<LanguageInfo[]>("/v1/languages");

export const voices = () => askJson<VoiceInfo[]>("/v1/voices");

/** Whether the server gives tokens to anybody. */
export const inDevelopment = async () =>
  (await askJson<{ tokens: boolean }>("/v1/development")).tokens;

/** Who asks for a token, and what for. */
export interface Wish {
  room: string;
  identity: string;
  name: string;
  language: string;
  hear: string;
  voice: string | null;
  /** What the token is to allow; the server's default when missing. */
  grants?: Grants;
  /** What room to make when it is missing: a call unless it is said. */
  kind?: RoomKind;
  /** Channels of a conference that has to be made. */
  languages?: string[];
}

/** A token from a server in development mode, which makes the room when it is missing. */
export const developmentToken = (wish: Wish) =>
  askJson<Token>("/v1/development/tokens", { method: "POST", json: wish });

/** A token made with the server's key, and the room when it is missing. */
export async function tokenWithKey(key: string, wish: Wish): Promise<Token> {
  const { room, kind = "call", languages, ...body } = wish;
  const wanted = { name: room, kind, ...(languages && { languages }) };
  try {
    await ask("/v1/rooms", { method: "POST", bearer: key, json: wanted });
  } catch (error) {
    if (!(error instanceof Refused && error.slug === "room-exists")) throw error;
  }
  return askJson<Token>(`${roomPath(room)}/tokens`, { method: "POST", bearer: key, json: body });
}

export const room = (name: string, token: string) =>
  askJson<Room>(roomPath(name), { bearer: token });

/** A session's address, and the server's answer to the offer. */
export interface Session {
  location: string;
  answer: string;
  /** Servers that help to get through, as far as the answer named any. */
  iceServers: RTCIceServer[];
}

async function offerTo(path: string, token: string, offer: string): Promise<Session> {
  const answer = await ask(path, { method: "POST", bearer: token, sdp: offer });
  return {
    location: located(answer.headers.get("Location") ?? "", path),
    answer: await answer.text(),
    iceServers: iceServersOf(answer.headers.get("Link")),
  };
}

/** A session's path: it may be named in full, or as seen from where the offer went. */
function located(location: string, from: string): string {
  if (!location) return "";
  const base = new URL(from, "http://server.invalid");
  const found = new URL(location, base);
  return found.pathname + found.search;
}

/** Opens a session that both speaks and listens: a call's. */
export const connect = (room: string, token: string, offer: string) =>
  offerTo(`${roomPath(room)}/sessions`, token, offer);

/** Opens a session that speaks (WHIP): to the floor, or into a channel as its interpreter. */
export const publish = (room: string, token: string, offer: string, channel: string | null) =>
  offerTo(`${roomPath(room)}/whip${query({ channel })}`, token, offer);

/** Opens a session that listens to a channel (WHEP). */
export const listen = (room: string, token: string, offer: string, to: Required<Change>) =>
  offerTo(`${roomPath(room)}/whep${query({ ...to })}`, token, offer);

/** Changes what a session listens to; nothing is negotiated anew. */
export async function change(location: string, token: string, json: Change): Promise<void> {
  await ask(location, { method: "PATCH", bearer: token, json });
}

/** Servers that help to get through; none where the server names none. */
export async function iceServers(room: string, token: string): Promise<RTCIceServer[]> {
  const answer = await ask(`${roomPath(room)}/ice-servers`, { bearer: token }).catch(() => null);
  const body = (await answer?.json().catch(() => null)) as { iceServers?: RTCIceServer[] } | null;
  return body?.iceServers ?? [];
}

const participantPath = (room: string, identity: string) =>
  `${roomPath(room)}/participants/${encodeURIComponent(identity)}`;

export async function mute(
  room: string,
  token: string,
  identity: string,
  muted: boolean,
): Promise<void> {
  await ask(participantPath(room, identity), { method: "PATCH", bearer: token, json: { muted } });
}

export async function remove(room: string, token: string, identity: string): Promise<void> {
  await ask(participantPath(room, identity), { method: "DELETE", bearer: token });
}

export async function endRoom(room: string, token: string): Promise<void> {
  await ask(roomPath(room), { method: "DELETE", bearer: token });
}

export type TranscriptFormat = "txt" | "vtt" | "srt" | "json";

/** What was said; `language` is missing for what was said as it was said. */
export async function transcript(
  room: string,
  token: string,
  format: TranscriptFormat,
  language: string | null,
): Promise<Blob> {
  const path = `${roomPath(room)}/transcript${query({ format, language })}`;
  return (await ask(path, { bearer: token })).blob();
}

function query(parameters: Record<string, string | number | null>): string {
  const said = Object.entries(parameters).filter(([, value]) => value !== null);
  if (said.length === 0) return "";
  return `?${new URLSearchParams(said.map(([name, value]) => [name, String(value)]))}`;
}

/** Ends a session. That it may be over already is no error. */
export async function disconnect(location: string, token: string): Promise<void> {
  await ask(location, { method: "DELETE", bearer: token, keepalive: true }).catch(() => {});
}

/** What of the events is wanted; all of them from now on when nothing is said. */
export interface EventsWish {
  /** The last one that was had: those that followed it come first. */
  after?: number;
  /** Texts in this language alone. */
  language?: string | null;
}

export function eventsAddress(
  room: string,
  token: string,
  page: string,
  { after, language }: EventsWish = {},
): URL {
  const address = new URL(`${roomPath(room)}/events`, page);
  address.protocol = address.protocol.replace("http", "ws");
  address.searchParams.set("access_token", token);
  if (after) address.searchParams.set("after", String(after));
  if (language) address.searchParams.set("language", language);
  return address;
}
