// The room's events over a WebSocket that opens itself again.

import { delayMs } from "./backoff.ts";
import type { RoomEvent } from "./wire.ts";

export class Events {
  readonly #address: (after: number) => URL;
  readonly #take: (event: RoomEvent) => void;
  readonly #opened: () => void;
  #socket: WebSocket | undefined;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #attempt = 0;
  #closed = false;
  #last = { seq: 0, time_ms: 0 };

  /**
   * `address` is given the number of the last event that was had, 0 for none. `opened` is called
   * whenever events flow (again): unless the address asks for it, what came in between was missed.
   */
  constructor(
    address: (after: number) => URL,
    take: (event: RoomEvent) => void,
    opened: () => void,
  ) {
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

  /** Goes on at the address of now, with what follows the last event. */
  reopen(): void {
    if (this.#closed) return;
    clearTimeout(this.#timer);
    const before = this.#socket;
    this.#open();
    before?.close();
  }

  #open(): void {
    const socket = new WebSocket(this.#address(this.#last.seq));
    this.#socket = socket;
    socket.onopen = () => {
      this.#attempt = 0;
      this.#opened();
    };
    socket.onmessage = ({ data }) => {
      if (this.#closed || socket !== this.#socket) return;
      const event = JSON.parse(data) as RoomEvent;
      if (this.#isNew(event)) this.#take(event);
    };
    socket.onclose = () => {
      if (this.#closed || socket !== this.#socket) return;
      this.#timer = setTimeout(() => this.#open(), delayMs(this.#attempt, Math.random()));
      this.#attempt += 1;
    };
  }

  /** Events come twice where streams overlap. A room that was made anew counts from 1 again. */
  #isNew({ seq, time_ms }: RoomEvent): boolean {
    const isNew = seq > this.#last.seq || time_ms > this.#last.time_ms;
    if (isNew) this.#last = { seq, time_ms };
    return isNew;
  }
}
