// The older completions through the official Node package, for each kind of backend.

import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';

import OpenAI from 'openai';

import { startTargets } from './targets.js';

const { targets, stop } = await startTargets();
after(async () => assert.equal(await stop(), 0), { timeout: 60_000 });

const ASKED = { prompt: 'Once upon a time', max_tokens: 8, temperature: 0, seed: 7 };

for (const { kind, url, model } of targets) {
  describe(`completions in front of ${kind}`, { timeout: 180_000 }, () => {
    const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: 'unused', maxRetries: 0 });

    test('the deltas of a stream add up to the complete text', async () => {
      const whole = await client.completions.create({ model, ...ASKED });
      assert.ok(whole.choices[0].text.startsWith(', the city of'));
      assert.deepEqual([whole.usage.prompt_tokens, whole.usage.completion_tokens], [4, 8]);
      let text = '';
      const reasons = [];
      for await (const chunk of await client.completions.create({ model, ...ASKED, stream: true })) {
        text += chunk.choices[0].text;
        reasons.push(chunk.choices[0].finish_reason);
      }
      assert.equal(text, whole.choices[0].text);
      assert.deepEqual(reasons.filter((reason) => reason !== null), ['length']);
    });

    test('too many log-probabilities are a 400 with the name of the field', async () => {
      const asked = client.completions.create({ model, ...ASKED, logprobs: 6 });
      await assert.rejects(asked, (error) => error instanceof OpenAI.BadRequestError && error.param === 'logprobs');
    });
  });
}
