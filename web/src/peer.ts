// A call's connection: sends the microphone, receives what is interpreted and, where the server has
// it apart, the original.

import { Connection, type ConnectionHandlers } from "./connection.ts";

export type Sound = "interpretation" | "original";

export interface PeerHandlers extends ConnectionHandlers {
  /** A received sound is there to be played. */
  sound: (which: Sound, track: MediaStreamTrack) => void;
}

export class Peer extends Connection {
  constructor(microphone: MediaStream, handlers: PeerHandlers) {
    super([], handlers);
    const [voice] = microphone.getAudioTracks();
    if (!voice) throw new Error("the microphone has no sound");
    // The first section carries the interpretation, the second the original. A server that mixes
    // them for us rejects the second.
    const first = this.rtc.addTransceiver(voice, {
      direction: "sendrecv",
      streams: [microphone],
    });
    this.rtc.addTransceiver("audio", { direction: "recvonly" });
    this.rtc.ontrack = ({ track, transceiver }) => {
      handlers.sound(transceiver === first ? "interpretation" : "original", track);
    };
  }
}
