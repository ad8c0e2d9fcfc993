// One session with the server that is made again by itself when it was lost. A conference has one
// to listen and one to speak.

import { Refused, type Session } from "./api.ts";
import { delayMs } from "./backoff.ts";
import type { ConnectionHandlers } from "./connection.ts";
import { isFinal } from "./messages.ts";
import { wait } from "./wait.ts";

/** What a lane needs of a connection. */
export interface Carrier {
  connect: (exchange: (offer: string) => Promise<string>) => Promise<void>;
  close: () => void;
}

export interface LaneParts {
  carrier: (iceServers: RTCIceServer[], handlers: ConnectionHandlers) => Carrier;
  /** Brings an offer to the server. */
  open: (offer: string) => Promise<Session>;
  /** Ends a session of the server's. */
  close: (session: string) => Promise<void>;
  /** Milliseconds to wait; the real clock unless it is said. */
  wait?: (ms: number) => Promise<void>;
}

export interface LaneHandlers {
  connected: () => void;
  /** The connection was lost; `waitMs` until the next attempt. */
  retrying: (waitMs: number) => void;
  /** Whether trying again makes sense in spite of a refusal: a new token may have been had. */
  refused: (error: unknown) => Promise<boolean>;
  /** It was given up. */
  failed: (error: unknown) => void;
}

// About four minutes with the longest waits of the backoff.
const MOST_ATTEMPTS = 20;

export class Lane {
  readonly #parts: LaneParts;
  readonly #handlers: LaneHandlers;
  #iceServers: RTCIceServer[];
  #carrier: Carrier | undefined;
  #session: string | undefined;
  #isRetrying = false;
  #stopped = false;

  constructor(parts: LaneParts, handlers: LaneHandlers, iceServers: RTCIceServer[] = []) {
    this.#parts = parts;
    this.#handlers = handlers;
    this.#iceServers = iceServers;
  }

  /** The session's address while there is one. */
  get session(): string | undefined {
    return this.#session;
  }

  /** The first attempt; it fails with whatever is in the way. */
  async start(): Promise<void> {
    try {
      await this.#connect();
    } catch (error) {
      await this.stop();
      throw error;
    }
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    await this.#drop();
  }

  /** Makes the session again: the server knows the one we have no more. */
  async restart(): Promise<void> {
    if (this.#stopped || this.#isRetrying) return;
    this.#isRetrying = true;
    let failure: unknown = new Error("the connection was lost");
    for (let attempt = 0; attempt < MOST_ATTEMPTS && !this.#stopped; attempt += 1) {
      const waitMs = delayMs(attempt, Math.random());
      this.#handlers.retrying(waitMs);
      // The server must forget our old self, which has our name.
      await this.#drop();
      await (this.#parts.wait ?? wait)(waitMs);
      if (this.#stopped) return;
      try {
        await this.#connect();
        this.#isRetrying = false;
        return;
      } catch (error) {
        failure = error;
        if (isFinal(error) && !(await this.#handlers.refused(error))) break;
      }
    }
    if (this.#stopped) return;
    await this.stop();
    this.#handlers.failed(failure);
  }

  /** Asks something of the session, and makes it again should the server know it no more. */
  async ask(request: (session: string) => Promise<void>): Promise<void> {
    if (!this.#session) return;
    try {
      await request(this.#session);
    } catch (error) {
      if (!(error instanceof Refused && error.slug === "no-such-session")) throw error;
      void this.restart();
    }
  }

  async #connect(): Promise<void> {
    const carrier: Carrier = this.#parts.carrier(this.#iceServers, {
      connected: () => this.#handlers.connected(),
      lost: () => {
        if (carrier === this.#carrier) void this.restart();
      },
    });
    this.#carrier = carrier;
    await carrier.connect(async (offer) => {
      const session = await this.#parts.open(offer);
      this.#session = session.location;
      if (session.iceServers.length > 0) this.#iceServers = session.iceServers;
      return session.answer;
    });
    // Stopped while the answer was on its way.
    if (this.#stopped) await this.#drop();
  }

  async #drop(): Promise<void> {
    const session = this.#session;
    this.#session = undefined;
    this.#carrier?.close();
    this.#carrier = undefined;
    if (session) await this.#parts.close(session);
  }
}
