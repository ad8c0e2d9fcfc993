import assert from "node:assert/strict";
import { test } from "node:test";
import {
  aboutOf,
  type Call,
  calls,
  curl,
  limits,
  nameOf,
  type OpenApi,
  typeOf,
} from "../src/reference/document.ts";

const REFERENCE = { $ref: "#/components/schemas/Gain" };

function call(part: Partial<Call["operation"]>, method = "post"): Call {
  const operation = {
    operationId: "x",
    tags: [],
    summary: "",
    description: "",
    responses: {},
    ...part,
  };
  return { method, path: "/v1/rooms", operation };
}

test("a type is said in a word or two", () => {
  assert.equal(nameOf(REFERENCE.$ref), "Gain");
  assert.equal(typeOf(REFERENCE), "Gain");
  assert.equal(typeOf({ oneOf: [{ type: "null" }, REFERENCE] }), "Gain or null");
  assert.equal(typeOf({ type: ["string", "null"] }), "string or null");
  assert.equal(typeOf({ type: "array", items: REFERENCE }), "list of Gain");
  assert.equal(typeOf({}), "anything");
});

test("limits are said in words, also when one side is open or 0", () => {
  assert.deepEqual(limits({ minLength: 1, maxLength: 64 }), ["1 to 64 characters"]);
  assert.deepEqual(limits({ minimum: 0 }), ["at least 0"]);
  assert.deepEqual(limits({ maxItems: 64 }), ["at most 64 items"]);
  assert.deepEqual(limits({}), []);
});

test("what is said beside a reference is found", () => {
  const beside = { oneOf: [{ type: "null" }, { ...REFERENCE, description: "How loud." }] };
  assert.equal(aboutOf(beside), "How loud.");
  assert.equal(aboutOf({ description: "Itself." }), "Itself.");
});

test("operations are listed by path and method, and nothing else of a path is one", () => {
  const { operation } = call({});
  const api = {
    paths: { "/a": { post: operation, get: operation }, "/b": { delete: operation } },
  } as unknown as OpenApi;
  const found = calls(api).map(({ method, path }) => `${method} ${path}`);
  assert.deepEqual(found, ["get /a", "post /a", "delete /b"]);
});

test("curl brings the credentials and the body that are needed", () => {
  const json = { content: { "application/json": { example: { name: "desk" } } } };
  const text = curl(call({ security: [{ key: [] }], requestBody: json }), "http://h");
  assert.equal(
    text,
    'curl -X POST "http://h/v1/rooms" \\\n  -H "Authorization: Bearer $key" \\\n  ' +
      `-H "Content-Type: application/json" \\\n  -d '{"name":"desk"}'`,
  );
  assert.equal(curl(call({}, "get"), "http://h"), 'curl "http://h/v1/rooms"');
  const form = {
    content: { "multipart/form-data": { example: { name: "a", clip: ["@b", "@c"] } } },
  };
  assert.match(
    curl(call({ requestBody: form }), "http://h"),
    /-F "name=a".*-F "clip=@b".*"clip=@c"$/s,
  );
  const sdp = { content: { "application/sdp": {} } };
  const offer = curl(call({ security: [{ token: [] }], requestBody: sdp }), "http://h");
  assert.match(offer, /Bearer \$token.*application\/sdp.*--data-binary @-/s);
});
