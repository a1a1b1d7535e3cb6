// The page of the API keys: what each has used, and creating, rotating and revoking stored ones.

import { call } from './api.js';
import { confirmed, copyButton, field, h, problem, put, table, tag, toast } from './dom.js';
import { bars } from './plot.js';
import * as format from './format.js';

const DAYS = 30;
const SCOPES = [['chat', 'models, and everything under /v1 but files'], ['files', 'files, uploads and vector stores'], ['metrics', '/metrics'], ['priority', 'service_tier priority goes first in a queue'], ['admin', 'this console, and the keys of others']];
const EXPIRY = [['', 'never'], ['86400', 'in a day'], ['604800', 'in a week'], ['2592000', 'in 30 days'], ['7776000', 'in 90 days'], ['31536000', 'in a year']];
const LIMITS = [['requests_per_minute', 'Requests a minute'], ['tokens_per_minute', 'Tokens a minute'], ['tokens_per_day', 'Tokens a day'], ['streams', 'Answers at once']];

export function open(place, context) {
  const { server } = context;
  const mayChange = server.has_key_store && server.key;
  const told = h('div');
  const keyList = h('div.card', {}, h('div.empty-state', {}, 'Reading the keys…'));
  const use = h('div.page');
  let isOpen = true;
  place.append(
    h('div.head', {}, h('h1', {}, 'API keys'), mayChange && h('button.first', { type: 'button', onclick: () => createKey(load) }, 'New key')),
    told, keyList, use);
  load();
  return () => { isOpen = false; };

  async function load() {
    const days = server.has_usage ? call(`admin/usage?days=${DAYS}`) : null;
    const listed = mayChange ? call('admin/keys') : null;
    const [usage, keys] = await Promise.allSettled([days, listed]);
    if (!isOpen) return;
    const failed = [usage, keys].find(one => one.status === 'rejected')?.reason;
    if (failed?.status === 401 || failed?.status === 403) return context.signIn(failed);
    put(told, ...(failed ? [problem(failed)] : []));
    const rows = usage.value?.data ?? [];
    showKeys(keys.value?.data ?? [], rows);
    showUse(usage.value, rows);
  }

  function showKeys(all, rows) {
    const order = [...all].sort((a, b) => (a.revoked_at ? 1 : 0) - (b.revoked_at ? 1 : 0) || b.created_at - a.created_at);
    const total = name => rows.filter(row => row.key === name).reduce((sum, row) => sum + row.prompt_tokens + row.completion_tokens, 0);
    const configured = server.configured_keys.map(name => h('tr', {},
      h('td', {}, h('strong', {}, name)), h('td.muted', {}, 'in the configuration'), h('td', {}), h('td', {}), h('td', {}),
      h('td.number', {}, format.short(total(name))), h('td', {}, tag('valid', 'good')), h('td', {})));
    const stored = order.map(key => keyRow(key, total(key.name)));
    put(keyList,
      h('div.card-head', {}, h('h2', {}, 'Keys ', h('span.count', {}, format.whole(all.filter(key => !key.revoked_at).length + configured.length)))),
      !server.key && h('div.card-body', {}, h('p.note', {}, 'No API key exists, so this server serves this machine only, and everybody at it. The first key is created by command, and every request then needs one: ', h('code', {}, 'loggia keys create ops --scope admin --scope chat --scope files'))),
      !server.has_key_store && h('div.card-body', {}, h('p.note', {}, 'This server has no store (', h('code', {}, 'store = false'), '), so keys come from its configuration only.')),
      table('API keys', ['Name', 'Key', 'Scopes', 'Models', 'Limits', [`Tokens, ${DAYS} days`, 'number'], 'State', h('span.hidden', {}, 'Actions')], [...configured, ...stored], 'There is no key yet.'));
  }

  function keyRow(key, tokens) {
    const isOver = key.revoked_at || (key.expires_at && key.expires_at * 1000 < Date.now());
    const limits = LIMITS.filter(([name]) => key.limits?.[name]).map(([name, text]) => `${format.short(key.limits[name])} ${text.toLowerCase()}`);
    if (key.budget) limits.push(`budget ${format.short(key.used_tokens)} of ${format.short(key.budget)}`);
    const models = key.models ?? [];
    return h(isOver ? 'tr.off' : 'tr', {},
      h('td', {}, h('strong', {}, key.name), h('div.small.muted', {}, `since ${format.moment(key.created_at)}`)),
      h('td', {}, h('code', {}, key.redacted_value)),
      h('td', {}, h('span.tags', {}, key.scopes.map(scope => tag(scope, scope === 'admin' && 'warn')))),
      h('td.wide', {}, models.length ? h('code', {}, models.join(', ')) : h('span.muted', {}, 'all')),
      h('td.wide.small', {}, limits.length ? limits.join(', ') : h('span.muted', {}, 'of the server')),
      h('td.number', {}, format.short(tokens)),
      h('td', {}, state(key)),
      h('td', {}, !isOver && h('div.actions', {},
        h('button.small', { type: 'button', onclick: () => rotate(key, load) }, 'Rotate'),
        h('button.small.danger', { type: 'button', onclick: () => revoke(key, load, server) }, 'Revoke'))));
  }

  function showUse(usage, rows) {
    if (!usage) {
      put(use, h('div.card', {}, h('div.empty-state', {}, h('h2', {}, 'No usage is kept'), h('p', {}, 'This server runs without a store.'))));
      return;
    }
    const days = [];
    for (let day = usage.first_day; day <= usage.today; day += 1) {
      const those = rows.filter(row => row.day === day);
      const [prompt, answer] = ['prompt_tokens', 'completion_tokens'].map(name => those.reduce((sum, row) => sum + row[name], 0));
      days.push({ label: format.day(day), parts: [answer, prompt], text: `${format.day(day)}: ${format.whole(prompt)} tokens of prompts, ${format.whole(answer)} of answers` });
    }
    const grouped = new Map();
    for (const row of rows) {
      const name = JSON.stringify([row.key, row.model]);
      const sum = grouped.get(name) ?? { key: row.key, model: row.model, requests: 0, incomplete: 0, prompt_tokens: 0, cached_tokens: 0, completion_tokens: 0 };
      for (const one of ['requests', 'incomplete', 'prompt_tokens', 'cached_tokens', 'completion_tokens']) sum[one] += row[one];
      grouped.set(name, sum);
    }
    const sums = [...grouped.values()].sort((a, b) => b.prompt_tokens + b.completion_tokens - a.prompt_tokens - a.completion_tokens);
    put(use,
      h('section.card', { 'aria-label': 'Tokens by day' }, bars(`Tokens by day, last ${DAYS} days (UTC)`, days, ['answers', 'prompts'])),
      h('section.card', { 'aria-label': 'Use by key and model' }, h('div.card-head', {}, h('h2', {}, 'Use by key and model'), h('span.small.muted', {}, `last ${DAYS} days`)),
        table('Use by key and model', ['Key', 'Model', ['Requests', 'number'], ['Incomplete', 'number'], ['Prompt tokens', 'number'], ['of them cached', 'number'], ['Answer tokens', 'number']],
          sums.map(sum => h('tr', {}, h('td', {}, h('strong', {}, sum.key)), h('td.mono', {}, sum.model), h('td.number', {}, format.whole(sum.requests)), h('td.number', {}, format.whole(sum.incomplete)), h('td.number', {}, format.whole(sum.prompt_tokens)), h('td.number', {}, format.whole(sum.cached_tokens)), h('td.number', {}, format.whole(sum.completion_tokens)))),
          'No key has used a model in this time. Requests without a key are not counted here.')));
  }
}

function state(key) {
  if (key.revoked_at) return tag(`revoked ${format.day(Math.floor(key.revoked_at / 86400))}`);
  if (key.expires_at && key.expires_at * 1000 < Date.now()) return tag('expired', 'warn');
  if (key.expires_at) return tag(`until ${format.day(Math.floor(key.expires_at / 86400))}`, 'good');
  return tag('valid', 'good');
}

function createKey(done) {
  const name = h('input', { required: true, maxlength: 64, pattern: '[A-Za-z0-9_.\\-]+', autocomplete: 'off', spellcheck: 'false' });
  const scopes = SCOPES.map(([scope, means]) => [scope, h('input', { type: 'checkbox', value: scope, checked: scope === 'chat' || scope === 'files' }), means]);
  const models = h('input', { autocomplete: 'off', spellcheck: 'false', placeholder: 'all' });
  const expiry = h('select', {}, EXPIRY.map(([seconds, text]) => h('option', { value: seconds }, text)));
  const limits = LIMITS.map(([id, text]) => [id, h('input', { type: 'number', min: 1, step: 1, inputmode: 'numeric', placeholder: 'no limit' }), text]);
  const budget = h('input', { type: 'number', min: 1, step: 1, inputmode: 'numeric', placeholder: 'no limit' });
  const told = h('div');
  const create = h('button.first', { type: 'submit' }, 'Create key');
  const form = h('form', { onsubmit: submit },
    h('h2', {}, 'New API key'),
    told,
    field('Name', name, 'Letters, digits, - _ and . – the log, the limits and what the key stores have this name.'),
    h('fieldset', {}, h('legend', {}, 'Scopes'), scopes.map(([scope, box, means]) => h('label.check', {}, box, h('span', {}, scope, h('span.muted', {}, ` – ${means}`))))),
    h('div.fields', {}, field('Models', models, 'Names or patterns, with commas: qwen3:*, gpt-4o'), field('Valid', expiry)),
    h('details', {}, h('summary.label', {}, 'Limits'), h('div.fields', {}, limits.map(([, input, text]) => field(text, input)), field('Tokens in its life', budget))),
    h('div.actions', {}, h('button', { type: 'button', onclick: () => dialog.close() }, 'Cancel'), create));
  const dialog = h('dialog', { 'aria-label': 'New API key', onclose: () => { dialog.remove(); done(); } }, form);
  document.body.append(dialog);
  dialog.showModal();

  async function submit(event) {
    event.preventDefault();
    const body = { name: name.value.trim(), scopes: scopes.filter(([, box]) => box.checked).map(([scope]) => scope) };
    const patterns = models.value.split(',').map(one => one.trim()).filter(Boolean);
    if (patterns.length) body.models = patterns;
    if (expiry.value) body.expires_in_seconds = Number(expiry.value);
    const set = limits.filter(([, input]) => input.value).map(([id, input]) => [id, Number(input.value)]);
    if (set.length) body.limits = Object.fromEntries(set);
    if (budget.value) body.budget = Number(budget.value);
    create.disabled = true;
    try {
      showSecret(dialog, await call('admin/keys', { method: 'POST', body }), 'is created');
    } catch (error) {
      put(told, problem(error));
      create.disabled = false;
    }
  }
}

function showSecret(dialog, key, what) {
  const done = h('button.first', { type: 'button', onclick: () => dialog.close() }, 'I have kept it');
  put(dialog,
    h('h2', {}, `The key of ${key.name} ${what}`),
    h('p', {}, 'Copy it now: the server keeps only its hash, and cannot show it again.'),
    h('div.secret', {}, h('code', { 'data-secret': true }, key.value), copyButton(key.value)),
    h('div.actions', {}, done));
  done.focus();
}

async function rotate(key, done) {
  const overlap = h('select', {}, [['0', 'ends now'], ['3600', 'ends in an hour'], ['86400', 'ends in a day']].map(([seconds, text]) => h('option', { value: seconds }, text)));
  const told = h('div');
  const dialog = h('dialog', { 'aria-label': `Rotate ${key.name}`, onclose: () => { dialog.remove(); done(); } },
    h('form', { onsubmit: submit }, h('h2', {}, `Rotate the key of ${key.name}`), told,
      h('p', {}, 'It gets a new text, and keeps its name, its limits and what it has stored.'),
      field('The present text', overlap),
      h('div.actions', {}, h('button', { type: 'button', onclick: () => dialog.close() }, 'Cancel'), h('button.first', { type: 'submit' }, 'Rotate'))));
  document.body.append(dialog);
  dialog.showModal();

  async function submit(event) {
    event.preventDefault();
    try {
      const rotated = await call(`admin/keys/${key.id}/rotate`, { method: 'POST', body: { overlap_seconds: Number(overlap.value) } });
      showSecret(dialog, rotated, 'has a new text');
    } catch (error) {
      put(told, problem(error));
    }
  }
}

async function revoke(key, done, server) {
  const isOwn = server.key?.name === key.name;
  const text = `Requests with it get a 401 within a second, on every server with this store. What it has stored stays.${isOwn ? ' You have signed in with this key: the console will ask for another one.' : ''}`;
  if (!await confirmed(`Revoke the key of ${key.name}?`, text, 'Revoke')) return;
  try {
    await call(`admin/keys/${key.id}`, { method: 'DELETE' });
    toast(`The key of ${key.name} is revoked.`);
  } catch (error) {
    toast(error.message, 'bad');
  }
  done();
}
