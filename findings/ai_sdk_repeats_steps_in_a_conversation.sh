#!/usr/bin/env bash
# In a loop of tools within a conversation, the AI SDK sends the user's message, and every earlier
# tool output, again in each step, although the server has them; the calls it leaves out.
#
# Packages: ai 7.0.173 with @ai-sdk/openai 4.0.118 (npm) on Node 22
# Input: generateText over /v1/responses with `conversation`; the server answers with a call, with
#   another call, then with a text.
# Seen: the input of step 1 is the user's message; of step 2 that message and the output of the
#   first call; of step 3 that message and both outputs. No call is ever in it.
# A good guess: as the calls are left out because the conversation has them, so is all the rest:
#   each step sends the one new output.
# Why it matters: the conversation gets the question three times, and an output whose call was
#   answered a step before. A server that accepts one output for each call refuses step 3 with a
#   400; one that accepts it shows the model a conversation that never took place.
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
const usage = { input_tokens: 1, output_tokens: 1, total_tokens: 2, input_tokens_details: { cached_tokens: 0 }, output_tokens_details: { reasoning_tokens: 0 } };
const server = createServer(async (request, response) => {
  let body = "";
  for await (const piece of request) body += piece;
  requests.push(JSON.parse(body));
  const step = requests.length;
  const call = { type: "function_call", id: `fc_${step}`, call_id: `call_${step}`, name: "f", arguments: "{}", status: "completed" };
  const text = { type: "output_text", text: "done", annotations: [], logprobs: [] };
  const message = { type: "message", id: "msg_1", role: "assistant", status: "completed", content: [text] };
  response.setHeader("content-type", "application/json");
  response.end(JSON.stringify({ id: `resp_${step}`, object: "response", created_at: 1, model: "m", status: "completed", error: null, incomplete_details: null, output: [step < 3 ? call : message], usage }));
}).listen(0, "127.0.0.1");
await new Promise((resolve) => server.once("listening", resolve));
const openai = createOpenAI({ baseURL: `http://127.0.0.1:${server.address().port}/v1`, apiKey: "x" });
const f = tool({ inputSchema: jsonSchema({ type: "object", properties: {} }), execute: () => "ok" });

const providerOptions = { openai: { conversation: "conv_1" } };
const answer = await generateText({ model: openai("m"), prompt: "x", tools: { f }, stopWhen: isStepCount(5), providerOptions });
assert.equal(answer.text, "done");
assert.deepEqual(requests.map((request) => request.conversation), ["conv_1", "conv_1", "conv_1"]);
const sent = requests.map((request) => request.input.map((item) => item.role ?? `${item.type} ${item.call_id}`));
assert.deepEqual(sent, [
  ["user"],
  ["user", "function_call_output call_1"],
  ["user", "function_call_output call_1", "function_call_output call_2"],
]);
console.log("as described: each step in a conversation repeats the question and the earlier outputs");
process.exit(0);
JS
node client.mjs
