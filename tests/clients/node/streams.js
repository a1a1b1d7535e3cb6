// Reads one streamed answer with OpenAI's package and one with the AI SDK in parallel, and prints what each
// received as JSON: `node streams.js URL`.

import { createOpenAICompatible } from '@ai-sdk/openai-compatible';
import { streamText } from 'ai';
import OpenAI from 'openai';

const baseURL = `${process.argv[2]}/v1`;

async function openai() {
  const client = new OpenAI({ baseURL, apiKey: 'unused', maxRetries: 0 });
  const stream = await client.chat.completions.create({ model: 'm', stream: true, messages: [{ role: 'user', content: 'x' }] });
  const deltas = (await Array.fromAsync(stream)).map((chunk) => chunk.choices[0].delta);
  return { text: together(deltas, 'content'), reasoning: together(deltas, 'reasoning_content') };
}

async function ai() {
  const answer = streamText({ model: createOpenAICompatible({ name: 'loggia', baseURL })('m'), prompt: 'x', maxRetries: 0 });
  return { text: await answer.text, reasoning: (await answer.reasoningText) ?? '' };
}

const together = (deltas, field) => deltas.map((delta) => delta[field] ?? '').join('');

const [byOpenai, byAi] = await Promise.all([openai(), ai()]);
console.log(JSON.stringify({ openai: byOpenai, ai: byAi }));
