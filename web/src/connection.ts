// One WebRTC connection to the server, whatever it carries.

export interface ConnectionHandlers {
  connected: () => void;
  /** Gone for good: it will not come back by itself. */
  lost: () => void;
}

// The server answers with its own addresses, so a client need not know all of its own.
const GATHERING_MS = 500;
// A network that changes drops out for a moment; what lasts longer needs a new connection.
const GRACE_MS = 4000;

export class Connection {
  protected readonly rtc: RTCPeerConnection;
  readonly #handlers: ConnectionHandlers;
  #grace: ReturnType<typeof setTimeout> | undefined;
  #closed = false;

  constructor(iceServers: RTCIceServer[], handlers: ConnectionHandlers) {
    this.rtc = new RTCPeerConnection({ iceServers });
    this.#handlers = handlers;
    this.rtc.onconnectionstatechange = () => this.#changed();
  }

  /** Offers; `exchange` brings the offer to the server and its answer back. */
  async connect(exchange: (offer: string) => Promise<string>): Promise<void> {
    await this.rtc.setLocalDescription();
    await this.#gathered();
    const answer = await exchange(this.rtc.localDescription?.sdp ?? "");
    await this.rtc.setRemoteDescription({ type: "answer", sdp: answer });
  }

  close(): void {
    this.#closed = true;
    clearTimeout(this.#grace);
    this.rtc.close();
  }

  #changed(): void {
    clearTimeout(this.#grace);
    if (this.#closed) return;
    switch (this.rtc.connectionState) {
      case "connected":
        this.#handlers.connected();
        break;
      case "disconnected":
        this.#grace = setTimeout(() => this.#handlers.lost(), GRACE_MS);
        break;
      case "failed":
      case "closed":
        this.#handlers.lost();
        break;
    }
  }

  #gathered(): Promise<void> {
    return new Promise((resolve) => {
      const check = () => {
        if (this.rtc.iceGatheringState === "complete") resolve();
      };
      this.rtc.addEventListener("icegatheringstatechange", check);
      setTimeout(resolve, GATHERING_MS);
      check();
    });
  }
}
