// Sends one question with the package's own retries, and prints the result as JSON: `node retry.js URL [MODEL]`.

import OpenAI from 'openai';

const [url, model = 'm'] = process.argv.slice(2);
const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: 'unused', maxRetries: 2 });
const asked = client.chat.completions.create({ model, messages: [{ role: 'user', content: 'x' }] });
const told = ({ constructor, status, code, param, type, requestID }) => ({ class: constructor.name, status, code, param, type, request_id: requestID });
console.log(JSON.stringify(await asked.then(() => ({ status: 200 }), told)));
