// The frame of the console: signing in, which page is shown, the theme.

import { call, keys } from './api.js';
import { field, h, problem, put, write } from './dom.js';
import * as live from './live.js';
import * as models from './models.js';
import * as keysPage from './keys.js';
import * as stored from './stored.js';
import * as playground from './playground.js';

const PAGES = [
  { path: 'live', name: 'Live', open: live.open },
  { path: 'models', name: 'Models', open: models.open },
  { path: 'keys', name: 'Keys', open: keysPage.open },
  { path: 'stored', name: 'Stored', open: stored.open },
  { path: 'playground', name: 'Playground', open: playground.open },
];

const main = document.getElementById('main');
const nav = document.getElementById('nav');
const signOut = document.getElementById('sign-out');
const themeButton = document.getElementById('theme');
const connection = document.getElementById('connection');

let server = null;
let close = () => {};

// The theme: that of the system, until the switch says otherwise.
const THEMES = ['system', 'light', 'dark'];
let theme = localStorage.getItem('loggia-theme');
if (!THEMES.includes(theme)) theme = 'system';
showTheme();
themeButton.addEventListener('click', () => {
  theme = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length];
  localStorage.setItem('loggia-theme', theme);
  showTheme();
});

function showTheme() {
  if (theme === 'system') document.documentElement.removeAttribute('data-theme');
  else document.documentElement.dataset.theme = theme;
  const shown = { system: '◐', light: '☀', dark: '☾' }[theme];
  write(themeButton, shown);
  themeButton.setAttribute('aria-label', `Theme: ${theme}. Change it`);
  themeButton.title = `Theme: ${theme}`;
}

signOut.addEventListener('click', () => {
  keys.admin = '';
  keys.other = '';
  server = null;
  begin();
});

addEventListener('hashchange', show);
begin();

async function begin() {
  try {
    // Asked first, so that no request fails only to find out.
    const { needs_key: needsKey } = await call('console/session');
    if (needsKey && !keys.admin) return askForKey(null);
    server = await call('admin/server');
    nav.hidden = false;
    signOut.hidden = !keys.admin;
    show();
  } catch (error) {
    askForKey(error);
  }
}

function show() {
  if (!server) return;
  close();
  close = () => {};
  connected('');
  const path = location.hash.replace(/^#\/?/, '').split('/')[0] || 'live';
  const page = PAGES.find(one => one.path === path) ?? PAGES[0];
  put(nav, ...PAGES.map(one => h('a', { href: `#/${one.path}`, 'aria-current': one === page && 'page' }, one.name)));
  nav.querySelector('[aria-current]').scrollIntoView({ block: 'nearest', inline: 'center' });
  document.title = `${page.name} – Loggia console`;
  const place = h('div.page');
  put(main, place);
  const context = { server, connected, signIn: error => { server = null; askForKey(error); } };
  close = page.open(place, context) ?? close;
  scrollTo(0, 0);
}

// What the corner of the bar says about the server.
function connected(state, text = '') {
  connection.className = `connection ${state}`;
  write(connection, text);
}

function askForKey(error) {
  close();
  close = () => {};
  nav.hidden = true;
  signOut.hidden = true;
  connected('');
  document.title = 'Sign in – Loggia console';
  const input = h('input', { type: 'password', name: 'key', autocomplete: 'off', spellcheck: 'false', required: true, placeholder: 'sk-loggia-…' });
  const told = h('div', {}, error && problem(named(error)));
  const button = h('button.first', { type: 'submit' }, 'Sign in');
  const form = h('form', { onsubmit: enter }, h('div.card-body', {},
    h('img', { src: 'console/icon.svg', alt: '' }),
    h('div', {}, h('h1', {}, 'Loggia console'), h('p.muted', {}, 'Enter an API key that has the scope ', h('code', {}, 'admin'), '.')),
    told,
    field('API key', input, 'It stays in this tab until you close it, and is sent to this server only.'),
    h('div.actions', {}, button),
    h('details', {}, h('summary.small.muted', {}, 'I have no such key'),
      h('p.small', {}, 'Create one on the machine that runs Loggia, with the same settings as the server:'),
      h('p', {}, h('code', {}, 'loggia keys create ops --scope admin --scope chat --scope files')))));
  put(main, h('section.sign-in', {}, h('div.card', {}, form)));
  input.focus();

  async function enter(event) {
    event.preventDefault();
    keys.admin = input.value.trim();
    button.disabled = true;
    try {
      server = await call('admin/server');
      nav.hidden = false;
      signOut.hidden = false;
      show();
      main.focus({ preventScroll: true });
    } catch (failed) {
      keys.admin = '';
      put(told, problem(named(failed)));
      input.setAttribute('aria-invalid', 'true');
      input.select();
    }
    button.disabled = false;
  }
}

function named(error) {
  return { title: { 401: 'The key is not valid. ', 403: 'The key may not do this. ', 404: 'There is no console. ' }[error.status] ?? '', message: error.message };
}
