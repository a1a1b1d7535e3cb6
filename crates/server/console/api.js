// Calls the server's own API. The keys are in this tab's session storage only, and go nowhere but to this server.

// The page is at <base>console, whatever path a proxy puts before it.
export const BASE = new URL('.', location.href).href;

const KEY = 'loggia-key';
const OTHER_KEY = 'loggia-other-key';

export const keys = {
  get admin() { return sessionStorage.getItem(KEY) ?? ''; },
  set admin(key) { keep(KEY, key); },
  // The key for models and stored objects, if it is another one.
  get other() { return sessionStorage.getItem(OTHER_KEY) ?? ''; },
  set other(key) { keep(OTHER_KEY, key); },
  get ofModels() { return keys.other || keys.admin; },
};

function keep(name, key) {
  if (key) sessionStorage.setItem(name, key);
  else sessionStorage.removeItem(name);
}

export class CallError extends Error {
  constructor(status, message, code, requestId) {
    super(message);
    this.status = status;
    this.code = code;
    this.requestId = requestId;
  }
}

export async function call(path, { method = 'GET', body, key = keys.admin, signal } = {}) {
  const response = await send(path, { method, body, key, signal });
  const text = await response.text();
  try {
    return text ? JSON.parse(text) : {};
  } catch {
    throw new CallError(response.status, 'The answer is not JSON. Is there something between this page and Loggia?');
  }
}

export async function send(path, { method = 'GET', body, key = keys.admin, signal } = {}) {
  const headers = {};
  if (key) headers.authorization = `Bearer ${key}`;
  if (body !== undefined) headers['content-type'] = 'application/json';
  let response;
  try {
    response = await fetch(BASE + path, { method, headers, body: body === undefined ? undefined : JSON.stringify(body), signal, cache: 'no-store', credentials: 'omit' });
  } catch (error) {
    if (error.name === 'AbortError') throw error;
    throw new CallError(0, 'The server does not answer. Is it running?');
  }
  if (!response.ok) throw await failure(response);
  return response;
}

async function failure(response) {
  const text = await response.text().catch(() => '');
  let error = {};
  try { error = JSON.parse(text).error ?? {}; } catch { /* not one of Loggia's */ }
  const message = error.message ?? (text.slice(0, 300) || `The server answered with ${response.status}.`);
  return new CallError(response.status, message, error.code, response.headers.get('x-request-id'));
}

// Reads a stream of events, one after the other.
export async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = '';
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    rest += value;
    let end;
    while ((end = rest.search(/\r?\n\r?\n/)) >= 0) {
      const event = rest.slice(0, end);
      rest = rest.slice(end).replace(/^\r?\n\r?\n/, '');
      const data = event.split(/\r?\n/).filter(line => line.startsWith('data:')).map(line => line.slice(5).trimStart()).join('\n');
      if (data && data !== '[DONE]') yield JSON.parse(data);
    }
  }
}
