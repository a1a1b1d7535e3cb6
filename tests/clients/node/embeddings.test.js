// Embeddings through the official Node package and the AI SDK, for each kind of backend.

import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';

import { createOpenAICompatible } from '@ai-sdk/openai-compatible';
import { embedMany } from 'ai';
import OpenAI from 'openai';

import { startTargets } from './targets.js';

const { targets, stop } = await startTargets('embeddings');
after(async () => assert.equal(await stop(), 0), { timeout: 60_000 });

const TEXTS = ['a cat', 'a dog'];

for (const { kind, url, model } of targets) {
  describe(`embeddings in front of ${kind}`, { timeout: 180_000 }, () => {
    const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: 'unused', maxRetries: 0 });

    test('base64, which the package requests by default, has the same numbers as float', async () => {
      const usual = await client.embeddings.create({ model, input: TEXTS });
      const plain = await client.embeddings.create({ model, input: TEXTS, encoding_format: 'float' });
      assert.equal(usual.model, model);
      assert.deepEqual(usual.usage, { prompt_tokens: 8, total_tokens: 8 });
      for (const index of [0, 1]) {
        assert.equal(usual.data[index].index, index);
        assert.ok(cosine(usual.data[index].embedding, plain.data[index].embedding) > 0.999999);
      }
      assert.ok(cosine(plain.data[0].embedding, plain.data[1].embedding) < 0.9, 'a cat is no dog');
    });

    test('more dimensions than the model has are a 400 with the name of the field', async () => {
      const asked = client.embeddings.create({ model, input: 'a cat', dimensions: 4096 });
      await assert.rejects(asked, (error) => error instanceof OpenAI.BadRequestError && error.param === 'dimensions');
    });

    test('the AI SDK embeds several texts', async () => {
      const provider = createOpenAICompatible({ name: 'loggia', baseURL: `${url}/v1` });
      const { embeddings, usage } = await embedMany({ model: provider.textEmbeddingModel(model), values: TEXTS, maxRetries: 0 });
      assert.deepEqual(embeddings.map((vector) => vector.length), [384, 384]);
      assert.equal(usage.tokens, 8);
    });
  });
}

function cosine(one, other) {
  const product = (a, b) => a.reduce((sum, number, index) => sum + number * b[index], 0);
  return product(one, other) / Math.sqrt(product(one, one) * product(other, other));
}
