// One WebRTC connection to the server: sends the microphone, receives what is interpreted and,
// where the server has it apart, the original.

export type Sound = "interpretation" | "original";

export interface PeerHandlers {
  /** A received sound is there to be played. */
  sound: (which: Sound, track: MediaStreamTrack) => void;
  connected: () => void;
  /** Gone for good: it will not come back by itself. */
  lost: () => void;
}

// The server answers with its own addresses, so a client need not know all of its own.
const GATHERING_MS = 500;
// A network that changes drops out for a moment; what lasts longer needs a new connection.
const GRACE_MS = 4000;

export class Peer {
  readonly #connection = new RTCPeerConnection({ iceServers: [] });
  readonly #handlers: PeerHandlers;
  #grace: ReturnType<typeof setTimeout> | undefined;
  #closed = false;

  constructor(microphone: MediaStream, handlers: PeerHandlers) {
    this.#handlers = handlers;
    const [voice] = microphone.getAudioTracks();
    if (!voice) throw new Error("the microphone has no sound");
    // The first section carries the interpretation, the second the original. A server that mixes
    // them for us rejects the second.
    const first = this.#connection.addTransceiver(voice, {
      direction: "sendrecv",
      streams: [microphone],
    });
    this.#connection.addTransceiver("audio", { direction: "recvonly" });
    this.#connection.ontrack = ({ track, transceiver }) => {
      handlers.sound(transceiver === first ? "interpretation" : "original", track);
    };
    this.#connection.onconnectionstatechange = () => this.#changed();
  }

  /** Offers; `exchange` brings the offer to the server and its answer back. */
  async connect(exchange: (offer: string) => Promise<string>): Promise<void> {
    await this.#connection.setLocalDescription();
    await this.#gathered();
    const answer = await exchange(this.#connection.localDescription?.sdp ?? "");
    await this.#connection.setRemoteDescription({ type: "answer", sdp: answer });
  }

  close(): void {
    this.#closed = true;
    clearTimeout(this.#grace);
    this.#connection.close();
  }

  #changed(): void {
    clearTimeout(this.#grace);
    if (this.#closed) return;
    switch (this.#connection.connectionState) {
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
        if (this.#connection.iceGatheringState === "complete") resolve();
      };
      this.#connection.addEventListener("icegatheringstatechange", check);
      setTimeout(resolve, GATHERING_MS);
      check();
    });
  }
}
