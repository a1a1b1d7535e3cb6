// Asks one question with the package's own retries, and prints the status of what came of it: `node retry.js URL`.

import OpenAI from 'openai';

const client = new OpenAI({ baseURL: `${process.argv[2]}/v1`, apiKey: 'unused', maxRetries: 2 });
const asked = client.chat.completions.create({ model: 'm', messages: [{ role: 'user', content: 'x' }] });
console.log(await asked.then(() => 200, (error) => error.status));
