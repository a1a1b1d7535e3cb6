// Recordings and speech through the official Node package and the AI SDK, before an engine that hears and speaks (`../audio_engine.py`).

import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';

import { createOpenAI } from '@ai-sdk/openai';
import { generateSpeech, transcribe } from 'ai';
import OpenAI, { toFile } from 'openai';

import { startTargets } from './targets.js';

const { targets, stop } = await startTargets('audio');
after(async () => assert.equal(await stop(), 0), { timeout: 60_000 });

const WORDS = 'Hello there.';
const recording = () => toFile(Buffer.from('ID3 a recording'), 'speech.mp3');

for (const { url } of targets) {
  describe('recordings and speech', { timeout: 60_000 }, () => {
    const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: 'unused', maxRetries: 0 });
    const { audio } = client;

    test('a recording becomes text in every format', async () => {
      const file = await recording();
      const heard = await audio.transcriptions.create({ model: 'whisper', file, include: ['logprobs'], language: 'en' });
      assert.equal(heard.text, WORDS);
      assert.equal(heard.usage.total_tokens, 17);
      const text = await audio.transcriptions.create({ model: 'whisper', file, response_format: 'text' });
      assert.equal(text, `${WORDS}\n`);
      const srt = await audio.transcriptions.create({ model: 'whisper', file, response_format: 'srt' });
      assert.match(srt, /^1\n00:00:00,000 --> 00:00:01,500\nHello there\.\n/);
      const granularities = { response_format: 'verbose_json', timestamp_granularities: ['segment'] };
      const verbose = await audio.transcriptions.create({ model: 'whisper', file, ...granularities });
      assert.equal(verbose.segments[0].end, 1.5);
      const translated = await audio.translations.create({ model: 'whisper', file });
      assert.equal(translated.text, WORDS);
    });

    test('a stream has the events of OpenAI', async () => {
      const events = [];
      for await (const event of await audio.transcriptions.create({ model: 'whisper', file: await recording(), stream: true })) events.push(event);
      assert.deepEqual(
        events.map(({ type }) => type),
        ['transcript.text.delta', 'transcript.text.delta', 'transcript.text.done'],
      );
      assert.equal(events[2].text, WORDS);
    });

    test('text becomes speech', async () => {
      const speech = await audio.speech.create({ model: 'tts', input: 'Hi', voice: 'alloy', response_format: 'wav' });
      assert.equal(speech.headers.get('content-type'), 'audio/wav');
      assert.equal(await speech.text(), 'RIFFHi');
    });

    test('an unknown model is a 404, an unknown format a 400', async () => {
      const unknown = audio.transcriptions.create({ model: 'whispers', file: await recording() });
      await assert.rejects(unknown, OpenAI.NotFoundError);
      const format = audio.transcriptions.create({ model: 'whisper', file: await recording(), response_format: 'xml' });
      await assert.rejects(format, (error) => error instanceof OpenAI.BadRequestError && error.param === 'response_format');
    });

    test('the AI SDK transcribes and speaks', async () => {
      const provider = createOpenAI({ baseURL: `${url}/v1`, apiKey: 'unused' });
      const heard = await transcribe({ model: provider.transcription('whisper'), audio: Buffer.from('ID3 a recording'), maxRetries: 0 });
      assert.equal(heard.text, WORDS);
      const spoken = await generateSpeech({ model: provider.speech('tts'), text: 'Hi', voice: 'alloy', outputFormat: 'wav', maxRetries: 0 });
      assert.equal(Buffer.from(spoken.audio.uint8Array).toString(), 'RIFFHi');
    });
  });
}
