// Connections of a conference: one that only speaks, one that only listens.

import { Connection, type ConnectionHandlers } from "./connection.ts";

/** Sends a microphone. */
export class Publisher extends Connection {
  constructor(microphone: MediaStream, iceServers: RTCIceServer[], handlers: ConnectionHandlers) {
    super(iceServers, handlers);
    const [voice] = microphone.getAudioTracks();
    if (!voice) throw new Error("the microphone has no sound");
    this.rtc.addTransceiver(voice, { direction: "sendonly", streams: [microphone] });
  }
}

export interface ReceiverHandlers extends ConnectionHandlers {
  /** What is heard from now on; it stays the same whatever channel is switched to. */
  sound: (track: MediaStreamTrack) => void;
}

/** Receives a channel. */
export class Receiver extends Connection {
  constructor(iceServers: RTCIceServer[], handlers: ReceiverHandlers) {
    super(iceServers, handlers);
    this.rtc.addTransceiver("audio", { direction: "recvonly" });
    this.rtc.ontrack = ({ track }) => handlers.sound(track);
  }
}
