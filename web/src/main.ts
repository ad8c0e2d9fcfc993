// Puts the page together.

import { claimsOf } from "./address.ts";
import * as api from "./api.ts";
import { Call, type Tokens } from "./call.ts";
import { Captions } from "./captions.ts";
import { ConferencePage } from "./conference-page.ts";
import { explain } from "./messages.ts";
import { Meter } from "./meter.ts";
import { openMicrophone } from "./microphone.ts";
import "./style.css";
import "./conference.css";
import { CallView } from "./view/call.ts";
import { CaptionList } from "./view/captions.ts";
import { byId } from "./view/dom.ts";
import { LagPanel } from "./view/lag.ts";
import { Lobby } from "./view/lobby.ts";
import type { RoomKind, UtteranceEvent } from "./wire.ts";

const lobby = new Lobby(join);
const view = new CallView({ mute: (muted) => call?.mute(muted), leave: () => leave("You left.") });
const list = new CaptionList("captions");
const lags = new LagPanel();
const conference = new ConferencePage(showLobby);
let call: Call | null = null;
let meter: Meter | null = null;

/** A token that was given, one made with the server's key, or one of the development mode. */
function tokensFor(wish: api.Wish, access: string): Tokens {
  if (claimsOf(access)) return { get: async () => access, renewable: false };
  const make = access ? () => api.tokenWithKey(access, wish) : () => api.developmentToken(wish);
  return { get: async () => (await make()).token, renewable: true };
}

/** What the room holds: what a token's room says, else what was chosen. */
async function kindOf(wish: api.Wish, access: string): Promise<RoomKind> {
  const room = claimsOf(access)?.room;
  return room ? (await api.room(room, access)).kind : (wish.kind ?? "call");
}

async function join(wish: api.Wish, access: string, channel: string | null): Promise<void> {
  let kind = wish.kind ?? "call";
  try {
    kind = await kindOf(wish, access);
    if (kind === "call") {
      await joinCall(wish, access);
      return;
    }
    await conference.join(tokensFor(wish, access), channel);
    lobby.hide();
    byId("farewell", HTMLElement).textContent = "";
  } catch (error) {
    lobby.fail(explain(error, kind));
  }
}

async function joinCall(wish: api.Wish, access: string): Promise<void> {
  let microphone: MediaStream | undefined;
  try {
    microphone = await openMicrophone();
    let captions: Captions | null = null;
    const early: UtteranceEvent[] = [];
    const take = (event: UtteranceEvent) => {
      if (captions) show(captions, event);
      else early.push(event);
    };
    call = await Call.join(microphone, tokensFor(wish, access), {
      connected: () => view.state("Connected", "good"),
      rejoining: (waitMs) => {
        const seconds = Math.ceil(waitMs / 1000);
        view.state(`The connection was lost. Joining again in ${seconds} s …`, "bad");
      },
      ended: leave,
      people: (others) => view.people(others),
      busy: (message) => view.busy(message),
      ownVoice: (message) => view.ownVoice(message),
      sound: (which, track) => view.sound(which, track),
      utterance: take,
    });
    list.clear();
    lags.clear();
    captions = new Captions(call.me.identity, call.me.hear);
    for (const event of early) show(captions, event);
    meter = new Meter(microphone, (level) => view.level(level));
    lobby.hide();
    byId("farewell", HTMLElement).textContent = "";
    view.show(call.me, call.originalGain);
  } catch (error) {
    for (const track of microphone?.getTracks() ?? []) track.stop();
    throw error;
  }
}

function show(captions: Captions, event: UtteranceEvent): void {
  const changed = captions.take(event);
  if (!changed) return;
  if ("removed" in changed) {
    list.remove(changed.removed);
    return;
  }
  list.show(changed, view.nameOf(changed.speaker));
  if (event.type === "utterance.spoken" && changed.trace) lags.add(changed.trace);
}

function leave(message: string): void {
  call?.leave();
  call = null;
  meter?.stop();
  meter = null;
  view.hide();
  showLobby(message);
}

function showLobby(message: string): void {
  byId("farewell", HTMLElement).textContent = message;
  lobby.show();
}

// Whoever comes back to the page finds the form, and no call that looks alive.
addEventListener("pagehide", () => {
  if (call) leave("You left.");
  conference.leave();
});

async function start(): Promise<void> {
  const [languages, voices, needsNoKey] = await Promise.all([
    api.languages(),
    api.voices(),
    api.inDevelopment(),
  ]);
  lobby.offer(languages, voices, needsNoKey);
}

start().catch((error: unknown) => lobby.fail(explain(error)));
