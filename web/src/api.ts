// The server's HTTP API: one function a request, errors in the server's own words.

import type { LanguageInfo, Problem, Room, Token, VoiceInfo } from "./wire.ts";

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
}

/** A token from a server in development mode, which makes the room when it is missing. */
export const developmentToken = (wish: Wish) =>
  askJson<Token>("/v1/development/tokens", { method: "POST", json: wish });

/** A token made with the server's key, and the room when it is missing. */
export async function tokenWithKey(key: string, wish: Wish): Promise<Token> {
  const { room, ...body } = wish;
  try {
    await ask("/v1/rooms", { method: "POST", bearer: key, json: { name: room, kind: "call" } });
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
}

export async function connect(room: string, token: string, offer: string): Promise<Session> {
  const answer = await ask(`${roomPath(room)}/sessions`, {
    method: "POST",
    bearer: token,
    sdp: offer,
  });
  return { location: answer.headers.get("Location") ?? "", answer: await answer.text() };
}

/** Ends a session. That it may be over already is no error. */
export async function disconnect(location: string, token: string): Promise<void> {
  await ask(location, { method: "DELETE", bearer: token, keepalive: true }).catch(() => {});
}

export function eventsAddress(room: string, token: string, page: string): URL {
  const address = new URL(`${roomPath(room)}/events`, page);
  address.protocol = address.protocol.replace("http", "ws");
  address.searchParams.set("access_token", token);
  return address;
}
