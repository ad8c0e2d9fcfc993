// Publishes or listens with @binbat/whip-whep over libwebrtc (@roamhq/wrtc):
//
//   node whip_whep.mjs publish URL TOKEN SPEECH.pcm [restart]
//   node whip_whep.mjs listen URL TOKEN HEARD.pcm
//
// Sound is raw mono s16 at 48 kHz. Both print "connected" when media flows, and end the session
// properly when a line comes on standard input. The publisher speaks its file once after "connected",
// then is silent; with `restart` it restarts ICE before it speaks.

import { readFile, writeFile } from "node:fs/promises";
import { createInterface } from "node:readline";
import { WHEPClient } from "@binbat/whip-whep/whep.js";
import { WHIPClient } from "@binbat/whip-whep/whip.js";
import wrtc from "@roamhq/wrtc";

const SAMPLE_RATE = 48_000;
const FRAME = SAMPLE_RATE / 100;

// What the library does in the background, candidates for one, may fail as it may in a browser.
process.on("unhandledRejection", (error) => console.error(error));

const [mode, url, token, path, restart] = process.argv.slice(2);

function connected(connection) {
  return new Promise((resolve, reject) => {
    connection.onconnectionstatechange = () => {
      if (connection.connectionState === "connected") resolve();
      if (connection.connectionState === "failed") reject(new Error("the connection failed"));
    };
  });
}

function told() {
  return new Promise((resolve) => createInterface({ input: process.stdin }).once("line", resolve));
}

async function publish() {
  const connection = new wrtc.RTCPeerConnection();
  const source = new wrtc.nonstandard.RTCAudioSource();
  connection.addTransceiver(source.createTrack(), { direction: "sendonly" });
  const client = new WHIPClient();
  const flows = connected(connection);
  await client.publish(connection, url, token);
  await flows;
  if (restart) await client.restart();
  console.log("connected");
  const speech = await readFile(path);
  const samples = new Int16Array(speech.buffer, speech.byteOffset, speech.length >> 1);
  let position = 0;
  const started = performance.now();
  const timer = setInterval(() => {
    const due = Math.floor(((performance.now() - started) / 1000) * SAMPLE_RATE);
    for (; position + FRAME <= due; position += FRAME) {
      const frame = new Int16Array(FRAME);
      frame.set(samples.subarray(position, position + FRAME));
      source.onData({
        samples: frame,
        sampleRate: SAMPLE_RATE,
        bitsPerSample: 16,
        channelCount: 1,
        numberOfFrames: FRAME,
      });
    }
  }, 5);
  await told();
  clearInterval(timer);
  await client.stop();
}

async function listen() {
  const connection = new wrtc.RTCPeerConnection();
  const { receiver } = connection.addTransceiver("audio", { direction: "recvonly" });
  const sink = new wrtc.nonstandard.RTCAudioSink(receiver.track);
  const heard = [];
  sink.ondata = ({ samples, channelCount }) => {
    const mono = new Int16Array(samples.length / channelCount);
    for (let n = 0; n < mono.length; n += 1) mono[n] = samples[n * channelCount];
    heard.push(Buffer.from(mono.buffer));
  };
  const client = new WHEPClient();
  const flows = connected(connection);
  await client.view(connection, url, token);
  await flows;
  console.log("connected");
  await told();
  sink.stop();
  await writeFile(path, Buffer.concat(heard));
  await client.stop();
}

await (mode === "publish" ? publish() : listen());
process.exit(0);
