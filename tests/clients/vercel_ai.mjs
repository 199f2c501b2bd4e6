// The Vercel AI SDK with @ai-sdk/openai-compatible, unmodified, against a
// gateway in front of upstream.py.
//
// Usage: node vercel_ai.mjs BASE_URL UPSTREAM_URL, the gateway serving
// policy.yaml, with both packages and `zod` in a node_modules beside this file
// or above it. Stops at the first failure; prints how many checks passed.

import assert from "node:assert/strict";
import { VERSION, createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { APICallError, Output, generateText, streamText, tool } from "ai";
import { z } from "zod";
import { BASE_URL, HELLO, asked, assertCancelled, fails, report, run, unique } from "./checks.mjs";

const KNOWN_GAPS = {};
const ROWS = ["comment", "ping", "retry", "no-choices", "usage", "cut", "error", "crlf"];
const provider = createOpenAICompatible({
  name: "cascade",
  baseURL: BASE_URL,
  apiKey: "unused",
  supportsStructuredOutputs: true,
  includeUsage: true,
});
const Place = z.object({ city: z.string(), people: z.number(), rivers: z.array(z.string()) });
const PLACE = { city: "Canberra", people: 7, rivers: ["Canberra"] };
const tools = { weather: tool({ description: "The weather.", inputSchema: z.object({ city: z.string() }) }) };
const check = (function_) => run(function_.name, function_, KNOWN_GAPS);
const ask = (model, prompt, more = {}) => ({ model: provider(model), prompt, ...more });

/** All parts of a stream; its first error is thrown. */
async function collect(request) {
  const parts = [];
  for await (const part of streamText({ ...request, onError: () => {} }).fullStream) {
    if (part.type === "error") throw part.error instanceof Error ? part.error : new Error(JSON.stringify(part.error));
    parts.push(part);
  }
  return parts;
}

const textOf = (parts) => parts.map((part) => (part.type === "text-delta" ? part.text : "")).join("");

await check(async function generate_text() {
  for (const model of ["good", "held", "escalates"]) {
    const { text, finishReason, usage, response } = await generateText(ask(model, unique("whole")));
    assert.deepEqual([text, finishReason, usage.totalTokens], [HELLO, "stop", 14]);
    assert.equal(response.headers["x-cascade-tier"], model === "held" ? "sure" : "good");
  }
});

await check(async function stream_text() {
  for (const model of ["good", "held", "escalates"]) {
    const parts = await collect(ask(model, unique("streamed")));
    assert.equal(textOf(parts), HELLO);
    const end = parts.find((part) => part.type === "finish");
    assert.deepEqual([end.finishReason, end.totalUsage.totalTokens], ["stop", 14]);
  }
});

await check(async function tool_call() {
  for (const model of ["good", "held"]) {
    const { toolCalls, finishReason } = await generateText(ask(model, unique("tool"), { tools }));
    const streamed = (await collect(ask(model, unique("tool"), { tools }))).filter((part) => part.type === "tool-call");
    assert.equal(finishReason, "tool-calls");
    for (const calls of [toolCalls, streamed]) {
      assert.deepEqual(calls.map((call) => [call.toolName, call.input]), [["weather", { city: "Canberra" }]]);
    }
  }
});

await check(async function object_by_schema() {
  for (const model of ["good", "held", "escalates"]) {
    const request = () => ask(model, unique("object"), { output: Output.object({ schema: Place }) });
    assert.deepEqual((await generateText(request())).output, PLACE);
    const streamed = streamText(request());
    let last;
    for await (const partial of streamed.partialOutputStream) last = partial;
    assert.deepEqual(last, PLACE);
  }
});

await check(async function errors() {
  for (const [model, status, said] of [["fail-500", 502, "broke down"], ["fail-429", 429, "broke down"], ["nope", 404, "nope"]]) {
    const error = await fails(APICallError, () => generateText(ask(model, unique("error"), { maxRetries: 0 })));
    assert.equal(error.statusCode, status);
    assert.ok(error.message.includes(said), error.message);
    const streamed = await fails(APICallError, () => collect(ask(model, unique("error"), { maxRetries: 0 })));
    assert.equal(streamed.statusCode, status);
  }
});

await check(async function retry_of_what_can_help() {
  const text = unique("flaky");
  assert.equal((await generateText(ask("flaky", text))).text, HELLO);
  assert.equal((await asked(text)).length, 2);
});

await check(async function aborting_a_stream_cancels_upstream() {
  const [text, aborter] = [unique("aborted"), new AbortController()];
  let count = 0;
  const { fullStream } = streamText(ask("sse-slow", text, { abortSignal: aborter.signal }));
  for await (const part of fullStream) {
    if (part.type === "text-delta" && ++count === 3) aborter.abort();
  }
  assert.ok(count < 10, `${count} frames after it was aborted`);
  await assertCancelled(text);
});

await check(async function aborting_a_whole_answer_cancels_upstream() {
  for (const model of ["slow-whole", "held-slow-whole"]) {
    const text = unique("aborted");
    await fails(Error, () => generateText(ask(model, text, { abortSignal: AbortSignal.timeout(1000) })));
    await assertCancelled(text);
  }
});

async function row(kind, held) {
  const request = ask(held ? `held-sse-${kind}` : `sse-${kind}`, unique(kind));
  if (["cut", "error"].includes(kind) && !held) {
    const error = await fails(Error, () => collect(request));
    assert.match(error.message, kind === "cut" ? /broke off/ : /broke down/);
  } else {
    assert.equal(textOf(await collect(request)), HELLO);
  }
}

for (const kind of ROWS) {
  await run(`sse_${kind.replace("-", "_")}_live`, () => row(kind, false), KNOWN_GAPS);
  await run(`sse_${kind.replace("-", "_")}_held`, () => row(kind, true), KNOWN_GAPS);
}
report(`@ai-sdk/openai-compatible ${VERSION}`);
