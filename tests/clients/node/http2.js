// Speaks HTTP/2 by Node's own module, and prints what came as JSON: `node http2.js URL`. One stream is read, one is
// canceled, and the connection still answers.

import http2 from 'node:http2';

const [url] = process.argv.slice(2);
const session = http2.connect(url);

const ask = (headers, body) => {
  const stream = session.request(headers);
  stream.setEncoding('utf8');
  stream.end(body && JSON.stringify(body));
  return stream;
};

const chat = (content) =>
  ask(
    { ':method': 'POST', ':path': '/v1/chat/completions', 'content-type': 'application/json' },
    { model: 'small', stream: true, messages: [{ role: 'user', content }] },
  );

const status = (stream) => new Promise((resolve) => stream.once('response', (headers) => resolve(headers[':status'])));

const read = async (stream) => {
  let events = '';
  for await (const piece of stream) events += piece;
  return events;
};

const stream = chat('x');
const canceled = chat('long');
const told = { status: await status(stream) };
await new Promise((resolve) => canceled.once('data', resolve));
const closed = new Promise((resolve) => canceled.once('close', resolve));
canceled.close(http2.constants.NGHTTP2_CANCEL);
await closed;
const chunks = (await read(stream)).split('\n\n').filter((event) => event.startsWith('data: {'));
told.text = chunks.map((event) => JSON.parse(event.slice(6)).choices[0]?.delta.content ?? '').join('');
told.error = await status(ask({ ':path': '/v1/models/none' }));
told.canceled = canceled.rstCode;
told.afterwards = await status(ask({ ':path': '/healthz' }));
session.close();
console.log(JSON.stringify(told));
