// Anthropic's SDK for Node over `/v1/messages`: in front of every kind of backend whole and streamed; and by its tool runner and its
// helpers, before engines whose model follows a script (`../weather.py`).

import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';

import Anthropic from '@anthropic-ai/sdk';
import { betaZodTool } from '@anthropic-ai/sdk/helpers/beta/zod';
import { zodOutputFormat } from '@anthropic-ai/sdk/helpers/zod';
import { z } from 'zod';

import { startTargets } from './targets.js';

const plain = await startTargets();
const weather = await startTargets('weather');
after(async () => assert.deepEqual(await Promise.all([plain.stop(), weather.stop()]), [0, 0]), { timeout: 60_000 });

const City = z.object({ city: z.string() });
const Report = z.object({ city: z.string(), degrees: z.number() });
const client = (url) => new Anthropic({ baseURL: url, apiKey: 'unused', maxRetries: 0 });
const asked = (model, content, more = {}) => ({ model, max_tokens: 24, messages: [{ role: 'user', content }], ...more });

for (const { kind, url, model } of plain.targets) {
  describe(`Anthropic's SDK in front of ${kind}`, { timeout: 120_000 }, () => {
    const { messages, models } = client(url);
    const question = asked(model, 'What is the capital of France?', { temperature: 0, seed: 7 });

    test('a stream adds up to the whole message', async () => {
      const whole = await messages.create(question);
      const stream = messages.stream(question);
      const texts = [];
      stream.on('text', (text) => texts.push(text));
      const final = await stream.finalMessage();
      assert.equal(final.content[0].text, whole.content[0].text);
      assert.equal(texts.join(''), whole.content[0].text);
      assert.equal(final.stop_reason, whole.stop_reason);
      assert.ok(final.usage.output_tokens > 0 && whole._request_id);
    });

    test('errors have their classes', async () => {
      await assert.rejects(messages.create({ ...question, model: 'none' }), (error) => {
        assert.ok(error instanceof Anthropic.NotFoundError && error.requestID);
        return error.error.error.type === 'not_found_error';
      });
      await assert.rejects(messages.create({ ...question, max_tokens: -1 }), Anthropic.BadRequestError);
    });

    test('models are listed', async () => {
      const listed = await Array.fromAsync(models.list());
      assert.ok(listed.some(({ id }) => id === model));
      assert.equal((await models.retrieve(model)).type, 'model');
    });
  });
}

for (const { kind, url, model } of weather.targets) {
  describe(`Anthropic's tool runner in front of ${kind}`, { timeout: 120_000 }, () => {
    const { beta, messages } = client(url);
    const question = (content, more) => asked(model, content, { max_tokens: 100, ...more });

    for (const stream of [false, true]) {
      for (const more of [{}, { thread: false }]) {
        test(`the runner answers, stream ${stream}, ${JSON.stringify(more)}`, async () => {
          const called = [];
          const tool = betaZodTool({
            name: 'get_weather', description: 'The weather in a city', inputSchema: City,
            run: ({ city }) => { called.push(city); return `Sun in ${city}.`; },
          });
          const runner = beta.messages.toolRunner({ ...question('Weather in Paris and Rome?'), tools: [tool], stream, ...more });
          const last = await runner.runUntilDone();
          assert.deepEqual(called.sort(), ['Paris', 'Rome']);
          assert.equal(last.content.at(-1).text, 'Sun in Paris. Sun in Rome.');
        });
      }
    }

    test('parse gives what the schema says', async () => {
      const message = await messages.parse({ ...question('Weather in Paris?'), output_config: { format: zodOutputFormat(Report) } });
      assert.deepEqual(message.parsed_output, { city: 'Paris', degrees: 18 });
    });

    test('the stream of a call has its input', async () => {
      const tools = [{ name: 'get_weather', input_schema: { type: 'object', properties: { city: { type: 'string' } } } }];
      const final = await messages.stream({ ...question('Weather in Paris?'), tools, thinking: { type: 'adaptive' } }).finalMessage();
      assert.deepEqual(final.content.map(({ type }) => type), ['thinking', 'tool_use']);
      assert.deepEqual(final.content[1].input, { city: 'Paris' });
      assert.ok(final.content[0].thinking && final.content[0].signature);
    });
  });
}
