// Builds the page's elements. Text is always text: nothing here makes HTML of a string.

const SVG = 'http://www.w3.org/2000/svg';

// An element: its tag with classes ('p.note'), its properties, its children.
export function h(tag, properties, ...children) {
  const [name, ...classes] = tag.split('.');
  return fill(document.createElement(name), classes, properties, children);
}

// The same for a drawing.
export function s(tag, properties, ...children) {
  const [name, ...classes] = tag.split('.');
  return fill(document.createElementNS(SVG, name), classes, properties, children);
}

function fill(element, classes, properties, children) {
  if (classes.length) element.classList.add(...classes);
  for (const [name, value] of Object.entries(properties ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith('on')) element.addEventListener(name.slice(2), value);
    else if (name === 'value' || name === 'checked' || name === 'selected') element[name] = value;
    else element.setAttribute(name, value === true ? '' : value);
  }
  element.append(...children.flat(Infinity).filter(child => child !== null && child !== undefined && child !== false));
  return element;
}

// Replaces what an element holds.
export function put(element, ...children) {
  element.replaceChildren();
  return fill(element, [], {}, children);
}

// Writes a text only where it has changed, so that a screen reader and a selection are left alone.
export function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

let labels = 0;

// A field with its label, and a hint below.
export function field(label, input, hint) {
  const id = `field-${++labels}`;
  input.id = id;
  const described = hint ? `${id}-hint` : undefined;
  if (described) input.setAttribute('aria-describedby', described);
  return h('div.field', {}, h('label', { for: id }, label), input, hint && h('p.hint', { id: described }, hint));
}

// A table that can be scrolled sideways by keyboard, too.
export function table(caption, columns, rows, empty) {
  const body = h('tbody', {}, rows);
  if (!rows.length) body.append(h('tr', {}, h('td.empty', { colspan: columns.length }, empty)));
  return h('div.table', { tabindex: '0', role: 'region', 'aria-label': caption },
    h('table', {}, h('caption.hidden', {}, caption),
      h('thead', {}, h('tr', {}, columns.map(column => {
        const [name, kind] = Array.isArray(column) ? column : [column];
        return h(kind ? `th.${kind}` : 'th', { scope: 'col' }, name);
      }))),
      body));
}

export function tag(text, kind) {
  return h(kind ? `span.tag.${kind}` : 'span.tag', {}, text);
}

// Tells something in a corner for some seconds.
export function toast(text, kind = 'good') {
  const shown = h(`div.toast.${kind}`, {}, text);
  document.getElementById('toasts').append(shown);
  setTimeout(() => shown.remove(), 6000);
}

export function problem(error) {
  return h('div.problem', { role: 'alert' }, h('strong', {}, error.title ?? 'That did not work. '), h('span', {}, error.message));
}

export function copyButton(text, name = 'Copy') {
  const button = h('button.quiet.small', { type: 'button', onclick: copy }, name);
  return button;
  async function copy() {
    const copied = await toClipboard(typeof text === 'function' ? text() : text);
    button.textContent = copied ? 'Copied' : 'Select and copy it';
    setTimeout(() => { button.textContent = name; }, 2000);
  }
}

async function toClipboard(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    // Without HTTPS, and not on this machine, browsers have no clipboard for pages.
    const area = h('textarea.hidden', { value: text, 'aria-hidden': 'true' });
    document.body.append(area);
    area.select();
    const copied = document.execCommand('copy');
    area.remove();
    return copied;
  }
}

// A row of tabs, operated by the arrow keys, and the panel of the chosen one.
export function tabs(label, entries, chosen = entries[0].id, onchange = () => {}) {
  const panel = h('div.panel', { role: 'tabpanel', tabindex: '0' });
  const buttons = entries.map(entry => h('button', { type: 'button', role: 'tab', id: `tab-${++labels}`, onclick: () => choose(entry.id) }, entry.name));
  const list = h('div.tabs', { role: 'tablist', 'aria-label': label, onkeydown: move }, buttons);
  choose(chosen, true);
  return { element: h('div', {}, list, panel), choose, list, panel };

  function choose(id, isFirst) {
    entries.forEach((entry, at) => {
      const is = entry.id === id;
      buttons[at].setAttribute('aria-selected', String(is));
      buttons[at].tabIndex = is ? 0 : -1;
      if (is) {
        panel.setAttribute('aria-labelledby', buttons[at].id);
        put(panel, entry.show());
      }
    });
    if (!isFirst) onchange(id);
  }

  function move(event) {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    const at = buttons.indexOf(document.activeElement);
    const next = (at + step + buttons.length) % buttons.length;
    buttons[next].focus();
    choose(entries[next].id);
    event.preventDefault();
  }
}

// Asks before something that cannot be undone.
export function confirmed(title, text, action) {
  return new Promise(resolve => {
    const dialog = h('dialog', { 'aria-label': title, onclose: () => { dialog.remove(); resolve(dialog.returnValue === 'yes'); } },
      h('h2', {}, title), h('p', {}, text),
      h('div.actions', {},
        h('button', { type: 'button', onclick: () => dialog.close('no') }, 'Cancel'),
        h('button.danger', { type: 'button', onclick: () => dialog.close('yes') }, action)));
    document.body.append(dialog);
    dialog.showModal();
  });
}
