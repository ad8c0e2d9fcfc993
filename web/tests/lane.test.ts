import assert from "node:assert/strict";
import { test } from "node:test";
import { Refused } from "../src/api.ts";
import type { ConnectionHandlers } from "../src/connection.ts";
import { Lane } from "../src/lane.ts";

const refusal = (status: number, slug: string) =>
  new Refused(status, { type: `/problems/${slug}`, title: slug, status, detail: slug });

/** A lane over a server that refuses with what stands in `refusals`, one for each attempt. */
function laneOver(refusals: (Error | null)[], curable = false) {
  const log: string[] = [];
  const handlers: ConnectionHandlers[] = [];
  let sessions = 0;
  let done: () => void = () => {};
  const settled = () =>
    new Promise<void>((resolve) => {
      done = resolve;
    });
  const lane = new Lane(
    {
      carrier: (iceServers, carried) => {
        handlers.push(carried);
        log.push(`carrier with ${iceServers.length}`);
        return {
          connect: async (exchange) => {
            await exchange("offer");
            carried.connected();
          },
          close: () => log.push("closed"),
        };
      },
      open: async () => {
        const refused = refusals.shift();
        if (refused) throw refused;
        sessions += 1;
        return { location: `/s${sessions}`, answer: "answer", iceServers: [{ urls: "stun:s" }] };
      },
      close: async (session) => void log.push(`ended ${session}`),
      wait: async () => {},
    },
    {
      connected: () => {
        log.push("connected");
        done();
      },
      retrying: () => log.push("retrying"),
      refused: async () => curable,
      failed: (error) => {
        log.push(`failed: ${(error as Error).message}`);
        done();
      },
    },
  );
  return { lane, log, handlers, settled };
}

test("what was lost is made again, and the server is told to forget the old session", async () => {
  const { lane, log, handlers, settled } = laneOver([null, new Error("no network"), null]);
  await lane.start();
  const again = settled();
  handlers[0]?.lost();
  await again;
  assert.deepEqual(log, [
    "carrier with 0",
    "connected",
    "retrying",
    "closed",
    "ended /s1",
    "carrier with 1",
    "retrying",
    "closed",
    "carrier with 1",
    "connected",
  ]);
  assert.equal(lane.session, "/s2");
});

test("the first attempt fails with the server's words, and nothing is left open", async () => {
  const { lane, log } = laneOver([refusal(403, "forbidden")]);
  await assert.rejects(lane.start(), /forbidden/);
  assert.deepEqual(log, ["carrier with 0", "closed"]);
  assert.equal(lane.session, undefined);
});

test("it is given up when the server says that it is pointless", async () => {
  const { lane, log, handlers, settled } = laneOver([null, refusal(404, "no-such-room")]);
  await lane.start();
  const over = settled();
  handlers[0]?.lost();
  await over;
  assert.equal(log.at(-1), "failed: no-such-room");
});

test("a refusal that was cured is no reason to give up", async () => {
  const { lane, log, handlers, settled } = laneOver([null, refusal(401, "invalid-token")], true);
  await lane.start();
  const again = settled();
  handlers[0]?.lost();
  await again;
  assert.equal(log.at(-1), "connected");
});

test("an old connection that ends late disturbs nothing, and a stopped lane stays stopped", async () => {
  const { lane, log, handlers, settled } = laneOver([]);
  await lane.start();
  const again = settled();
  handlers[0]?.lost();
  await again;
  const before = log.length;
  handlers[0]?.lost();
  assert.equal(log.length, before);
  await lane.stop();
  handlers[1]?.lost();
  await lane.restart();
  assert.deepEqual(log.slice(before), ["closed", "ended /s2"]);
});

test("asking something of a session that the server has lost makes it again", async () => {
  const { lane, log, settled } = laneOver([]);
  await lane.start();
  const again = settled();
  await lane.ask(() => Promise.reject(refusal(404, "no-such-session")));
  await again;
  assert.equal(lane.session, "/s2");
  assert.ok(log.includes("retrying"));
  await assert.rejects(lane.ask(() => Promise.reject(refusal(404, "no-such-channel"))));
});
