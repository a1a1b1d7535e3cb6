// The running loggias that the suites drive: started by `../targets.py`, stopped when its standard input is closed.

import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';

const python = process.env.LOGGIA_PYTHON ?? fileURLToPath(new URL('../.venv/bin/python', import.meta.url));
const script = fileURLToPath(new URL('../targets.py', import.meta.url));

/** Starts one loggia in front of each kind of backend; `stop` ends them and gives the exit code, which is 0 when all went well. */
export async function startTargets() {
  const child = spawn(python, [script], { stdio: ['pipe', 'pipe', 'inherit'] });
  const ended = new Promise((resolve) => child.once('exit', resolve));
  const targets = JSON.parse(await firstLine(child.stdout));
  const stop = () => {
    child.stdin.end();
    return ended;
  };
  return { targets, stop };
}

async function firstLine(stream) {
  let text = '';
  for await (const piece of stream) {
    text += piece;
    if (text.includes('\n')) return text;
  }
  throw new Error('targets.py ended before it had started everything; its words are above');
}
