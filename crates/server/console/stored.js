// The page of stored objects: responses, chats, batches and files of one API key.

import { call, keys, send } from './api.js';
import { confirmed, field, h, problem, put, tabs, tag, toast } from './dom.js';
import * as format from './format.js';

const PAGE = 20;

const KINDS = [
  { id: 'responses', name: 'Responses', list: after => `console/responses?limit=${PAGE}${after}`, one: id => `v1/responses/${id}`, parts: ['input_items'], deletes: true,
    none: ['No stored response', 'Responses are stored unless their request says store: false.'] },
  { id: 'chats', name: 'Chats', list: after => `v1/chat/completions?order=desc&limit=${PAGE}${after}`, one: id => `v1/chat/completions/${id}`, parts: ['messages'], deletes: true,
    none: ['No stored chat', 'A chat is stored if its request says store: true.'] },
  { id: 'batches', name: 'Batches', list: after => `v1/batches?limit=${PAGE}${after}`, one: id => `v1/batches/${id}`, parts: [], cancels: true,
    none: ['No batch', 'A batch is made of an uploaded file with one request a line.'] },
  { id: 'files', name: 'Files', list: after => `v1/files?limit=${PAGE}${after}`, one: id => `v1/files/${id}`, parts: [], deletes: true, content: true,
    none: ['No file', 'Files are uploaded by POST /v1/files.'] },
];

export function open(place, context) {
  const whose = h('p', {});
  const holder = h('div.card');
  place.append(h('div.head', {}, h('h1', {}, 'Stored objects'), otherKey(context, start), whose), holder);
  start();

  function start() {
    const name = keys.other ? 'the other key that you have entered' : context.server.key ? `the key “${context.server.key.name}”` : 'everybody, because this server has no keys';
    put(whose, `Stored objects belong to the key that made them. These are those of ${name}; no key sees those of another, and neither does the operator.`);
    if (!context.server.has_store) {
      put(holder, h('div.empty-state', {}, h('h2', {}, 'This server has no store'), h('p', {}, 'It runs with ', h('code', {}, 'store = false'), '.')));
      return;
    }
    put(holder, tabs('Kinds of stored objects', KINDS.map(kind => ({ id: kind.id, name: kind.name, show: () => browse(kind) }))).element);
  }
}

// Lets the operator act as the holder of another key.
export function otherKey(context, changed) {
  const element = h('div.actions');
  draw();
  return element;

  function draw() {
    put(element, keys.other
      ? h('button', { type: 'button', onclick: () => { keys.other = ''; draw(); changed(); } }, 'Use my own key again')
      : context.server.key || context.server.keys_required ? h('button', { type: 'button', onclick: ask }, 'Use another key') : '');
  }

  function ask() {
    const input = h('input', { type: 'password', autocomplete: 'off', spellcheck: 'false', required: true });
    const dialog = h('dialog', { 'aria-label': 'Use another key', onclose: () => dialog.remove() },
      h('form', { onsubmit: event => { event.preventDefault(); keys.other = input.value.trim(); dialog.close(); draw(); changed(); } },
        h('h2', {}, 'Use another key'),
        h('p', {}, 'The playground and the stored objects are then those of its holder. The rest of the console keeps your own.'),
        field('API key', input, 'It stays in this tab until you close it.'),
        h('div.actions', {}, h('button', { type: 'button', onclick: () => dialog.close() }, 'Cancel'), h('button.first', { type: 'submit' }, 'Use it'))));
    document.body.append(dialog);
    dialog.showModal();
  }
}

function browse(kind) {
  const list = h('ul.list', {});
  const more = h('button', { type: 'button', onclick: () => load() }, 'Show more');
  const detail = h('div.detail', { 'aria-live': 'polite' });
  const left = h('div', {}, list);
  const element = h('div.split', {}, left, detail);
  let after = '';
  let chosen = null;
  load();
  return element;

  async function load() {
    more.disabled = true;
    let page;
    try {
      page = await call(kind.list(after && `&after=${encodeURIComponent(after)}`), { key: keys.ofModels });
    } catch (error) {
      put(left, list, h('div.detail', {}, problem(error)));
      return;
    }
    more.disabled = false;
    after = page.data.at(-1)?.id ?? after;
    list.append(...page.data.map(one => h('li', {}, entry(one))));
    if (!list.children.length) {
      put(element, h('div.empty-state', {}, h('h2', {}, kind.none[0]), h('p', {}, kind.none[1])));
      element.classList.remove('split');
      return;
    }
    put(left, list, ...(page.has_more ? [h('div.detail', {}, more)] : []));
    if (!chosen) put(detail, h('p.muted', {}, 'Choose one to see all of it.'));
  }

  function entry(one) {
    const button = h('button', { type: 'button', onclick: () => show(one, button) },
      h('span.mono', {}, one.filename ?? one.id), status(one),
      h('span.small.muted', {}, [one.model ?? one.endpoint ?? one.purpose, one.bytes !== undefined && format.bytes(one.bytes), counts(one)].filter(Boolean).join(' · ')),
      h('span.small.muted', {}, format.moment(one.created_at ?? one.created)));
    return button;
  }

  async function show(one, button) {
    chosen?.removeAttribute('aria-current');
    chosen = button;
    chosen.setAttribute('aria-current', 'true');
    put(detail, h('p.muted', {}, 'Reading it…'));
    try {
      const key = keys.ofModels;
      const [object, ...parts] = await Promise.all([call(kind.one(one.id), { key }), ...kind.parts.map(part => call(`${kind.one(one.id)}/${part}?limit=100`, { key }))]);
      if (chosen !== button) return;
      put(detail, ...described(object, parts));
    } catch (error) {
      if (chosen === button) put(detail, problem(error));
    }
  }

  function described(object, parts) {
    const facts = [['Id', h('code', {}, object.id)], ['Created', format.moment(object.created_at ?? object.created)], ['Model', object.model && h('code', {}, object.model)],
      ['Continues', object.previous_response_id && h('code', {}, object.previous_response_id)],
      ['Tokens', object.usage && `${format.whole(object.usage.input_tokens ?? object.usage.prompt_tokens)} in the prompt, ${format.whole(object.usage.output_tokens ?? object.usage.completion_tokens)} in the answer`],
      ['Lines', counts(object)], ['Input', object.input_file_id && h('code', {}, object.input_file_id)], ['Results', object.output_file_id && h('code', {}, object.output_file_id)], ['Errors', object.error_file_id && h('code', {}, object.error_file_id)], ['Until', object.expires_at && format.moment(object.expires_at)]];
    const isCancellable = kind.cancels && ['validating', 'in_progress', 'finalizing'].includes(object.status);
    return [
      h('div.actions', {}, status(object),
        kind.content && h('button.small', { type: 'button', onclick: () => save(object) }, 'Save the content'),
        isCancellable && h('button.small.danger', { type: 'button', onclick: () => cancel(object) }, 'Cancel'),
        kind.deletes && h('button.small.danger', { type: 'button', onclick: () => remove(object) }, 'Delete')),
      h('dl.facts', {}, facts.filter(([, value]) => value).map(([name, value]) => [h('dt', {}, name), h('dd', {}, value)])),
      ...conversation(object, parts),
      h('details', {}, h('summary.label', {}, 'As JSON'), h('pre.json', { tabindex: '0', 'aria-label': 'The object as JSON' }, JSON.stringify(object, null, 2)),
        parts.map((part, at) => [h('p.label', {}, kind.parts[at]), h('pre.json', { tabindex: '0', 'aria-label': kind.parts[at] }, JSON.stringify(part.data, null, 2))])),
    ];
  }

  async function remove(object) {
    if (!await confirmed('Delete it?', `${object.filename ?? object.id} is deleted for good.`, 'Delete')) return;
    try {
      await call(kind.one(object.id), { method: 'DELETE', key: keys.ofModels });
      toast('It is deleted.');
      chosen?.closest('li').remove();
      chosen = null;
      detail.replaceChildren();
    } catch (error) {
      detail.prepend(problem(error));
    }
  }

  async function cancel(object) {
    try {
      await call(`${kind.one(object.id)}/cancel`, { method: 'POST', key: keys.ofModels });
      chosen?.click();
    } catch (error) {
      detail.prepend(problem(error));
    }
  }

  async function save(object) {
    try {
      const response = await send(`${kind.one(object.id)}/content`, { key: keys.ofModels });
      const url = URL.createObjectURL(await response.blob());
      h('a', { href: url, download: object.filename ?? object.id }).click();
      setTimeout(() => URL.revokeObjectURL(url), 60_000);
    } catch (error) {
      detail.prepend(problem(error));
    }
  }
}

function status(one) {
  const kind = { completed: 'good', failed: 'bad', expired: 'warn', cancelled: 'warn', incomplete: 'warn', in_progress: 'accent', queued: 'accent', validating: 'accent', finalizing: 'accent' }[one.status];
  return one.status && one.status !== 'processed' ? tag(one.status.replaceAll('_', ' '), kind) : h('span', {});
}

function counts(one) {
  const lines = one.request_counts;
  return lines && `${format.whole(lines.completed)} of ${format.whole(lines.total)} lines${lines.failed ? `, ${format.whole(lines.failed)} failed` : ''}`;
}

// What was said, of a chat or a response, in order.
function conversation(object, parts) {
  const before = [...(parts[0]?.data ?? [])];
  if (object.object === 'response') before.reverse();
  const after = object.output ?? object.choices?.map(choice => choice.message) ?? [];
  const said = [...before, ...after].map(item => [item.role ?? item.type?.replaceAll('_', ' ') ?? '', textOf(item)]).filter(([, text]) => text);
  if (!said.length) return [];
  return [h('div.card.turns', {}, said.map(([role, text]) => h(`div.turn.${role === 'assistant' ? 'assistant' : 'other'}`, {}, h('div.turn-head', {}, h('strong', {}, role)), h('div.said', {}, text))))];
}

function textOf(item) {
  if (typeof item.content === 'string') return item.content;
  if (Array.isArray(item.content)) return item.content.map(part => part.text ?? part.refusal ?? `[${part.type}]`).join('\n');
  if (item.type === 'function_call') return `${item.name}(${item.arguments})`;
  if (item.tool_calls) return item.tool_calls.map(one => `${one.function.name}(${one.function.arguments})`).join('\n');
  if (typeof item.output === 'string') return item.output;
  if (Array.isArray(item.summary)) return item.summary.map(part => part.text).join('\n');
  return '';
}
