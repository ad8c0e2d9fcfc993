// The browser's side of a call: joins a room, sends the microphone, plays the interpretation, and
// shows the captions with where their time went. It knows the server by its HTTP API alone.

const EVENTS_RETRY_MS = 1000;
// The server answers with its own addresses, so a client need not know all of its own.
const GATHERING_MS = 500;
const STAGES = ["endpoint", "queue", "transcribe", "translate", "speak", "playout"];

const element = (id) => document.getElementById(id);
const form = element("join");

/** The call that is on, or null. */
let call = null;

/** A refusal by the server, in its own words. */
class Refused extends Error {
  constructor(status, problem) {
    super(problem?.detail ?? problem?.title ?? `the server answered ${status}`);
    this.status = status;
  }
}

async function request(method, path, bearer, body, type = "application/json") {
  const response = await fetch(path, {
    method,
    headers: { Authorization: `Bearer ${bearer}`, ...(body && { "Content-Type": type }) },
    body: body && type === "application/json" ? JSON.stringify(body) : body,
  });
  if (!response.ok) {
    throw new Refused(response.status, await response.json().catch(() => null));
  }
  return response;
}

/** A token for the participant: the one given, or one made with the server's key. */
async function tokenFor({ access, room, name, language }) {
  const isToken = access.split(".").length === 3;
  if (isToken) {
    return access;
  }
  try {
    await request("POST", "/v1/rooms", access, { name: room, kind: "call" });
  } catch (error) {
    const existsAlready = error.status === 409;
    if (!existsAlready) {
      throw error;
    }
  }
  const path = `/v1/rooms/${encodeURIComponent(room)}/tokens`;
  const identity = `${name.replace(/[^A-Za-z0-9_.@-]+/g, "-").slice(0, 48)}-${randomSuffix()}`;
  const response = await request("POST", path, access, { identity, name, language });
  return (await response.json()).token;
}

function randomSuffix() {
  return [...crypto.getRandomValues(new Uint8Array(3))]
    .map((byte) => byte.toString(16).padStart(2, "0"))
    .join("");
}

/** What a token says. It is read, not checked: that is the server's to do. */
function claimsOf(token) {
  const claims = token.split(".")[1].replaceAll("-", "+").replaceAll("_", "/");
  const bytes = Uint8Array.from(atob(claims), (character) => character.charCodeAt(0));
  return JSON.parse(new TextDecoder().decode(bytes));
}

async function join(fields) {
  const microphone = await navigator.mediaDevices.getUserMedia({
    audio: { echoCancellation: true, noiseSuppression: true, autoGainControl: true },
  });
  const joined = { microphone, room: fields.room, lags: [], captions: new Map(), people: new Map() };
  try {
    joined.token = await tokenFor(fields);
    const claims = claimsOf(joined.token);
    joined.identity = claims.sub;
    joined.room = claims.room ?? fields.room;
    listenForEvents(joined);
    await findPeople(joined);
    await connect(joined);
  } catch (error) {
    end(joined);
    throw error;
  }
  return joined;
}

/** Who was there before us: events tell only of those who come later. */
async function findPeople(joined) {
  const path = `/v1/rooms/${encodeURIComponent(joined.room)}`;
  const room = await (await request("GET", path, joined.token)).json();
  for (const participant of room.participants) {
    joined.people.set(participant.identity, participant);
  }
}

async function connect(joined) {
  const peer = new RTCPeerConnection({ iceServers: [] });
  joined.peer = peer;
  const [track] = joined.microphone.getAudioTracks();
  peer.addTransceiver(track, { direction: "sendrecv", streams: [joined.microphone] });
  peer.ontrack = ({ track: interpretation }) => {
    element("audio").srcObject = new MediaStream([interpretation]);
  };
  peer.onconnectionstatechange = () => {
    if (peer.connectionState === "connected") {
      say("Connected. Speak when you like.");
    } else if (["failed", "closed"].includes(peer.connectionState) && call === joined) {
      leave("The connection was lost.");
    }
  };

  await peer.setLocalDescription();
  await gathered(peer);
  const path = `/v1/rooms/${encodeURIComponent(joined.room)}/sessions`;
  const offer = peer.localDescription.sdp;
  const response = await request("POST", path, joined.token, offer, "application/sdp");
  joined.session = response.headers.get("Location");
  await peer.setRemoteDescription({ type: "answer", sdp: await response.text() });
  showLevel(joined);
}

function gathered(peer) {
  return new Promise((resolve) => {
    const check = () => peer.iceGatheringState === "complete" && resolve();
    peer.addEventListener("icegatheringstatechange", check);
    setTimeout(resolve, GATHERING_MS);
    check();
  });
}

function listenForEvents(joined) {
  const address = new URL(`/v1/rooms/${encodeURIComponent(joined.room)}/events`, location.href);
  address.protocol = address.protocol.replace("http", "ws");
  address.searchParams.set("access_token", joined.token);
  const socket = new WebSocket(address);
  joined.events = socket;
  socket.onmessage = ({ data }) => show(joined, JSON.parse(data));
  socket.onclose = () => {
    if (!joined.ended) {
      setTimeout(() => joined.ended || listenForEvents(joined), EVENTS_RETRY_MS);
    }
  };
}

function show(joined, event) {
  const handlers = {
    "participant.joined": () => joined.people.set(event.participant.identity, event.participant),
    "participant.left": () => joined.people.delete(event.participant.identity),
    "utterance.started": () => caption(joined, event, { note: "…" }),
    "utterance.partial": () => caption(joined, event, { transcript: event }),
    "utterance.transcript": () => caption(joined, event, { transcript: event, note: "" }),
    "utterance.translation": () => caption(joined, event, { translation: event, note: "" }),
    "utterance.spoken": () => caption(joined, event, { trace: event.trace, note: "" }),
    "utterance.dropped": () => caption(joined, event, { dropped: event }),
  };
  handlers[event.type]?.();
  if (event.type.startsWith("participant.")) {
    showPeople(joined);
  }
}

function caption(joined, event, { note, transcript, translation, trace, dropped }) {
  let item = joined.captions.get(event.utterance);
  if (!item) {
    item = element("caption").content.firstElementChild.cloneNode(true);
    item.classList.toggle("theirs", event.speaker !== joined.identity);
    const name = joined.people.get(event.speaker)?.name ?? event.speaker;
    item.querySelector(".speaker").textContent = event.speaker === joined.identity ? "You" : name;
    joined.captions.set(event.utterance, item);
    element("captions").prepend(item);
  }
  if (dropped?.reason === "no_speech") {
    item.remove();
    return;
  }
  const put = (part, text, language) => {
    const target = item.querySelector(part);
    target.textContent = text;
    if (language) {
      target.lang = language;
    }
  };
  if (note !== undefined) put(".note", note);
  if (dropped) put(".note", `(not spoken: ${dropped.detail})`);
  if (transcript) put(".transcript", transcript.text, transcript.language);
  if (translation) put(".translation", translation.text, translation.language);
  if (trace) showTrace(joined, item, event, trace);
}

function showTrace(joined, item, event, trace) {
  const bar = item.querySelector(".trace");
  const parts = STAGES.map((stage) => [stage, trace[`${stage}_ms`] ?? 0]);
  bar.replaceChildren(
    ...parts.map(([stage, ms], index) => {
      const part = document.createElement("span");
      part.style.flexGrow = ms;
      part.style.background = `var(--stage-${index})`;
      part.title = `${stage}: ${Math.round(ms)} ms`;
      return part;
    }),
  );
  bar.setAttribute("aria-label", parts.map(([stage, ms]) => `${stage} ${Math.round(ms)} ms`).join(", "));
  bar.hidden = false;

  joined.lags.push(trace.lag_ms);
  const sorted = joined.lags.toSorted((one, other) => one - other);
  const seconds = (ms) => `${(ms / 1000).toFixed(1)} s`;
  const median = sorted[Math.floor(sorted.length / 2)];
  element("lag").textContent =
    `Interpreted ${seconds(trace.lag_ms)} after the last word (median of ${sorted.length}: ${seconds(median)}).`;
}

function showLegend() {
  element("legend").replaceChildren(
    ...STAGES.map((stage, index) => {
      const entry = document.createElement("span");
      entry.style.setProperty("--stage", `var(--stage-${index})`);
      entry.textContent = stage;
      return entry;
    }),
  );
}

function showPeople(joined) {
  const others = [...joined.people.values()].filter(({ identity }) => identity !== joined.identity);
  element("people").textContent = others.length
    ? `With ${others.map(({ name, language }) => `${name} (${languageName(language)})`).join(", ")}`
    : "Nobody else is here yet.";
}

function languageName(code) {
  return new Intl.DisplayNames(["en"], { type: "language" }).of(code) ?? code;
}

function showLevel(joined) {
  const context = new AudioContext();
  const analyser = context.createAnalyser();
  context.createMediaStreamSource(joined.microphone).connect(analyser);
  const samples = new Float32Array(analyser.fftSize);
  joined.audioContext = context;
  const draw = () => {
    if (joined.ended) {
      return;
    }
    analyser.getFloatTimeDomainData(samples);
    const peak = samples.reduce((most, sample) => Math.max(most, Math.abs(sample)), 0);
    element("level").value = Math.min(1, peak * 2);
    requestAnimationFrame(draw);
  };
  draw();
}

function end(joined) {
  joined.ended = true;
  joined.events?.close();
  joined.peer?.close();
  joined.audioContext?.close();
  joined.microphone.getTracks().forEach((track) => track.stop());
  if (joined.session) {
    // `keepalive`: the page may be gone before the answer is there.
    const headers = { Authorization: `Bearer ${joined.token}` };
    fetch(joined.session, { method: "DELETE", headers, keepalive: true }).catch(() => {});
  }
}

function leave(message) {
  const joined = call;
  call = null;
  end(joined);
  element("call").hidden = true;
  form.hidden = false;
  say(message);
  form.elements.name.focus();
}

function say(message, isError = false) {
  element("status").textContent = message;
  element("status").classList.toggle("error", isError);
}

/** What went wrong, for the person before the screen. */
function explain(error) {
  if (error.name === "NotAllowedError") {
    return "The microphone is needed for a call: allow it in the browser, and join again.";
  }
  if (error.name === "NotFoundError") {
    return "There is no microphone.";
  }
  return `That did not work: ${error.message}`;
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const button = form.querySelector("button");
  button.disabled = true;
  say("Joining …");
  try {
    const fields = Object.fromEntries(new FormData(form));
    call = await join(fields);
    form.hidden = true;
    element("captions").replaceChildren();
    element("lag").textContent = "";
    element("call").hidden = false;
    element("mute").setAttribute("aria-pressed", "false");
    showPeople(call);
    element("mute").focus();
  } catch (error) {
    say(explain(error), true);
  } finally {
    button.disabled = false;
  }
});

element("leave").addEventListener("click", () => leave("You left."));
element("mute").addEventListener("click", ({ currentTarget: button }) => {
  const muted = button.getAttribute("aria-pressed") !== "true";
  button.setAttribute("aria-pressed", String(muted));
  call.microphone.getAudioTracks().forEach((track) => (track.enabled = !muted));
});
element("volume").addEventListener("input", ({ currentTarget: slider }) => {
  element("audio").volume = Number(slider.value);
});
addEventListener("pagehide", () => call && end(call));

async function start() {
  showLegend();
  // The development key comes in the fragment, which no server ever sees: #key=dev_…&room=desk
  const fragment = new URLSearchParams(location.hash.slice(1));
  form.elements.access.value = fragment.get("key") ?? fragment.get("token") ?? "";
  form.elements.room.value = fragment.get("room") ?? form.elements.room.value;

  const languages = await (await fetch("/v1/languages")).json();
  const mine = navigator.language.split("-")[0];
  const options = languages
    .filter(({ targets }) => targets.length > 0)
    .map(({ code, name }) => new Option(name, code, code === mine, code === mine));
  form.elements.language.replaceChildren(...options);
}

start().catch((error) => say(`The server's languages cannot be read: ${error.message}`, true));
