// The helpers of the official Node package: answers parsed with a zod schema, streams as events, and `runTools`,
// which calls functions and sends requests until the model answers.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import OpenAI from 'openai';
import { zodFunction, zodResponseFormat } from 'openai/helpers/zod';
import { z } from 'zod';

import * as questions from './questions.js';
import { expects, unlessRefused } from './targets.js';

const Person = z.object({ name: z.string().max(12), age: z.int().min(0).max(150) });
const Weather = z.object({ city: z.string().max(10) });

const INVENT = { messages: [{ role: 'user', content: 'Invent a person.' }], max_tokens: 64, seed: 7, temperature: 0 };
const person = zodResponseFormat(Person, 'person');
const personForOllama = { format: person.json_schema.schema };

const ask = { messages: [{ role: 'user', content: 'Weather in Paris? Call get_weather.' }], max_tokens: 60, seed: 7, temperature: 0 };
const named = { type: 'function', function: { name: 'get_weather' } };
const weather = (run) => zodFunction({ name: 'get_weather', parameters: Weather, function: run, description: 'The weather in a city' });
// A forced call reaches Ollama as a schema that only the call matches, and as a description before the conversation.
const heldToTheCall = {
  format: {
    type: 'object',
    properties: { name: { const: 'get_weather' }, arguments: weather(() => '').function.parameters },
    required: ['name', 'arguments'],
    additionalProperties: false,
  },
  messages: [{ role: 'system', content: '(any text)' }, ...ask.messages],
};

export function packageAids(client, target) {
  const { kind, model } = target;

  test('parse returns an object of the zod schema', async (context) => {
    await expects(target, ['whole-format-schema', personForOllama]);
    await unlessRefused(target, context, 'response_format', async () => {
      const answer = await client.chat.completions.parse({ model, ...INVENT, response_format: person });
      const { parsed } = answer.choices[0].message;
      assert.deepEqual(Person.parse(parsed), parsed);
      if (kind === 'ollama') assert.deepEqual(parsed, { name: 'Ethan', age: 25 });
    });
  });

  test('an answer that was cut short throws the exception of the package', async (context) => {
    await expects(target, ['whole-length', { ...personForOllama, messages: INVENT.messages, options: { num_ctx: 4096, num_predict: 3, seed: 7, temperature: 0 } }]);
    await unlessRefused(target, context, 'response_format', async () => {
      const asked = client.chat.completions.parse({ model, ...INVENT, max_tokens: 3, response_format: person });
      if (target.refuses.includes('response_format')) return asked;
      await assert.rejects(asked, OpenAI.LengthFinishReasonError);
    });
  });

  test('a stream of events ends with an object of the zod schema', async (context) => {
    await expects(target, ['stream-format-schema', personForOllama]);
    await unlessRefused(target, context, 'response_format', async () => {
      const stream = client.chat.completions.stream({ model, ...INVENT, response_format: person });
      let text = '';
      let done;
      stream.on('content.delta', ({ delta }) => (text += delta));
      stream.on('content.done', (event) => (done = event));
      const answer = await stream.finalChatCompletion();
      assert.equal(done.content, text);
      assert.deepEqual(done.parsed, Person.parse(JSON.parse(text)));
      assert.deepEqual(answer.choices[0].message.parsed, done.parsed);
    });
  });

  test('the deltas of a stream add up to its answer', async () => {
    const stream = client.chat.completions.stream({ model, ...questions.CAPITAL, stream_options: { include_usage: true } });
    let snapshot = '';
    stream.on('content', (delta, soFar) => {
      snapshot += delta;
      assert.equal(soFar, snapshot);
    });
    const usage = await stream.totalUsage();
    assert.equal(await stream.finalContent(), snapshot);
    assert.equal(usage.total_tokens, usage.prompt_tokens + usage.completion_tokens);
    assert.ok(usage.total_tokens > 0);
  });

  test('runTools runs the forced function', async (context) => {
    await expects(target, ['whole-call-forced-by-format', heldToTheCall]);
    await unlessRefused(target, context, 'tools', async () => {
      const calls = [];
      const tool = weather((given) => (calls.push(given), 'sunny'));
      const runner = client.chat.completions.runTools({ model, ...ask, tools: [tool], tool_choice: named });
      assert.equal(await runner.finalFunctionToolCallResult(), 'sunny');
      assert.equal(calls.length, 1);
      assert.deepEqual(Weather.parse(calls[0]), calls[0]);
    });
  });

  test('runTools as a stream runs the forced function', async (context) => {
    await expects(target, ['whole-call-forced-by-format', { ...heldToTheCall, stream: true }]);
    await unlessRefused(target, context, 'tools', async () => {
      const calls = [];
      const tool = weather((given) => (calls.push(given), 'sunny'));
      const runner = client.chat.completions.runTools({ model, ...ask, stream: true, tools: [tool], tool_choice: named });
      await runner.done();
      assert.equal(calls.length, 1);
      assert.deepEqual(Weather.parse(calls[0]), calls[0]);
    });
  });

  test('runTools sends the result until the model answers', { skip: kind !== 'ollama' && 'only recorded answers are sure to contain a call' }, async () => {
    const tool = weather(({ city }) => `18 degrees, sunny in ${city}`);
    const definition = { type: 'function', function: { name: tool.function.name, description: tool.function.description, parameters: tool.function.parameters, strict: true } };
    const call = { id: '(any text)', function: { index: 0, name: 'get_weather', arguments: { city: 'Paris' } } };
    const later = [
      { role: 'assistant', content: '', tool_calls: [call] },
      { role: 'tool', tool_name: 'get_weather', tool_call_id: '(any text)', content: '18 degrees, sunny in Paris' },
    ];
    const asked = { messages: ask.messages, tools: [definition], options: { num_predict: 60, seed: 7, temperature: 0 } };
    await expects(target, ['whole-tool-call', asked], ['whole-tool-result', { ...asked, messages: [...ask.messages, ...later] }]);
    const runner = client.chat.completions.runTools({ model: 'smollm2-tools:135m', ...ask, tools: [tool] });
    assert.equal(await runner.finalContent(), 'The weather in Paris is indeed sunny.');
  });
}
