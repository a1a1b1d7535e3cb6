// The AI SDK (`ai` with `@ai-sdk/openai-compatible`): text, streams, objects of a schema, and tools.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { createOpenAICompatible } from '@ai-sdk/openai-compatible';
import { APICallError, generateText, isStepCount, Output, streamText, tool } from 'ai';
import { z } from 'zod';

import { expects, unlessRefused } from './targets.js';

const CAPITAL = { prompt: 'What is the capital of France?', maxOutputTokens: 24, seed: 7, temperature: 0, maxRetries: 0 };
const PERSON = { prompt: 'Invent a person.', maxOutputTokens: 64, seed: 7, temperature: 0, maxRetries: 0 };
const WEATHER = { prompt: 'Weather in Paris? Call get_weather.', maxOutputTokens: 60, seed: 7, temperature: 0, maxRetries: 0 };

const Person = z.object({ name: z.string().max(12), age: z.int().min(0).max(150) });
const City = z.object({ city: z.string().max(10) });

const weather = tool({
  description: 'The weather in a city',
  inputSchema: City,
  execute: async ({ city }) => `18 degrees, sunny in ${city}`,
});
const asked = [{ role: 'user', content: WEATHER.prompt }];

/** What was refused, out of the body of the answer. */
const refusal = (error) => {
  assert.ok(APICallError.isInstance(error), error);
  return JSON.parse(error.responseBody).error;
};

export function aiSdk(target) {
  const { kind, url, model } = target;
  const loggia = createOpenAICompatible({ name: 'loggia', baseURL: `${url}/v1`, includeUsage: true, supportsStructuredOutputs: true });

  test('generateText returns text, usage and a finish reason', async () => {
    const { text, usage, finishReason, response } = await generateText({ model: loggia(model), ...CAPITAL });
    assert.ok(text);
    assert.match(finishReason, /^(stop|length)$/);
    assert.equal(usage.totalTokens, usage.inputTokens + usage.outputTokens);
    assert.equal(response.modelId, model);
  });

  test('streamText returns the text in pieces, and the usage at the end', async () => {
    const answer = streamText({ model: loggia(model), ...CAPITAL });
    const pieces = await Array.fromAsync(answer.textStream);
    assert.ok(pieces.length > 1);
    assert.equal(await answer.text, pieces.join(''));
    assert.ok((await answer.usage).totalTokens > 0);
    assert.match(await answer.finishReason, /^(stop|length)$/);
  });

  test('an object matches its schema', async (context) => {
    await expects(target, ['whole-format-schema', { format: plain(Person) }]);
    await unlessRefused(target, context, 'response_format', async () => {
      const { output } = await generateText({ model: loggia(model), ...PERSON, output: Output.object({ schema: Person }) });
      assert.deepEqual(Person.parse(output), output);
      if (kind === 'ollama') assert.deepEqual(output, { name: 'Ethan', age: 25 });
    }, refusal);
  });

  test('a streamed object matches its schema at the end', async (context) => {
    await expects(target, ['stream-format-schema', { format: plain(Person) }]);
    await unlessRefused(target, context, 'response_format', async () => {
      let failure;
      const answer = streamText({
        model: loggia(model), ...PERSON, output: Output.object({ schema: Person }), onError: ({ error }) => (failure = error),
      });
      await Array.fromAsync(answer.partialOutputStream);
      if (failure) throw failure;
      const whole = await answer.output;
      assert.deepEqual(Person.parse(whole), whole);
    }, refusal);
  });

  test('a forced tool is called and executed', async (context) => {
    await expects(target, ['whole-call-forced-by-format', heldToTheCall()]);
    await unlessRefused(target, context, 'tools', async () => {
      const answer = await generateText({ model: loggia(model), ...WEATHER, tools: { get_weather: weather }, toolChoice: 'required' });
      assert.equal(answer.finishReason, 'tool-calls');
      const [call] = answer.toolCalls;
      assert.deepEqual(City.parse(call.input), call.input);
      assert.equal(answer.toolResults[0].output, `18 degrees, sunny in ${call.input.city}`);
    }, refusal);
  });

  test('a tool is called, and its result is used', { skip: kind !== 'ollama' && 'only recorded answers are sure to contain a call' }, async () => {
    const definition = { type: 'function', function: { name: 'get_weather', description: 'The weather in a city', parameters: plain(City) } };
    const call = { id: '(any text)', function: { index: 0, name: 'get_weather', arguments: { city: 'Paris' } } };
    const later = [
      { role: 'assistant', content: '', tool_calls: [call] },
      { role: 'tool', tool_name: 'get_weather', tool_call_id: '(any text)', content: '18 degrees, sunny in Paris' },
    ];
    const request = { messages: asked, tools: [definition], options: { num_predict: 60, seed: 7, temperature: 0 } };
    await expects(target, ['whole-tool-call', request], ['whole-tool-result', { ...request, messages: [...asked, ...later] }]);
    const answer = await generateText({ model: loggia('smollm2-tools:135m'), ...WEATHER, tools: { get_weather: weather }, stopWhen: isStepCount(3) });
    assert.equal(answer.steps.length, 2);
    assert.equal(answer.text, 'The weather in Paris is indeed sunny.');
  });

  test('a missing model is an error with the status and message of the answer', async () => {
    await assert.rejects(generateText({ model: loggia('nope'), ...CAPITAL }), (error) => {
      assert.equal(error.statusCode, 404);
      assert.equal(error.isRetryable, false);
      assert.equal(refusal(error).code, 'model_not_found');
      assert.match(error.message, /nope/);
      return true;
    });
  });
}

function heldToTheCall() {
  const properties = { name: { const: 'get_weather' }, arguments: plain(City) };
  const format = { type: 'object', properties, required: ['name', 'arguments'], additionalProperties: false };
  return { format, messages: [{ role: 'system', content: '(any text)' }, ...asked] };
}

/** A zod schema as the AI SDK writes it. */
function plain(schema) {
  return { ...z.toJSONSchema(schema, { target: 'draft-7' }), additionalProperties: false };
}
