// The playground: a conversation with a model, with tools, images, sampling and structured output, and the same
// request as code.

import { BASE, call, events, keys, send } from './api.js';
import { copyButton, field, h, problem, put, tabs, tag, write } from './dom.js';
import { LANGUAGES, snippet } from './snippets.js';
import { otherKey } from './stored.js';
import * as format from './format.js';

const LARGEST_IMAGE = 8 << 20;
const IMAGES = ['image/png', 'image/jpeg', 'image/webp', 'image/gif'];

const ABILITIES = [['completion', 'chat'], ['tools', 'tools'], ['vision', 'images'], ['thinking', 'reasoning']];

const EXAMPLE_TOOLS = `[
  {
    "type": "function",
    "function": {
      "name": "get_weather",
      "description": "Returns the weather of a city.",
      "parameters": {
        "type": "object",
        "properties": { "city": { "type": "string" } },
        "required": ["city"],
        "additionalProperties": false
      }
    }
  }
]`;

const EXAMPLE_SCHEMA = `{
  "type": "object",
  "properties": {
    "answer": { "type": "string" },
    "certainty": { "type": "string", "enum": ["low", "medium", "high"] }
  },
  "required": ["answer", "certainty"],
  "additionalProperties": false
}`;

// What was entered stays while other pages are open, and ends with the tab.
const draft = {
  api: 'chat/completions', model: '', system: '', stream: true, ability: '',
  temperature: '', top_p: '', max_tokens: '', seed: '', tools: '', choice: 'auto', format: 'text', schema: EXAMPLE_SCHEMA,
  text: '', images: [], turns: [], language: 'curl',
};

export function open(place, context) {
  const [, asked] = location.hash.replace(/^#\/?/, '').split('/');
  if (asked) draft.model = decodeURIComponent(asked);
  let models = [];
  let running = null;
  let isOpen = true;

  // The settings
  const api = segments('API', [['chat/completions', 'Chat completions'], ['responses', 'Responses']], draft.api, chosen => { draft.api = chosen; seedField.hidden = chosen === 'responses'; changed(); });
  const ability = h('select', { onchange: () => { draft.ability = ability.value; listModels(); } }, h('option', { value: '' }, 'any ability'), ABILITIES.map(([id, name]) => h('option', { value: id, selected: draft.ability === id }, name)));
  const model = h('select', { onchange: () => { draft.model = model.value; changed(); } });
  const modelHint = h('p.hint', {});
  const system = h('textarea', { rows: 3, value: draft.system, placeholder: 'None', oninput: () => { draft.system = system.value; changed(); } });
  const stream = h('input', { type: 'checkbox', checked: draft.stream, onchange: () => { draft.stream = stream.checked; changed(); } });
  const number = (name, min, max, step, placeholder) => {
    const input = h('input', { type: 'number', min, max, step, placeholder, inputmode: 'decimal', value: draft[name], oninput: () => { draft[name] = input.value; changed(); } });
    return input;
  };
  const seedField = field('Seed', number('seed', undefined, undefined, 1, 'random'));
  seedField.hidden = draft.api === 'responses';
  const tools = jsonEditor('tools', 'A list of functions, as in the request’s field tools.', checkTools);
  const choice = h('select', { onchange: () => { draft.choice = choice.value; changed(); } }, ['auto', 'required', 'none'].map(one => h('option', { value: one, selected: draft.choice === one }, one)));
  const schema = jsonEditor('schema', 'A JSON schema. Strict schemas list every property as required, and allow no others.', checkSchema);
  const schemaField = field('Schema', schema.input);
  const form = h('select', { onchange: () => { draft.format = form.value; schemaPart.hidden = draft.format !== 'json_schema'; changed(); } },
    [['text', 'text'], ['json_object', 'any JSON object'], ['json_schema', 'JSON of a schema']].map(([id, name]) => h('option', { value: id, selected: draft.format === id }, name)));
  const schemaPart = h('div.field', { hidden: draft.format !== 'json_schema' }, schemaField, schema.told);

  const settings = h('section.card.settings', { 'aria-label': 'Settings' },
    h('div.field', {}, h('p.label', {}, 'API'), api),
    field('System message', system),
    h('details', { open: isWide() }, h('summary', {}, 'Sampling'), h('div', {},
      h('div.pair', {}, field('Temperature', number('temperature', 0, 2, 0.1, 'default')), field('Top p', number('top_p', 0, 1, 0.05, 'default'))),
      h('div.pair', {}, field('Most tokens', number('max_tokens', 1, undefined, 1, 'no limit')), seedField),
      h('label.check', {}, stream, 'Stream the answer'))),
    h('details', { open: Boolean(draft.tools) }, h('summary', {}, 'Tools'), h('div', {},
      field('Functions', tools.input), tools.told, h('div.actions', {}, h('button.small', { type: 'button', onclick: () => tools.set(EXAMPLE_TOOLS) }, 'Insert an example')), field('Choice', choice))),
    h('details', { open: draft.format !== 'text' }, h('summary', {}, 'Structured output'), h('div', {}, field('Format', form), schemaPart)));

  // The conversation
  const turns = h('div.turns', {});
  const told = h('div');
  const images = h('div.images', {});
  const text = h('textarea', { rows: 3, value: draft.text, placeholder: 'Your message', 'aria-label': 'Message', onpaste: paste, onkeydown: enter, oninput: () => { draft.text = text.value; changed(); } });
  const file = h('input.hidden', { type: 'file', accept: IMAGES.join(','), multiple: true, tabindex: '-1', 'aria-hidden': 'true', onchange: () => { attach([...file.files]); file.value = ''; } });
  const sendButton = h('button.first', { type: 'button', onclick: submit }, 'Send');
  const stop = h('button', { type: 'button', hidden: true, onclick: () => running?.abort() }, 'Stop');
  const clear = h('button.quiet', { type: 'button', onclick: () => { running?.abort(); draft.turns = []; told.replaceChildren(); drawTurns(); changed(); text.focus(); } }, 'New conversation');
  const status = h('p.hidden', { role: 'status' });
  const conversation = h('section.card', { 'aria-label': 'Conversation' },
    h('div.play-head', {}, field('Model', model), field('Ability', ability), modelHint), turns,
    h('div.composer', {}, told, images, text, file,
      h('div.actions', {}, h('button', { type: 'button', onclick: () => file.click() }, 'Add an image'),
        h('div.actions', {}, h('span.small.muted.shortcut', {}, 'Ctrl + Enter sends'), stop, sendButton))), status);

  // The code
  const code = h('pre', { tabindex: '0', 'aria-label': 'The request as code' });
  const codeNote = h('span', {});
  const codeTabs = tabs('Languages', LANGUAGES.map(language => ({ ...language, show: () => { draft.language = language.id; drawCode(); return code; } })), draft.language);
  const snippets = h('section.card.snippet', { 'aria-label': 'The request as code' }, codeTabs.element,
    h('div.snippet-foot', {}, codeNote, copyButton(() => snippet(draft.language, request()))));

  place.append(
    h('div.head', {}, h('h1', {}, 'Playground'), h('div.actions', {}, clear, otherKey(context, load))),
    h('div.play', {}, h('div.play-main', {}, conversation, snippets), h('aside', {}, settings)));
  drawTurns();
  drawImages();
  changed();
  load();
  text.focus({ preventScroll: true });
  return () => { isOpen = false; running?.abort(); };

  async function load() {
    try {
      const listed = await call('v1/models', { key: keys.ofModels });
      models = listed.data;
      // The abilities are on the page of each model.
      models = await Promise.all(models.slice(0, 100).map(one => call(`v1/models/${encodeURIComponent(one.id)}`, { key: keys.ofModels }).catch(() => one)));
      if (isOpen) listModels();
    } catch (error) {
      if (isOpen) put(told, problem(error.status === 403 && !keys.other ? { title: 'Your key may not use models. ', message: `${error.message} Or enter one above: “Use another key”.` } : error));
    }
  }

  function listModels() {
    const can = one => !one.capabilities?.length || one.capabilities.includes(draft.ability || 'completion');
    const fitting = models.filter(can);
    put(model, ...fitting.map(one => h('option', { value: one.id, selected: one.id === draft.model }, one.id)));
    if (!fitting.some(one => one.id === draft.model)) draft.model = fitting[0]?.id ?? '';
    const chosen = fitting.find(one => one.id === draft.model);
    put(modelHint, ...(chosen
      ? [h('span.tags', {}, (chosen.capabilities ?? []).map(each => tag(each)), chosen.context_length && tag(`${format.whole(chosen.context_length)} tokens`))]
      : [models.length ? 'No model has this ability.' : 'There is no model.']));
    changed();
  }

  // A text of JSON with its mistake below.
  function jsonEditor(name, hint, check) {
    const told = h('p.hint', { 'aria-live': 'polite' }, hint);
    const input = h('textarea.code', { rows: 7, spellcheck: 'false', autocapitalize: 'off', value: draft[name], oninput: () => set(input.value) });
    const editor = { input, told, set, mistake: () => mistakeOf(draft[name], check) };
    return editor;

    function set(text) {
      if (input.value !== text) input.value = text;
      draft[name] = text;
      const mistake = editor.mistake();
      write(told, mistake ?? hint);
      told.classList.toggle('bad', Boolean(mistake));
      input.setAttribute('aria-invalid', String(Boolean(mistake)));
      changed();
    }
  }

  // The request that the settings and the conversation make. What has a mistake is left out.
  function body() {
    const isChat = draft.api === 'chat/completions';
    const made = { model: draft.model };
    const added = draft.text.trim() || draft.images.length ? [{ role: 'user', text: draft.text.trim(), images: draft.images }] : [];
    const all = [...draft.turns.filter(turn => !turn.failed), ...added];
    if (isChat) {
      made.messages = [...(draft.system ? [{ role: 'system', content: draft.system }] : []), ...all.flatMap(chatMessages)];
      if (!made.messages.length) made.messages = [{ role: 'user', content: 'Hello!' }];
    } else {
      if (draft.system) made.instructions = draft.system;
      made.input = all.flatMap(responseItems);
      if (!made.input.length) made.input = 'Hello!';
    }
    for (const [name, as] of [['temperature', 'temperature'], ['top_p', 'top_p'], ['max_tokens', isChat ? 'max_tokens' : 'max_output_tokens'], ['seed', isChat && 'seed']]) {
      if (as && draft[name] !== '' && Number.isFinite(Number(draft[name]))) made[as] = Number(draft[name]);
    }
    if (draft.tools.trim() && !mistakeOf(draft.tools, checkTools)) {
      const functions = JSON.parse(draft.tools);
      made.tools = isChat ? functions : functions.map(one => ({ type: 'function', ...one.function }));
      if (draft.choice !== 'auto') made.tool_choice = draft.choice;
    }
    if (draft.format === 'json_object') Object.assign(made, isChat ? { response_format: { type: 'json_object' } } : { text: { format: { type: 'json_object' } } });
    if (draft.format === 'json_schema' && !mistakeOf(draft.schema, checkSchema)) {
      const named = { name: 'answer', schema: JSON.parse(draft.schema), strict: true };
      Object.assign(made, isChat ? { response_format: { type: 'json_schema', json_schema: named } } : { text: { format: { type: 'json_schema', ...named } } });
    }
    if (draft.stream) made.stream = true;
    if (draft.stream && isChat) made.stream_options = { include_usage: true };
    return made;
  }

  function request() {
    return { base: BASE, path: draft.api, body: body(), needsKey: Boolean(keys.ofModels) };
  }

  function changed() {
    drawCode();
    sendButton.disabled = !draft.model;
  }

  function drawCode() {
    // An image is thousands of letters: the page shows its beginning, and a copy has all of it.
    const whole = snippet(draft.language, request());
    const shown = whole.replace(/(data:image\/\w+;base64,.{40})[^"']*/g, '$1…');
    write(code, shown);
    write(codeNote, [shown !== whole && 'Images are shortened here; a copy has all of them.', keys.ofModels && 'The key is read from LOGGIA_API_KEY.'].filter(Boolean).join(' '));
  }

  // Images
  function paste(event) {
    const pasted = [...event.clipboardData.files].filter(one => IMAGES.includes(one.type));
    if (!pasted.length) return;
    event.preventDefault();
    attach(pasted);
  }

  async function attach(files) {
    for (const one of files) {
      if (!IMAGES.includes(one.type)) put(told, problem({ message: `${one.name} is not a PNG, JPEG, WebP or GIF.` }));
      else if (one.size > LARGEST_IMAGE) put(told, problem({ message: `${one.name} is larger than ${format.bytes(LARGEST_IMAGE)}.` }));
      else draft.images.push({ name: one.name, url: await dataUrl(one) });
    }
    drawImages();
    changed();
  }

  function drawImages() {
    put(images, ...draft.images.map((image, at) => h('span', {}, h('img', { src: image.url, alt: image.name || 'The image' }),
      h('button', { type: 'button', 'aria-label': `Remove ${image.name || 'the image'}`, onclick: () => { draft.images.splice(at, 1); drawImages(); changed(); } }, '×'))));
  }

  function enter(event) {
    if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) { event.preventDefault(); submit(); }
  }

  // Sends what is written, or goes on after the results of tools.
  async function submit() {
    if (running || !draft.model) return;
    const mistake = draft.tools.trim() && tools.mistake() ? ['tools', tools] : draft.format === 'json_schema' && schema.mistake() ? ['schema', schema] : null;
    if (mistake) {
      mistake[1].input.closest('details').open = true;
      mistake[1].input.focus();
      put(told, problem({ title: `The ${mistake[0]} cannot be sent. `, message: mistake[1].mistake() }));
      return;
    }
    const added = draft.text.trim() || draft.images.length;
    if (!added && draft.turns.at(-1)?.role !== 'tool') { text.focus(); return; }
    told.replaceChildren();
    const asked = body();
    if (added) draft.turns.push({ role: 'user', text: draft.text.trim(), images: draft.images });
    [draft.text, draft.images, text.value] = ['', [], ''];
    drawImages();
    const turn = { role: 'assistant', text: '', reasoning: '', calls: [], isWriting: true };
    draft.turns.push(turn);
    drawTurns();
    running = new AbortController();
    stop.hidden = false;
    sendButton.hidden = true;
    write(status, 'The model answers.');
    const begun = performance.now();
    const watch = { begun, first: null, last: null, pieces: 0 };
    try {
      const response = await send(`v1/${draft.api}`, { method: 'POST', body: asked, key: keys.ofModels, signal: running.signal });
      turn.servedBy = response.headers.get('x-loggia-served-by');
      turn.ignored = response.headers.get('x-loggia-ignored');
      turn.requestId = response.headers.get('x-request-id');
      const read = asked.messages ? readChat : readResponse;
      if (asked.stream) for await (const event of events(response)) { read(turn, event, watch); redraw(turn); }
      else read(turn, await response.json(), watch);
    } catch (error) {
      if (error.name === 'AbortError') turn.stopped = true;
      else turn.problem = error;
      turn.failed = !turn.text && !turn.calls.length;
    }
    turn.isWriting = false;
    turn.figures = figures(turn, watch, performance.now());
    running = null;
    stop.hidden = true;
    sendButton.hidden = false;
    write(status, turn.problem ? 'The answer failed.' : 'The answer is complete.');
    drawTurns();
    changed();
    if (isOpen) text.focus({ preventScroll: true });
  }

  function drawTurns() {
    put(turns, ...(draft.turns.length ? draft.turns.map(drawTurn) : [h('div.empty-state', {}, h('h2', {}, 'Nothing said yet'), h('p', {}, 'Write a message below. The code under it is the same request.'))]));
  }

  function redraw(turn) {
    const parts = turn.parts;
    if (!parts?.said.isConnected) return;
    write(parts.said, turn.text);
    if (turn.reasoning) { parts.thinking.hidden = false; write(parts.thought, turn.reasoning); }
    if (turn.calls.length) put(parts.calls, ...turn.calls.map(one => drawCall(one)));
  }

  function drawTurn(turn, at) {
    if (turn.role === 'tool') return h('div.turn', {}, h('div.turn-head', {}, h('strong', {}, 'tool'), h('code', {}, turn.name)), h('div.said', {}, turn.text));
    const remove = h('button.quiet.small', { type: 'button', 'aria-label': `Remove this and what follows it`, onclick: () => { draft.turns.splice(at); drawTurns(); changed(); } }, 'Remove');
    if (turn.role === 'user') {
      return h('div.turn', {}, h('div.turn-head', {}, h('strong', {}, 'user'), remove), h('div.said', {}, turn.text), turn.images.length ? h('div.images', {}, turn.images.map(image => h('img', { src: image.url, alt: image.name || 'An image' }))) : null);
    }
    const said = h('div.said', {}, turn.text);
    const thought = h('div.said', {}, turn.reasoning);
    const thinking = h('details.thinking', { hidden: !turn.reasoning, open: turn.isWriting }, h('summary', {}, 'Reasoning'), thought);
    const calls = h('div.page', {}, turn.calls.map(one => drawCall(one, turn)));
    turn.parts = { said, thought, thinking, calls };
    return h(`div.turn.assistant${turn.isWriting ? '.writing' : ''}`, { 'aria-busy': String(turn.isWriting) },
      h('div.turn-head', {}, h('strong', {}, 'assistant'), turn.stopped && tag('stopped', 'warn'), turn.reason && turn.reason !== 'stop' && turn.reason !== 'completed' && tag(turn.reason.replaceAll('_', ' '), turn.reason === 'length' || turn.reason === 'incomplete' ? 'warn' : undefined), !turn.isWriting && remove),
      thinking, said, turn.calls.length ? calls : (turn.isWriting ? calls : null),
      turn.problem && problem({ title: turn.problem.code ? `${turn.problem.code}: ` : '', message: turn.problem.message }),
      turn.figures && h('dl.figures', {}, turn.figures.map(([name, value]) => h('div', {}, h('dt', {}, name), h('dd', {}, value)))));
  }

  // A call, with a place for its result while it has none.
  function drawCall(one, turn) {
    const results = turn && !turn.isWriting && draft.turns.indexOf(turn) >= 0 && !draft.turns.some(each => each.role === 'tool' && each.id === one.id);
    const input = h('textarea.code', { rows: 2, placeholder: '{"temperature": 21}', 'aria-label': `Result of ${one.name}` });
    const answer = h('button.small', { type: 'button', onclick: give }, 'Give this result');
    return h('div.call', {}, h('div', {}, tag('call', 'accent'), h('code', {}, one.name)), h('pre', {}, pretty(one.arguments)),
      results && h('div.answer', {}, input, h('div.actions', {}, answer)));

    function give() {
      const at = draft.turns.indexOf(turn);
      const after = draft.turns.slice(at + 1).filter(each => each.role === 'tool').length;
      draft.turns.splice(at + 1 + after, 0, { role: 'tool', id: one.id, name: one.name, text: input.value || '{}' });
      drawTurns();
      changed();
      const open = turn.calls.filter(each => !draft.turns.some(result => result.role === 'tool' && result.id === each.id));
      if (!open.length) submit();
    }
  }
}

function isWide() { return matchMedia('(min-width: 981px)').matches; }

function segments(label, entries, chosen, onchange) {
  const buttons = entries.map(([id, name]) => h('button', { type: 'button', 'aria-pressed': String(id === chosen), onclick: () => choose(id) }, name));
  return h('div.segments', { role: 'group', 'aria-label': label }, buttons);
  function choose(id) {
    buttons.forEach((button, at) => button.setAttribute('aria-pressed', String(entries[at][0] === id)));
    onchange(id);
  }
}

function mistakeOf(text, check) {
  if (!text.trim()) return null;
  try {
    return check(JSON.parse(text));
  } catch (error) {
    return `This is not JSON: ${error.message}`;
  }
}

function checkTools(tools) {
  if (!Array.isArray(tools)) return 'This is not a list: begin with [ and end with ].';
  for (const [at, one] of tools.entries()) {
    if (one?.type !== 'function') return `Tool ${at + 1} has no "type": "function".`;
    if (!/^[\w-]{1,64}$/.test(one.function?.name ?? '')) return `Tool ${at + 1} needs a name of letters, digits, _ and -, at most 64.`;
    if (one.function.parameters !== undefined && (typeof one.function.parameters !== 'object' || Array.isArray(one.function.parameters))) return `The parameters of tool ${at + 1} are not a JSON schema.`;
  }
  return null;
}

function checkSchema(schema) {
  return schema && typeof schema === 'object' && !Array.isArray(schema) ? null : 'A schema is an object: begin with { and end with }.';
}

function dataUrl(file) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(file);
  });
}

function pretty(text) {
  try { return JSON.stringify(JSON.parse(text), null, 2); } catch { return text; }
}

function chatMessages(turn) {
  if (turn.role === 'user') {
    return [{ role: 'user', content: turn.images.length ? [...(turn.text ? [{ type: 'text', text: turn.text }] : []), ...turn.images.map(image => ({ type: 'image_url', image_url: { url: image.url } }))] : turn.text }];
  }
  if (turn.role === 'tool') return [{ role: 'tool', tool_call_id: turn.id, content: turn.text }];
  return [{ role: 'assistant', content: turn.text || null, ...(turn.calls.length ? { tool_calls: turn.calls.map(one => ({ id: one.id, type: 'function', function: { name: one.name, arguments: one.arguments } })) } : {}) }];
}

function responseItems(turn) {
  if (turn.role === 'user') {
    return [{ role: 'user', content: turn.images.length ? [...(turn.text ? [{ type: 'input_text', text: turn.text }] : []), ...turn.images.map(image => ({ type: 'input_image', image_url: image.url, detail: 'auto' }))] : turn.text }];
  }
  if (turn.role === 'tool') return [{ type: 'function_call_output', call_id: turn.id, output: turn.text }];
  return [...(turn.text ? [{ role: 'assistant', content: turn.text }] : []), ...turn.calls.map(one => ({ type: 'function_call', call_id: one.id, name: one.name, arguments: one.arguments }))];
}

// A chunk of a stream, or a whole chat completion.
function readChat(turn, event, watch) {
  if (event.error) throw Object.assign(new Error(event.error.message), { code: event.error.code });
  if (event.usage) turn.usage = { prompt: event.usage.prompt_tokens, answer: event.usage.completion_tokens, cached: event.usage.prompt_tokens_details?.cached_tokens };
  for (const choice of event.choices ?? []) {
    const said = choice.delta ?? choice.message ?? {};
    const reasoning = said.reasoning_content ?? said.reasoning ?? '';
    if (said.content || reasoning || said.tool_calls) piece(watch);
    turn.text += said.content ?? said.refusal ?? '';
    turn.reasoning += reasoning;
    for (const [at, one] of (said.tool_calls ?? []).entries()) {
      const known = turn.calls[one.index ?? at] ??= { id: one.id, name: '', arguments: '' };
      known.name += one.function?.name ?? '';
      known.arguments += one.function?.arguments ?? '';
    }
    if (choice.finish_reason) turn.reason = choice.finish_reason;
  }
}

// An event of a response's stream, or a whole response.
function readResponse(turn, event, watch) {
  if (event.object === 'response') return finish(turn, event, true);
  switch (event.type) {
    case 'response.output_text.delta': piece(watch); turn.text += event.delta; break;
    case 'response.refusal.delta': piece(watch); turn.text += event.delta; break;
    case 'response.reasoning_text.delta':
    case 'response.reasoning_summary_text.delta': piece(watch); turn.reasoning += event.delta; break;
    case 'response.output_item.added':
      if (event.item.type === 'function_call') turn.calls.push({ item: event.item.id, id: event.item.call_id, name: event.item.name, arguments: '' });
      break;
    case 'response.function_call_arguments.delta':
      piece(watch);
      for (const one of turn.calls) if (one.item === event.item_id) one.arguments += event.delta;
      break;
    case 'response.completed':
    case 'response.incomplete': finish(turn, event.response, false); break;
    case 'response.failed': throw Object.assign(new Error(event.response.error?.message ?? 'The response failed.'), { code: event.response.error?.code });
    case 'error': throw Object.assign(new Error(event.message), { code: event.code });
    default:
  }
}

function finish(turn, response, isWhole) {
  turn.reason = response.status;
  if (response.usage) turn.usage = { prompt: response.usage.input_tokens, answer: response.usage.output_tokens, cached: response.usage.input_tokens_details?.cached_tokens };
  if (!isWhole) return;
  for (const item of response.output) {
    if (item.type === 'message') turn.text += item.content.map(part => part.text ?? part.refusal ?? '').join('');
    if (item.type === 'function_call') turn.calls.push({ id: item.call_id, name: item.name, arguments: item.arguments });
    if (item.type === 'reasoning') turn.reasoning += [...(item.summary ?? []), ...(item.content ?? [])].map(part => part.text ?? '').join('\n');
  }
}

function piece(watch) {
  watch.last = performance.now();
  watch.first ??= watch.last;
  watch.pieces += 1;
}

function figures(turn, watch, now) {
  const shown = [];
  if (watch.pieces > 1) shown.push(['First token', format.span(watch.first - watch.begun)]);
  const answer = turn.usage?.answer ?? (watch.pieces > 1 ? watch.pieces : undefined);
  const writing = watch.pieces > 1 ? (watch.last - watch.first) / 1000 : 0;
  if (answer > 1 && writing > 0.001) shown.push(['Speed', `${format.rate((answer - 1) / writing)} tokens/s`]);
  shown.push(['Total', format.span(now - watch.begun)]);
  if (turn.usage) shown.push(['Prompt', `${format.whole(turn.usage.prompt)} tokens${turn.usage.cached ? `, ${format.whole(turn.usage.cached)} cached` : ''}`], ['Answer', `${format.whole(turn.usage.answer)} tokens`]);
  if (turn.servedBy) shown.push(['Served by', turn.servedBy]);
  if (turn.ignored) shown.push(['Ignored', turn.ignored]);
  return shown;
}
