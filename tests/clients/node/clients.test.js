// The official Node package with a running loggia in front of each kind of backend.
//
// The topics are those of the Python suite, which has the details. These tests check that the Node client understands
// every answer, too.

import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';

import OpenAI from 'openai';

import { packageAids } from './aids.js';
import * as questions from './questions.js';
import { expects, startTargets } from './targets.js';
import { aiSdk } from './vercel.js';

const { targets, stop } = await startTargets();
after(async () => assert.equal(await stop(), 0), { timeout: 60_000 });

for (const target of targets) {
  const { kind, url, model, upstream } = target;
  describe(`in front of ${kind}`, { timeout: 180_000 }, () => {
    const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: 'unused', maxRetries: 0 });
    const ask = (question) => client.chat.completions.create({ model, ...question });

    packageAids(client, target);
    aiSdk(target);

    test('a complete answer has one choice with text, a finish reason and usage', async () => {
      const answer = await ask(questions.CAPITAL);
      assert.equal(answer.object, 'chat.completion');
      assert.equal(answer.model, model);
      assert.equal(answer.choices.length, 1);
      assert.equal(answer.choices[0].message.role, 'assistant');
      assert.ok(answer.choices[0].message.content);
      assert.match(answer.choices[0].finish_reason, /^(stop|length)$/);
      assert.equal(answer.usage.total_tokens, answer.usage.prompt_tokens + answer.usage.completion_tokens);
    });

    test('a stream has the role once, one chunk with a finish reason at the end, and then the usage if requested', async () => {
      const stream = await ask({ ...questions.CAPITAL, stream: true, stream_options: { include_usage: true } });
      const chunks = await Array.fromAsync(stream);
      const last = chunks.pop();
      assert.deepEqual(last.choices, []);
      assert.equal(last.usage.total_tokens, last.usage.prompt_tokens + last.usage.completion_tokens);
      assert.equal(new Set(chunks.map((chunk) => chunk.id)).size, 1);
      assert.deepEqual(chunks.filter((chunk) => 'role' in chunk.choices[0].delta), [chunks[0]]);
      assert.deepEqual(chunks.filter((chunk) => chunk.choices[0].finish_reason !== null), [chunks.at(-1)]);
      assert.deepEqual(chunks.at(-1).choices[0].delta, {});
      assert.ok(chunks.map((chunk) => chunk.choices[0].delta.content ?? '').join(''));
    });

    test('the tokens of an input are counted, as many as the response to it reports', async () => {
      const input = questions.CAPITAL.messages[0].content;
      await expects(target, ['whole', { options: { num_predict: 1, num_ctx: 4096 } }]);
      const counted = await client.responses.inputTokens.count({ model, input });
      assert.equal(counted.object, 'response.input_tokens');
      const { usage } = await ask(questions.CAPITAL);
      assert.equal(counted.input_tokens, usage.prompt_tokens);
    });

    test("the package's own stream helper joins the answer", async () => {
      const stream = client.chat.completions.stream({ model, ...questions.CAPITAL, stream: true });
      const answer = await stream.finalChatCompletion();
      assert.ok(answer.choices[0].message.content);
    });

    test('a stop string ends the answer before itself', async () => {
      const [choice] = (await ask(questions.CAPITAL_BEFORE)).choices;
      // Only the recorded answer is sure to reach the stop string.
      if (kind === 'ollama') assert.equal(choice.finish_reason, 'stop');
      assert.ok(!choice.message.content.includes('of France is'));
    });

    test('the same seed gives the same text', async () => {
      const texts = [await ask(questions.INVENTED), await ask(questions.INVENTED)].map((answer) => answer.choices[0].message.content);
      // The stand-in has two recordings of this question, and checks that the seed arrived.
      if (kind !== 'ollama') assert.equal(texts[0], texts[1]);
    });

    test('max_tokens ends the answer with finish reason length', async () => {
      const answer = await ask({ ...questions.STORY, max_tokens: 3 });
      assert.equal(answer.choices[0].finish_reason, 'length');
      assert.equal(answer.usage.completion_tokens, 3);
    });

    test('a missing model is a NotFoundError', async () => {
      await assert.rejects(ask({ ...questions.CAPITAL, model: 'nope' }), (error) => {
        assert.ok(error instanceof OpenAI.NotFoundError);
        assert.equal(error.code, 'model_not_found');
        return true;
      });
    });

    test('an invalid field is a BadRequestError with the name of the field', async () => {
      for (const [change, param] of [[{ messages: [] }, 'messages'], [{ max_tokens: 0 }, 'max_tokens'], [{ temperature: 'hot' }, 'temperature']]) {
        await assert.rejects(ask({ ...questions.CAPITAL, ...change }), (error) => {
          assert.ok(error instanceof OpenAI.BadRequestError);
          assert.equal(error.type, 'invalid_request_error');
          assert.equal(error.param, param);
          return true;
        });
      }
    });

    test('the models can be listed, and one retrieved', async () => {
      const models = await Array.fromAsync(client.models.list());
      assert.ok(models.some((each) => each.id === model));
      assert.equal((await client.models.retrieve(model)).id, model);
      await assert.rejects(client.models.retrieve('nope'), OpenAI.NotFoundError);
    });

    test('the work of a client that leaves early stops', async () => {
      if (kind === 'ollama') await post(`${upstream}/standin/next`, { hold_after: 2 });
      const stream = await ask({ ...(kind === 'ollama' ? questions.CAPITAL : questions.DRAGON), stream: true });
      for await (const chunk of stream) {
        assert.ok(chunk.choices);
        break;
      }
      if (kind === 'ollama') {
        assert.deepEqual(await (await fetch(`${upstream}/standin/left`)).json(), { left: true });
      }
      assert.equal((await ask({ ...questions.STORY, max_tokens: 3 })).usage.completion_tokens, 3);
    });
  });
}

async function post(url, body) {
  const answer = await fetch(url, { method: 'POST', body: JSON.stringify(body) });
  await answer.text();
}
