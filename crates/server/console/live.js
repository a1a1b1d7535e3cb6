// The page of what runs now: running requests, figures of the last minutes as plots, the last requests that ended.

import { call } from './api.js';
import { h, problem, put, table, tag, write } from './dom.js';
import { linePlot } from './plot.js';
import * as format from './format.js';

const EVERY = 1000;
const KEPT = 600;
const MOST_ENDED = 100;
const FEW_ENDED = 12;
const PHASES = { waiting: ['waiting', 'warn'], reading: ['reading', 'accent'], writing: ['writing', 'good'] };

// What was fetched stays while other pages are open.
let seconds = [];
let ended = [];
let span = 300;
let isPaused = false;
let isLong = false;

export function open(place, context) {
  const tiles = Object.fromEntries([
    ['running', 'Running now'], ['tokens', 'Tokens a second'], ['first', 'First token, median'], ['requests', 'Requests a minute'], ['failed', 'Failed, last 5 min'],
  ].map(([id, name]) => [id, { name, value: h('dd', {}, '–'), more: h('dd.more', {}) }]));
  const tokens = linePlot({ title: 'Tokens', unit: 'a second', show: format.short, least: 10, series: [{ name: 'answers', color: 1, area: true, of: one => one.tokens }, { name: 'prompts', color: 2, of: one => one.prompt_tokens }] });
  const first = linePlot({ title: 'Time to the first token', unit: 'of streams', show: format.span, least: 100, series: latencies('first_token_ms') });
  const duration = linePlot({ title: 'Duration', unit: 'of requests', show: format.span, least: 100, series: latencies('duration_ms') });
  const requests = linePlot({ title: 'Requests', unit: 'running, and ended a second', show: format.few, least: 4, series: [{ name: 'running', color: 1, area: true, of: one => one.running }, { name: 'ended', color: 2, of: one => one.requests }, { name: 'failed', color: 4, of: one => one.failed }] });
  const runningCard = h('div');
  const endedCard = h('div');
  const runningCount = h('span.count', {});
  const spans = [1, 5, 10].map(minutes => h('button', { type: 'button', 'aria-pressed': String(span === minutes * 60), onclick: () => choose(minutes * 60) }, `${minutes} min`));
  const pause = h('button', { type: 'button', onclick: () => { isPaused = !isPaused; showPause(); if (!isPaused) poll(); } });
  const endedMore = h('div.card-foot', {}, h('button.quiet', { type: 'button', onclick: () => { isLong = !isLong; showEnded(); } }));
  const told = h('div');
  place.append(
    h('div.head', {}, h('h1', {}, 'Live'), h('div.actions', {}, h('div.segments', { role: 'group', 'aria-label': 'Time that the plots show' }, spans), pause)),
    told,
    h('dl.tiles', {}, Object.values(tiles).map(tile => h('div.tile', {}, h('dt', {}, tile.name), tile.value, tile.more))),
    h('div.grid-2', {}, [tokens, first, requests, duration].map(plot => h('div.card', {}, plot.element))),
    h('section.card', { 'aria-label': 'Running requests' }, h('div.card-head', {}, h('h2', {}, 'Running ', runningCount)), runningCard),
    h('section.card', { 'aria-label': 'Requests that ended' }, h('div.card-head', {}, h('h2', {}, 'Ended'), h('span.small.muted', {}, 'newest first')), endedCard, endedMore));
  showPause();
  let timer = null;
  let isOpen = true;
  let isAsking = false;
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

  function showPause() {
    write(pause, isPaused ? 'Resume' : 'Pause');
    if (isPaused) context.connected('', 'Paused');
  }

  function choose(chosen) {
    span = chosen;
    spans.forEach((button, at) => button.setAttribute('aria-pressed', String([60, 300, 600][at] === span)));
    draw(seconds.at(-1)?.at ?? 0);
  }

  async function poll() {
    clearTimeout(timer);
    if (!isOpen || isPaused || document.hidden || isAsking) return;
    isAsking = true;
    try {
      const last = seconds.at(-1)?.at;
      const state = await call(`admin/live${last ? `?after=${last}` : ''}`);
      if (!isOpen) return;
      take(state, last);
      show(state);
      told.replaceChildren();
      context.connected('live', 'Live');
    } catch (error) {
      if (!isOpen) return;
      if (error.status === 401 || error.status === 403) return context.signIn(error);
      context.connected('lost', 'No answer');
      put(told, problem({ title: 'These figures are old. ', message: error.message }));
    } finally {
      isAsking = false;
    }
    timer = setTimeout(poll, EVERY);
  }

  function take(state, last) {
    // A server that started anew, or whose clock was set, begins anew here, too.
    if (last && state.now < last - 5) [seconds, ended] = [[], []];
    seconds = [...seconds, ...state.seconds.filter(one => one.at > (seconds.at(-1)?.at ?? -Infinity))].slice(-KEPT);
    const known = new Set(ended.map(nameOf));
    ended = [...state.ended.filter(one => !known.has(nameOf(one))), ...ended].slice(0, MOST_ENDED);
  }

  function show(state) {
    const [ten, minute, five] = [10, 60, 300].map(time => seconds.filter(one => one.at > state.now - time));
    const sum = (all, of) => all.reduce((total, one) => total + of(one), 0);
    const streams = state.running.filter(one => one.stream).length;
    write(tiles.running.value, format.whole(state.running_count));
    write(tiles.running.more, state.running_count ? `${format.whole(streams)} of them streams` : 'no request runs');
    write(tiles.tokens.value, format.rate(sum(ten, one => one.tokens) / Math.max(1, ten.length)));
    write(tiles.tokens.more, 'mean of 10 s');
    const latest = [...minute].reverse().find(one => one.first_token_ms);
    write(tiles.first.value, format.span(latest?.first_token_ms[0]));
    write(tiles.first.more, latest ? `95 % below ${format.span(latest.first_token_ms[1])}` : 'no stream in the last minute');
    write(tiles.requests.value, format.whole(sum(minute, one => one.requests)));
    write(tiles.requests.more, `${format.short(sum(minute, one => one.prompt_tokens))} tokens in prompts`);
    const failed = sum(five, one => one.failed);
    write(tiles.failed.value, format.whole(failed));
    tiles.failed.value.classList.toggle('bad', failed > 0);
    write(tiles.failed.more, `${format.whole(sum(five, one => one.abandoned))} clients left`);
    draw(seconds.at(-1)?.at ?? state.now);
    write(runningCount, state.running_count > state.running.length ? `– the oldest ${state.running.length} of ${format.whole(state.running_count)}` : '');
    keepScroll(runningCard, () => running(state.running));
    showEnded();
  }

  function showEnded() {
    keepScroll(endedCard, () => endedTable(isLong ? ended : ended.slice(0, FEW_ENDED)));
    endedMore.hidden = ended.length <= FEW_ENDED;
    write(endedMore.firstElementChild, isLong ? 'Show fewer' : `Show all ${ended.length}`);
  }

  function draw(now) {
    for (const plot of [tokens, first, requests, duration]) plot.update(seconds, span, now);
  }
}

const latencies = field => [
  { name: 'median', color: 2, of: one => (one[field] ? one[field][0] : null) },
  { name: '95 %', color: 3, of: one => (one[field] ? one[field][1] : null) },
];

const nameOf = one => `${one.id} ${one.ended_at} ${one.ms} ${one.route}`;

// Draws a table again without moving what the reader sees, or taking the focus away.
function keepScroll(card, draw) {
  const before = card.firstElementChild;
  const left = before?.scrollLeft ?? 0;
  const isFocused = before && before === document.activeElement;
  put(card, draw());
  card.firstElementChild.scrollLeft = left;
  if (isFocused) card.firstElementChild.focus({ preventScroll: true });
}

function running(requests) {
  const rows = requests.map(one => {
    const [phase, kind] = PHASES[one.phase] ?? [one.phase];
    const writing = one.first_token_ms === null ? 0 : (one.ms - one.first_token_ms) / 1000;
    return h('tr', {},
      h('td', {}, h(`span.tag.pulse.${kind}`, {}, phase)),
      h('td.mono', {}, one.model ?? '–'),
      h('td', {}, one.key ?? h('span.muted', {}, 'no key')),
      h('td', {}, h('code', {}, one.route), ' ', kinds(one)),
      h('td', {}, at(one)),
      h('td.number', {}, format.span(one.ms)),
      h('td.number', {}, format.span(one.first_token_ms)),
      h('td.number', {}, format.whole(one.tokens)),
      h('td.number', {}, writing > 0.2 ? format.rate(one.tokens / writing) : '–'));
  });
  return table('Running requests', ['Phase', 'Model', 'Key', 'Route', 'Backend', ['Age', 'number'], ['First token', 'number'], ['Tokens', 'number'], ['Tokens/s', 'number']], rows,
    ['No request runs. Send one, for example from the ', h('a', { href: '#/playground' }, 'playground'), '.']);
}

function endedTable(ended) {
  const rows = ended.map(one => h('tr', {},
    h('td', { title: one.id ?? '' }, format.clock(one.ended_at)),
    h('td', {}, outcome(one)),
    h('td.mono', {}, one.model ?? '–'),
    h('td', {}, one.key ?? h('span.muted', {}, 'no key')),
    h('td', {}, h('code', {}, one.route), ' ', kinds(one)),
    h('td', {}, at(one)),
    h('td.number', {}, format.span(one.ms)),
    h('td.number', {}, format.span(one.first_token_ms)),
    h('td.number', {}, format.whole(one.prompt_tokens)),
    h('td.number', {}, format.whole(one.completion_tokens))));
  return table('Requests that ended', ['Time', 'Result', 'Model', 'Key', 'Route', 'Backend', ['Duration', 'number'], ['First token', 'number'], ['Prompt', 'number'], ['Answer', 'number']], rows,
    'No request has ended since this page was opened or the server started.');
}

function outcome(one) {
  if (one.outcome === 'abandoned') return tag('client left', 'warn');
  if (one.outcome === 'failed') return h('span.tags', {}, tag(String(one.status ?? '–'), 'bad'), one.error && tag(one.error, 'bad'));
  return tag(String(one.status ?? 'ok'), 'good');
}

function kinds(one) {
  return [one.stream && tag('stream'), ' ', one.batch && tag('batch'), ' ', one.background && tag('background')];
}

function at(one) {
  if (!one.backend) return '–';
  return one.node ? `${one.backend} · ${one.node}` : one.backend;
}
