// The running loggias for the suites: `../targets.py` starts them, and stops them when its standard input is closed.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';

const python = process.env.LOGGIA_PYTHON ?? fileURLToPath(new URL('../.venv/bin/python', import.meta.url));
const script = fileURLToPath(new URL('../targets.py', import.meta.url));

/** Starts one loggia in front of each kind of backend, where `which` is "embeddings" with models that make those, where it is "weather" with a model that follows that script (`../weather.py`); `stop` ends them and gives the exit code, which is 0 when all went well. */
export async function startTargets(...which) {
  const child = spawn(python, [script, ...which], { stdio: ['pipe', 'pipe', 'inherit'] });
  const ended = new Promise((resolve) => child.once('exit', resolve));
  const targets = JSON.parse(await firstLine(child.stdout));
  const stop = () => {
    child.stdin.end();
    return ended;
  };
  return { targets, stop };
}

/**
 * In front of the stand-in: the recorded requests that come next, each with the fields in which the package that is tried differs from it.
 * In front of anything else there is nothing to expect.
 */
export async function expects({ kind, upstream }, ...requests) {
  if (kind !== 'ollama') return;
  const body = JSON.stringify(requests.map(([recording, changed]) => ({ recording, changed })));
  await (await fetch(`${upstream}/standin/expect`, { method: 'POST', body })).text();
}

/**
 * Runs a test that needs this field: where the kind of backend does not honour it, exactly its refusal must come. The same as
 * `../refusals.py`; `refusal` finds OpenAI's error in what was thrown.
 */
export async function unlessRefused(target, context, field, body, refusal = (error) => error) {
  if (!target.refuses.includes(field)) return body();
  await assert.rejects(body(), (error) => {
    const { code, param } = refusal(error);
    assert.equal(code, 'unsupported_parameter');
    assert.ok(param.startsWith(field) || (field === 'tools' && param === 'tool_choice'), param);
    return true;
  });
}

async function firstLine(stream) {
  let text = '';
  for await (const piece of stream) {
    text += piece;
    if (text.includes('\n')) return text;
  }
  throw new Error('targets.py ended before it had started everything; its words are above');
}
