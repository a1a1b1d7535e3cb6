// The page of the models, and of the backends with their nodes.

import { call, keys } from './api.js';
import { confirmed, h, problem, put, table, tag, toast } from './dom.js';
import * as format from './format.js';

const EVERY = 5000;

export function open(place, context) {
  const health = h('span', {});
  const told = h('div');
  const backends = h('div.page');
  const models = h('div.card', {}, h('div.card-head', {}, h('h2', {}, 'Models')), h('div.empty-state', {}, 'Asking the backends…'));
  place.append(h('div.head', {}, h('h1', {}, 'Models and backends'), health), told, backends, models);
  let timer = null;
  let isOpen = true;
  document.addEventListener('visibilitychange', visible);
  poll();
  return () => {
    isOpen = false;
    clearTimeout(timer);
    document.removeEventListener('visibilitychange', visible);
  };

  function visible() {
    if (document.hidden) clearTimeout(timer);
    else poll();
  }

  async function poll() {
    clearTimeout(timer);
    try {
      const state = await call('admin/backends');
      if (!isOpen) return;
      show(state);
      told.replaceChildren();
      context.connected('live', 'Live');
    } catch (error) {
      if (!isOpen) return;
      if (error.status === 401 || error.status === 403) return context.signIn(error);
      context.connected('lost', 'No answer');
      put(told, problem(error));
    }
    if (!document.hidden) timer = setTimeout(poll, EVERY);
  }

  function show(state) {
    put(health, state.ready ? tag('ready', 'good') : tag('not ready', 'bad'));
    const why = state.not_ready_because ?? state.models_error;
    put(backends, ...[
      why && problem({ title: 'No model can answer now. ', message: why }),
      state.backends?.length && h('section.card', { 'aria-label': 'Backends' }, h('div.card-head', {}, h('h2', {}, 'Backends')), backendTable(state.backends, poll)),
      state.engines.length && h('section.card', { 'aria-label': 'Engine processes' }, h('div.card-head', {}, h('h2', {}, 'Engine processes')), engineTable(state.engines)),
    ].filter(Boolean));
    put(models,
      h('div.card-head', {}, h('h2', {}, 'Models ', h('span.count', {}, format.whole(state.models.length)))),
      modelTable(state.models));
  }
}

function backendTable(backends, changed) {
  const rows = backends.flatMap(backend => backend.nodes.map((node, at) => h('tr', {},
    h('td', {}, at ? '' : h('strong', {}, backend.name)),
    h('td.mono', {}, node.place),
    h('td.wide', {}, h('span.tags', {}, health(node), node.state === 'active' && !node.up && backend.nodes.length === 1 && h('span.small.muted', {}, backend.not_ready_because))),
    h('td.number', {}, format.whole(node.in_flight)),
    h('td.number', {}, at || !backend.queue ? '–' : format.whole(backend.queue.running)),
    h('td.number', {}, at || !backend.queue ? '–' : format.whole(backend.queue.waiting)),
    h('td', {}, h('span.tags', {}, ...actions(node, changed))))));
  return table('Backends', ['Backend', 'Node', 'Health', ['In flight', 'number'], ['Past the queue', 'number'], ['In the queue', 'number'], h('span.hidden', {}, 'Actions')], rows, 'There is no backend.');
}

function health(node) {
  if (node.state !== 'active') return tag(node.state);
  return node.up ? tag('up', 'good') : tag('down', 'bad');
}

// The embedded engine counts no requests in flight: it has no nodes to change.
function actions(node, changed) {
  const isEngine = node.state === 'active' && node.in_flight === null;
  if (isEngine || !keys.admin) return [];
  const button = (text, kind, act) => h(kind, { type: 'button', onclick: act, 'aria-label': `${text} ${node.place}` }, text);
  const drain = () => change(`admin/nodes/${node.id}/drain`, 'POST', `${node.place} gets no more requests.`, changed);
  const again = () => change('admin/nodes', 'POST', `${node.place} gets requests.`, changed, { backend: node.backend, url: node.place });
  const remove = async () => {
    const text = 'Its streams end with an error. Requests that have not begun are made at other nodes.';
    if (await confirmed(`Remove ${node.place}?`, text, 'Remove')) await change(`admin/nodes/${node.id}`, 'DELETE', `${node.place} is removed.`, changed);
  };
  if (node.state === 'drained') return [button('Use again', 'button.small', again)];
  const both = [button('Drain', 'button.small', drain), button('Remove', 'button.small.danger', remove)];
  return node.state === 'draining' ? both.slice(1) : both;
}

async function change(path, method, done, changed, body) {
  try {
    await call(path, { method, body });
    toast(done);
  } catch (error) {
    toast(error.message, 'bad');
  }
  changed();
}

function engineTable(engines) {
  const rows = engines.map(engine => h('tr', {},
    h('td.mono', {}, engine.model),
    h('td', {}, engine.up ? tag('runs', 'good') : tag('not loaded')),
    h('td.number', {}, format.whole(engine.running)),
    h('td.number', {}, format.whole(engine.waiting)),
    h('td.number', {}, engine.memory_bytes ? format.bytes(engine.memory_bytes) : '–')));
  return table('Engine processes', ['Model', 'Process', ['Running', 'number'], ['Waiting', 'number'], ['Memory', 'number']], rows, 'There is no embedded model.');
}

function modelTable(models) {
  const rows = models.map(model => h('tr', {},
    h('td.mono', {}, model.id),
    h('td', {}, model.alias_of ? h('span.small.muted', {}, 'alias of ', h('code', {}, model.alias_of)) : h('span', {}, model.owned_by)),
    h('td', {}, model.loaded === true ? tag('loaded', 'good') : model.loaded === false ? tag('not loaded') : h('span.muted', {}, '–')),
    h('td', {}, h('span.tags', {}, (model.capabilities ?? []).map(each => tag(each)))),
    h('td.number', {}, format.whole(model.context_length)),
    h('td.number', {}, model.size ? format.bytes(model.size) : '–'),
    h('td', {}, h('a', { href: `#/playground/${encodeURIComponent(model.id)}` }, 'Try it'))));
  return table('Models', ['Name', 'Backend', 'State', 'Abilities', ['Context', 'number'], ['Size', 'number'], h('span.hidden', {}, 'Actions')], rows,
    ['There is no model. Load one: ', h('code', {}, 'loggia pull smollm2:135m'), ', or put an Ollama server behind Loggia: ', h('code', {}, 'loggia serve --ollama http://127.0.0.1:11434')]);
}
