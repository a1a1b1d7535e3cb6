#!/usr/bin/env bash
# The AI SDK's OpenAI provider drops `reasoningEffort`, and the reasoning of earlier turns, unless
# the model has the name of one of OpenAI's reasoning models.
#
# Packages: ai 7.0.173 with @ai-sdk/openai 4.0.118 (npm) on Node 22
# Input: generateText over /v1/responses with store: false and reasoningEffort: "low"; the server
#   answers with a reasoning item, sealed if `include` asks for it, and a call, then with a text. The
#   model is "qwen3:8b", then "gpt-5.5", then "qwen3:8b" with forceReasoning: true.
# Seen: for "qwen3:8b" the request has neither `reasoning` nor
#   include: ["reasoning.encrypted_content"], and the second request has the call and its output
#   without the reasoning item before them. For "gpt-5.5", and with forceReasoning, all of it is
#   there. Only a warning on the console says that the reasoning was skipped.
# A good guess: an option that the program sets is sent; the server decides what the model can do.
# Why it matters: a local model reasons anew in each step of a loop of tools and ignores the effort,
#   and the server, which saw neither, cannot repair it. It can only document forceReasoning, or an
#   alias with such a name; under that name, in turn, temperature and topP are dropped.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
export PATH="$dir/node_modules/.bin:$PATH"
npm install --silent --no-audit --no-fund ai@7.0.173 @ai-sdk/openai@4.0.118 node@22.23.3 >&2
cat >client.mjs <<'JS'
import assert from "node:assert/strict";
import { createServer } from "node:http";
import { createOpenAI } from "@ai-sdk/openai";
import { generateText, isStepCount, jsonSchema, tool } from "ai";
globalThis.AI_SDK_LOG_WARNINGS = false;

const requests = [];
const thought = { type: "reasoning", id: "rs_1", summary: [{ type: "summary_text", text: "hm" }] };
const call = { type: "function_call", id: "fc_1", call_id: "c", name: "f", arguments: "{}", status: "completed" };
const text = { type: "output_text", text: "done", annotations: [], logprobs: [] };
const message = { type: "message", id: "msg_1", role: "assistant", status: "completed", content: [text] };
const usage = { input_tokens: 1, output_tokens: 1, total_tokens: 2, input_tokens_details: { cached_tokens: 0 }, output_tokens_details: { reasoning_tokens: 0 } };
const server = createServer(async (request, response) => {
  let body = "";
  for await (const piece of request) body += piece;
  requests.push(JSON.parse(body));
  const sealed = requests.at(-1).include ? { encrypted_content: "E" } : {};
  const output = requests.length % 2 ? [{ ...thought, ...sealed }, call] : [message];
  response.setHeader("content-type", "application/json");
  response.end(JSON.stringify({ id: `resp_${requests.length}`, object: "response", created_at: 1, model: "m", status: "completed", error: null, incomplete_details: null, output, usage }));
}).listen(0, "127.0.0.1");
await new Promise((resolve) => server.once("listening", resolve));
const openai = createOpenAI({ baseURL: `http://127.0.0.1:${server.address().port}/v1`, apiKey: "x" });
const f = tool({ inputSchema: jsonSchema({ type: "object", properties: {} }), execute: () => "ok" });

async function sent(name, more = {}) {
  requests.length = 0;
  const options = { openai: { store: false, reasoningEffort: "low", ...more } };
  const answer = await generateText({ model: openai(name), prompt: "x", temperature: 0.5, tools: { f }, stopWhen: isStepCount(3), providerOptions: options });
  assert.equal(answer.text, "done");
  const [first, second] = requests;
  return { reasoning: first.reasoning, include: first.include, temperature: first.temperature, input: second.input.map((item) => item.type ?? item.role) };
}

const kept = { reasoning: { effort: "low", summary: "detailed" }, include: ["reasoning.encrypted_content"], temperature: undefined, input: ["user", "reasoning", "function_call", "function_call_output"] };
assert.deepEqual(await sent("qwen3:8b"), { reasoning: undefined, include: undefined, temperature: 0.5, input: ["user", "function_call", "function_call_output"] });
assert.deepEqual(await sent("gpt-5.5"), kept);
assert.deepEqual(await sent("qwen3:8b", { forceReasoning: true }), kept);
console.log("as described: effort and reasoning are sent for the names of OpenAI's models alone");
process.exit(0);
JS
node client.mjs
