// openai-node, unmodified, against a gateway in front of upstream.py: all that
// the client can be made to do wrong by what a gateway sends.
//
// Usage: node openai_node.mjs BASE_URL UPSTREAM_URL, the gateway serving
// policy.yaml, with `openai` and `zod` in a node_modules beside this file or
// above it. Stops at the first failure; prints how many checks passed.

import assert from "node:assert/strict";
import OpenAI from "openai";
import { zodResponseFormat } from "openai/helpers/zod";
import { VERSION } from "openai/version";
import { z } from "zod";
import { BASE_URL, HELLO, asked, assertCancelled, fails, report, run, unique } from "./checks.mjs";

const KNOWN_GAPS = {};
const ROWS = ["comment", "ping", "retry", "no-choices", "usage", "cut", "error", "crlf"];
const TOOL = {
  type: "function",
  function: {
    name: "weather",
    parameters: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
  },
};
const Place = z.object({ city: z.string(), people: z.number(), rivers: z.array(z.string()) });
const client = new OpenAI({ baseURL: BASE_URL, apiKey: "unused", timeout: 30_000 });
const chat = client.chat.completions;
const check = (function_) => run(function_.name, function_, KNOWN_GAPS);
const ask = (model, text, more = {}) => ({ model, messages: [{ role: "user", content: text }], ...more });
const textOf = (chunks) => chunks.map((c) => c.choices?.[0]?.delta.content ?? "").join("");

async function collect(request, options) {
  const chunks = [];
  for await (const chunk of await chat.create({ ...request, stream: true }, options)) chunks.push(chunk);
  return chunks;
}

async function rawStream(request) {
  const response = await chat.create({ ...request, stream: true }).asResponse();
  return { raw: await response.text(), headers: response.headers };
}

/** The data of a stream's events; nothing else but comments may be there. */
function framesOf(raw) {
  assert.ok(!raw.includes("\r"), `CR in ${raw}`);
  const lines = raw.split("\n").filter((line) => line && !line.startsWith(":"));
  assert.ok(lines.every((line) => line.startsWith("data: ")), `lines other than data: ${raw}`);
  return lines.map((line) => line.slice(6));
}

await check(async function whole() {
  const { data, response, request_id } = await chat.create(ask("good", unique("whole"))).withResponse();
  assert.equal(data.choices[0].message.content, HELLO);
  assert.equal(data.usage.total_tokens, 14);
  assert.equal(response.headers.get("content-type"), "application/json");
  assert.equal(response.headers.get("x-cascade-tier"), "good");
  assert.equal(request_id, response.headers.get("x-cascade-request-id"));
});

await check(async function streamed() {
  for (const model of ["good", "held", "escalates"]) {
    const chunks = await collect(ask(model, unique("streamed")));
    assert.equal(textOf(chunks), HELLO);
    assert.deepEqual(chunks.flatMap((c) => c.choices[0].finish_reason ?? []), ["stop"]);
    assert.deepEqual(chunks.flatMap((c) => c.choices[0].delta.role ?? []), ["assistant"]);
    assert.equal(new Set(chunks.map((c) => c.id)).size, 1);
    assert.ok(chunks.every((c) => c.choices[0].logprobs === null), "logprobs that nobody asked for");
    const { raw, headers } = await rawStream(ask(model, unique("streamed")));
    assert.match(headers.get("content-type"), /^text\/event-stream/);
    assert.equal(framesOf(raw).at(-1), "[DONE]");
  }
});

await check(async function tools() {
  for (const model of ["good", "held"]) {
    const whole = await chat.create(ask(model, unique("tools"), { tools: [TOOL] }));
    const streamed = await chat.stream(ask(model, unique("tools"), { tools: [TOOL] })).finalChatCompletion();
    for (const { finish_reason, message } of [whole.choices[0], streamed.choices[0]]) {
      assert.equal(finish_reason, "tool_calls");
      assert.equal(message.tool_calls.length, 1);
      const [call] = message.tool_calls;
      assert.deepEqual([call.id, call.function.name], ["call_1", "weather"]);
      assert.deepEqual(JSON.parse(call.function.arguments), { city: "Canberra" });
    }
  }
});

await check(async function json_schema() {
  for (const model of ["good", "held", "escalates"]) {
    const request = () => ask(model, unique("schema"), { response_format: zodResponseFormat(Place, "place") });
    const wanted = { city: "Canberra", people: 7, rivers: ["Canberra"] };
    assert.deepEqual((await chat.parse(request())).choices[0].message.parsed, wanted);
    assert.deepEqual((await chat.stream(request()).finalChatCompletion()).choices[0].message.parsed, wanted);
  }
});

await check(async function completions() {
  for (const model of ["good", "held", "escalates"]) {
    const whole = await client.completions.create({ model, prompt: "Say hello." });
    assert.equal(whole.choices[0].text, HELLO);
    let text = "";
    const stream = await client.completions.create({ model, prompt: "Say hello.", stream: true });
    for await (const chunk of stream) text += chunk.choices[0].text;
    assert.equal(text, HELLO);
  }
});

await check(async function escalation() {
  for (const stream of [false, true]) {
    const text = unique("escalation");
    const { data, response } = await chat.create(ask("escalates", text, { stream })).withResponse();
    const chunks = [];
    if (stream) for await (const chunk of data) chunks.push(chunk);
    assert.equal(response.headers.get("x-cascade-tier"), "good");
    assert.match(response.headers.get("x-cascade-attempts"), /^unsure:rejected\(/);
    assert.equal(stream ? textOf(chunks) : data.choices[0].message.content, HELLO);
    assert.deepEqual((await asked(text)).map((one) => one.model), ["unsure", "good"]);
  }
});

await check(async function errors() {
  for (const [model, kind, said] of [
    ["fail-500", OpenAI.InternalServerError, "The model broke down."],
    ["fail-429", OpenAI.RateLimitError, "The model broke down."],
    ["nope", OpenAI.NotFoundError, "nope"],
  ]) {
    for (const stream of [false, true]) {
      const error = await fails(kind, () => chat.create(ask(model, unique("errors"), { stream }), { maxRetries: 0 }));
      assert.ok(error.message.includes(said), error.message);
      for (const key of ["message", "type", "param", "code"]) assert.ok(key in error.error, JSON.stringify(error.error));
      assert.match(error.requestID, /^req_/);
    }
  }
});

await check(async function no_retry_of_what_cannot_help() {
  for (const [model, models] of [["fail-500", ["fail-500"]], ["all-fail", ["fail-429", "fail-500"]]]) {
    const text = unique("exhausted");
    const error = await fails(OpenAI.InternalServerError, () => chat.create(ask(model, text)));
    assert.equal(error.headers.get("x-should-retry"), "false");
    assert.deepEqual((await asked(text)).map((one) => one.model), models);
  }
});

await check(async function retry_of_what_can_help() {
  const text = unique("flaky");
  assert.equal((await chat.create(ask("flaky", text))).choices[0].message.content, HELLO);
  assert.deepEqual((await asked(text)).map((one) => one.headers["x-stainless-retry-count"]), ["0", "1"]);
  const once = { maxRetries: 0 };
  const { headers } = await fails(OpenAI.RateLimitError, () => chat.create(ask("flaky", unique("flaky")), once));
  const said = ["x-should-retry", "retry-after-ms", "retry-after"].map((name) => headers.get(name));
  assert.deepEqual(said, ["true", "10", "1"]);
});

await check(async function aborting_a_stream_cancels_upstream() {
  const [text, start] = [unique("aborted"), Date.now()];
  let count = 0;
  for await (const _chunk of await chat.create(ask("sse-slow", text, { stream: true }))) {
    if (++count === 3) break;
  }
  assert.ok(Date.now() - start < 5000, "the last tier's frames do not come as they are made");
  await assertCancelled(text);
});

await check(async function aborting_a_held_answer_cancels_upstream() {
  for (const [model, stream] of [["held-sse-slow", true], ["held-slow-whole", false], ["held-slow-whole", true]]) {
    const text = unique("held");
    const signal = AbortSignal.timeout(1000);
    await fails(OpenAI.APIUserAbortError, async () => {
      const answer = await chat.create(ask(model, text, { stream }), { signal, maxRetries: 0 });
      for await (const _chunk of answer);
      signal.throwIfAborted();
    });
    await assertCancelled(text);
  }
});

await check(async function a_timeout_cancels_upstream() {
  const text = unique("timeout");
  const impatient = { timeout: 1000, maxRetries: 0 };
  await fails(OpenAI.APIConnectionTimeoutError, () => chat.create(ask("slow-whole", text), impatient));
  await assertCancelled(text);
});

/** One kind of stream: what the client makes of it, and its bytes. */
async function row(kind, held) {
  const request = ask(held ? `held-sse-${kind}` : `sse-${kind}`, unique(kind));
  if (["cut", "error"].includes(kind) && !held) {
    const error = await fails(OpenAI.APIError, () => collect(request));
    assert.ok(error.message && error.code, String(error));
    assert.ok(!framesOf((await rawStream(request)).raw).includes("[DONE]"));
    return;
  }
  for (const include_usage of [false, true]) {
    const options = include_usage ? { ...request, stream_options: { include_usage } } : request;
    assert.equal(textOf(await collect(options)), HELLO);
    const { raw, headers } = await rawStream(options);
    const frames = framesOf(raw);
    assert.equal(frames.pop(), "[DONE]");
    const parsed = frames.map((frame) => JSON.parse(frame));
    assert.ok(parsed.every((frame) => "choices" in frame), `a frame without choices: ${raw}`);
    const usage = parsed.filter((frame) => frame.choices.length === 0);
    assert.deepEqual(usage, include_usage ? parsed.slice(-1) : [], `usage frames: ${raw}`);
    assert.equal(headers.get("x-cascade-tier"), ["cut", "error"].includes(kind) ? "good" : `sse-${kind}`);
  }
}

for (const kind of ROWS) {
  await run(`sse_${kind.replace("-", "_")}_live`, () => row(kind, false), KNOWN_GAPS);
  await run(`sse_${kind.replace("-", "_")}_held`, () => row(kind, true), KNOWN_GAPS);
}
report(`openai-node ${VERSION}`);
