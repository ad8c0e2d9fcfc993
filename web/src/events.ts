// The room's events over a WebSocket that opens itself again.

import { delayMs } from "./backoff.ts";
import type { RoomEvent } from "./wire.ts";

export class Events {
  readonly #address: () => URL;
  readonly #take: (event: RoomEvent) => void;
  readonly #opened: () => void;
  #socket: WebSocket | undefined;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #attempt = 0;
  #closed = false;

  /** `opened` is called whenever events flow (again): what came in between was missed. */
  constructor(address: () => URL, take: (event: RoomEvent) => void, opened: () => void) {
    this.#address = address;
    this.#take = take;
    this.#opened = opened;
    this.#open();
  }

  close(): void {
    this.#closed = true;
    clearTimeout(this.#timer);
    this.#socket?.close();
  }

  #open(): void {
    const socket = new WebSocket(this.#address());
    this.#socket = socket;
    socket.onopen = () => {
      this.#attempt = 0;
      this.#opened();
    };
    socket.onmessage = ({ data }) => {
      if (!this.#closed) this.#take(JSON.parse(data) as RoomEvent);
    };
    socket.onclose = () => {
      if (this.#closed) return;
      this.#timer = setTimeout(() => this.#open(), delayMs(this.#attempt, Math.random()));
      this.#attempt += 1;
    };
  }
}
