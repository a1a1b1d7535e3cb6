// OpenAI's Agents SDK for Node and the AI SDK with `@ai-sdk/openai` over `/v1/responses`, before engines whose model follows a script
// (`../weather.py`): tools are called and their results used, whole and streamed, and turns go on from earlier ones.

import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';

import { createOpenAI } from '@ai-sdk/openai';
import { Agent, OpenAIConversationsSession, OpenAIResponsesModel, run, setTracingDisabled, tool as agentTool } from '@openai/agents';
import { generateText, isStepCount, Output, streamText, tool } from 'ai';
import OpenAI from 'openai';
import { z } from 'zod';

import { startTargets } from './targets.js';

setTracingDisabled(true);
globalThis.AI_SDK_LOG_WARNINGS = false;
const { targets, stop } = await startTargets('weather');
after(async () => assert.equal(await stop(), 0), { timeout: 60_000 });

const QUESTION = 'Weather in Paris and Rome?';
const ANSWER = '18 degrees, sunny in Paris. 18 degrees, sunny in Rome.';
const TURNS = ['Weather in Paris?', 'And in Rome?', 'What did I ask?'];
const TOLD = 'You asked about Paris and Rome.';
const City = z.object({ city: z.string() });
const Report = z.object({ city: z.string(), degrees: z.number() });
const inCity = ({ city }) => `18 degrees, sunny in ${city}.`;

for (const { kind, url, model } of targets) {
  const baseURL = `${url}/v1`;

  describe(`the Agents SDK in front of ${kind}`, { timeout: 120_000 }, () => {
    const client = new OpenAI({ baseURL, apiKey: 'unused', maxRetries: 0 });
    const weather = agentTool({ name: 'get_weather', description: 'The weather in a city', parameters: City, execute: inCity });
    const agent = (more = {}) => new Agent({ name: 'a', instructions: 'Help.', model: new OpenAIResponsesModel(client, model), tools: [weather], ...more });

    for (const store of [undefined, false]) {
      test(`tools are called and their results used, store ${store}`, async () => {
        const answer = await run(agent({ modelSettings: { store } }), QUESTION);
        assert.equal(answer.finalOutput, ANSWER);
        assert.deepEqual(answer.newItems.map((item) => item.type), [
          'reasoning_item', 'tool_call_item', 'tool_call_item', 'tool_call_output_item', 'tool_call_output_item', 'message_output_item',
        ]);
      });

      test(`a stream gives the same, store ${store}`, async () => {
        const answer = await run(agent({ modelSettings: { store } }), QUESTION, { stream: true });
        const text = (await Array.fromAsync(answer.toTextStream())).join('');
        await answer.completed;
        assert.equal(answer.finalOutput, ANSWER);
        assert.equal(text, ANSWER);
      });
    }

    test('a turn goes on from the history', async () => {
      const first = await run(agent(), 'Weather in Paris?');
      const second = await run(agent(), [...first.history, { role: 'user', content: 'What did I ask?' }]);
      assert.equal(second.finalOutput, 'You asked about Paris.');
    });

    test('turns go on from the last response', async () => {
      let previousResponseId;
      let answer;
      for (const asked of TURNS) {
        answer = await run(agent(), asked, { previousResponseId });
        previousResponseId = answer.lastResponseId;
      }
      assert.equal(answer.finalOutput, TOLD);
    });

    test('a session is a conversation of the server', async () => {
      const session = new OpenAIConversationsSession({ client });
      let answer;
      for (const asked of TURNS) answer = await run(agent(), asked, { session });
      assert.equal(answer.finalOutput, TOLD);
    });

    test('a conversation is named by its id', async () => {
      const { id } = await client.conversations.create({});
      let answer;
      for (const asked of TURNS) answer = await run(agent(), asked, { conversationId: id });
      assert.equal(answer.finalOutput, TOLD);
    });

    test('the output is what the schema says', async () => {
      const answer = await run(agent({ tools: [], outputType: Report }), 'Weather in Paris?');
      assert.deepEqual(answer.finalOutput, { city: 'Paris', degrees: 18 });
    });
  });

  describe(`the AI SDK with @ai-sdk/openai in front of ${kind}`, { timeout: 120_000 }, () => {
    const loggia = createOpenAI({ baseURL, apiKey: 'unused' })(model);
    const weather = tool({ description: 'The weather in a city', inputSchema: City, execute: inCity });
    const asked = (store) => ({
      model: loggia, tools: { get_weather: weather }, stopWhen: isStepCount(3), maxRetries: 0, ...(store === undefined ? {} : { providerOptions: { openai: { store } } }),
    });

    // By default the SDK refers to items of earlier answers by their ids, which the server has to remember.
    for (const store of [undefined, false]) {
      test(`a tool is called and its result used, store ${store}`, async () => {
        const answer = await generateText({ ...asked(store), prompt: QUESTION });
        assert.equal(answer.text, ANSWER);
        assert.equal(answer.steps.length, 2);
        assert.deepEqual(answer.steps[0].toolResults.map((result) => result.output), ANSWER.match(/18.*?\./g));
        assert.equal(answer.totalUsage.totalTokens, 100);
      });

      test(`a stream gives the same, store ${store}`, async () => {
        let failure;
        const answer = streamText({ ...asked(store), prompt: QUESTION, onError: ({ error }) => (failure = error) });
        const text = (await Array.fromAsync(answer.textStream)).join('');
        if (failure) throw failure;
        assert.equal(text, ANSWER);
        assert.equal(await answer.finishReason, 'stop');
      });

      test(`a turn goes on from the messages of earlier ones, store ${store}`, async () => {
        const messages = [{ role: 'user', content: 'Weather in Paris?' }];
        const first = await generateText({ ...asked(store), messages });
        messages.push(...first.response.messages, { role: 'user', content: 'What did I ask?' });
        const second = await generateText({ ...asked(store), messages });
        assert.equal(second.text, 'You asked about Paris.');
      });
    }

    for (const name of ['previousResponseId', 'conversation']) {
      test(`turns go on by ${name}`, async () => {
        // The tool runs here: in a loop of its own the SDK sends again what a conversation has already.
        const { execute, ...offered } = weather;
        const conversation = await new OpenAI({ baseURL, apiKey: 'unused' }).conversations.create({});
        let answer;
        const go = async (more) => {
          const openai = { [name]: name === 'conversation' ? conversation.id : answer?.finalStep.providerMetadata.openai.responseId };
          answer = await generateText({ ...asked(undefined), tools: { get_weather: offered }, providerOptions: { openai }, ...more });
        };
        for (const prompt of TURNS) {
          await go({ prompt });
          const results = answer.toolCalls.map(({ toolCallId, toolName, input }) => (
            { type: 'tool-result', toolCallId, toolName, output: { type: 'text', value: inCity(input) } }
          ));
          if (results.length > 0) await go({ messages: [{ role: 'tool', content: results }] });
        }
        assert.equal(answer.text, TOLD);
      });
    }

    test('an object is what its schema says', async () => {
      const { output } = await generateText({ ...asked(false), tools: undefined, prompt: 'Weather in Paris?', output: Output.object({ schema: Report }) });
      assert.deepEqual(output, { city: 'Paris', degrees: 18 });
    });
  });
}
