import assert from "node:assert/strict";
import { test } from "node:test";
import { median, partsOf, say } from "../src/lag.ts";

test("the stages of a trace are shares of their sum, in their order", () => {
  const parts = partsOf({ endpoint_ms: 500, transcribe_ms: 300, translate_ms: 200, lag_ms: 1000 });
  assert.deepEqual(
    parts.map(({ stage }) => stage),
    ["endpoint", "queue", "transcribe", "translate", "speak", "playout"],
  );
  assert.deepEqual(
    parts.map(({ share }) => share),
    [0.5, 0, 0.3, 0.2, 0, 0],
  );
});

test("an empty trace and nonsense in it draw nothing", () => {
  assert.ok(partsOf({}).every(({ ms, share }) => ms === 0 && share === 0));
  assert.ok(partsOf({ queue_ms: Number.NaN, speak_ms: -5 }).every(({ ms }) => ms === 0));
});

test("times are said in the unit that fits", () => {
  assert.equal(say(0), "0 ms");
  assert.equal(say(80.4), "80 ms");
  assert.equal(say(100), "0.1 s");
  assert.equal(say(1949), "1.9 s");
});

test("the median is the upper one of an even count, and of nothing there is none", () => {
  assert.equal(median([30, 10, 20]), 20);
  assert.equal(median([10, 20, 100, 9]), 20);
  assert.equal(median([]), undefined);
});
