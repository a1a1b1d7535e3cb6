// Plots of the last minutes, and bars for days. Each is a drawing with a summary for screen readers, a reading of one
// moment by pointer or arrow keys, and its numbers as a table.

import { h, put, s, write } from './dom.js';

const LEFT = 54;
const BOTTOM = 20;
const TOP = 10;
const RIGHT = 6;
const HEIGHT = 168;

// `series`: [{name, color (1–4), of: point => number|null, area}], `show`: number → text.
export function linePlot({ title, unit, series, show, least = 1 }) {
  const drawing = s('svg', { role: 'img', height: HEIGHT, 'aria-label': title });
  const reading = h('span.reading', {});
  const legend = h('span.legend', {}, series.map(one => h(`span.key.color-${one.color}`, {}, one.name)));
  const numbers = h('tbody', {});
  const element = h('figure.plot', {},
    h('figcaption', {}, h('span.plot-title', {}, title, h('span.unit', {}, unit)), legend, reading),
    h('div.canvas', { tabindex: '0', 'aria-label': `${title}: read single moments with the arrow keys`, role: 'group', onkeydown: step, onpointermove: point, onpointerleave: leave, onblur: leave }, drawing),
    h('details.numbers', {}, h('summary', {}, 'As a table'),
      h('div.table', { tabindex: '0', role: 'region', 'aria-label': `${title}, as a table` }, h('table', {}, h('thead', {}, h('tr', {}, h('th', { scope: 'col' }, 'Time'), series.map(one => h('th.number', { scope: 'col' }, one.name)))), numbers))));
  let points = [];
  let span = 300;
  let now = 0;
  let width = 600;
  let chosen = null;
  new ResizeObserver(([entry]) => { width = Math.max(200, entry.contentRect.width); draw(); }).observe(element.querySelector('.canvas'));
  return { element, update };

  function update(all, seconds, last) {
    [points, span, now] = [all.filter(one => one.at > last - seconds), seconds, last];
    draw();
  }

  function x(at) { return LEFT + (width - LEFT - RIGHT) * (1 - (now - at) / span); }

  function draw() {
    const values = points.flatMap(one => series.map(each => each.of(one)).filter(value => value !== null));
    const top = ceiling(Math.max(least, ...values));
    const y = value => TOP + (HEIGHT - TOP - BOTTOM) * (1 - value / top);
    const parts = [];
    for (const part of [0, 0.5, 1]) {
      parts.push(s('line.grid', { x1: LEFT, x2: width - RIGHT, y1: y(top * part), y2: y(top * part) }),
        s('text.axis', { x: LEFT - 8, y: y(top * part) + 4, 'text-anchor': 'end' }, part ? show(top * part) : '0'));
    }
    const minutes = span / 60;
    for (const part of [0, 0.5, 1]) {
      const ago = minutes * (1 - part);
      parts.push(s('text.axis', { x: LEFT + (width - LEFT - RIGHT) * part, y: HEIGHT - 4, 'text-anchor': ['start', 'middle', 'end'][part * 2] }, ago ? `−${ago} min` : 'now'));
    }
    for (const each of series) {
      for (const run of runs(each)) {
        const line = run.map((one, at) => `${at ? 'L' : 'M'}${x(one.at).toFixed(1)} ${y(each.of(one)).toFixed(1)}`).join('');
        if (each.area) parts.push(s(`path.area.color-${each.color}`, { d: `${line}L${x(run.at(-1).at).toFixed(1)} ${y(0)}L${x(run[0].at).toFixed(1)} ${y(0)}Z` }));
        parts.push(s(`path.line.color-${each.color}`, { d: run.length > 1 ? line : `${line}h0.01` }));
      }
    }
    if (chosen !== null) {
      const one = nearest(chosen);
      if (one) {
        parts.push(s('line.cursor', { x1: x(one.at), x2: x(one.at), y1: TOP, y2: y(0) }));
        for (const each of series) if (each.of(one) !== null) parts.push(s(`circle.dot.color-${each.color}`, { cx: x(one.at), cy: y(each.of(one)), r: 3.5 }));
        write(reading, `${new Date(one.at * 1000).toLocaleTimeString('en-GB')}: ${series.map(each => `${series.length > 1 ? `${each.name} ` : ''}${each.of(one) === null ? '–' : show(each.of(one))}`).join(', ')}`);
      }
    } else {
      write(reading, '');
    }
    if (!values.some(value => value > 0)) parts.push(s('text.nothing', { x: (width + LEFT) / 2, y: HEIGHT / 2, 'text-anchor': 'middle' }, 'Nothing in this time'));
    drawing.setAttribute('width', width);
    drawing.setAttribute('viewBox', `0 0 ${width} ${HEIGHT}`);
    drawing.setAttribute('aria-label', summary(values));
    put(drawing, ...parts);
    if (element.querySelector('details').open) list();
  }

  function runs(each) {
    const all = [];
    let run = [];
    for (const one of points) {
      if (each.of(one) === null) { if (run.length) all.push(run); run = []; } else run.push(one);
    }
    return run.length ? [...all, run] : all;
  }

  function summary(values) {
    if (!values.length) return `${title}, last ${span / 60} minutes: no values`;
    const last = points.at(-1);
    return `${title}, last ${span / 60} minutes: up to ${show(Math.max(...values))}, now ${series.map(each => `${each.name} ${each.of(last) === null ? 'none' : show(each.of(last))}`).join(', ')}`;
  }

  // Ten rows are enough to compare with; a row for each second is a wall.
  function list() {
    const every = Math.max(1, Math.floor(points.length / 10));
    const rows = points.filter((_, at) => (points.length - 1 - at) % every === 0).reverse();
    put(numbers, ...rows.map(one => h('tr', {}, h('td', {}, new Date(one.at * 1000).toLocaleTimeString('en-GB')), series.map(each => h('td.number', {}, each.of(one) === null ? '–' : show(each.of(one)))))));
  }

  function nearest(at) {
    return points.reduce((best, one) => (!best || Math.abs(one.at - at) < Math.abs(best.at - at) ? one : best), null);
  }

  function point(event) {
    const place = event.clientX - drawing.getBoundingClientRect().left;
    chosen = now - span * (1 - (place - LEFT) / (width - LEFT - RIGHT));
    draw();
  }

  function step(event) {
    const way = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!way || !points.length) return;
    const at = points.indexOf(nearest(chosen ?? now));
    chosen = points[Math.min(points.length - 1, Math.max(0, at + way * Math.max(1, Math.round(span / 60))))].at;
    draw();
    event.preventDefault();
  }

  function leave() { chosen = null; draw(); }
}

// The next round number.
function ceiling(value) {
  const unit = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 4, 5, 10].map(each => each * unit).find(each => each >= value) ?? value;
}

// A bar for each day: [{label, parts: [number, …], text}].
export function bars(title, days, names) {
  const top = Math.max(1, ...days.map(one => one.parts.reduce((sum, part) => sum + part, 0)));
  const [gap, high] = [2, 120];
  const each = Math.max(4, Math.floor(640 / days.length));
  const parts = [];
  days.forEach((one, at) => {
    let y = high;
    const title = s('title', {}, one.text);
    const bar = s('g', {}, title, s('rect.hit', { x: at * each, y: 0, width: each, height: high }));
    one.parts.forEach((part, place) => {
      const height = part ? Math.max(1, (high - 4) * part / top) : 0;
      y -= height;
      bar.append(s(`rect.bar.color-${place + 1}`, { x: at * each + gap / 2, y, width: each - gap, height, rx: Math.min(2, height / 2) }));
    });
    parts.push(bar);
  });
  const width = each * days.length;
  return h('figure.plot', {},
    h('figcaption', {}, h('span.plot-title', {}, title), h('span.legend', {}, names.map((name, at) => h(`span.key.color-${at + 1}`, {}, name)))),
    h('div.canvas', {}, s('svg.bars', { role: 'img', 'aria-label': `${title}: ${days.at(-1).text} last`, viewBox: `0 0 ${width} ${high + 18}`, preserveAspectRatio: 'none' }, parts, s('line.grid', { x1: 0, x2: width, y1: high, y2: high }))),
    h('div.ends', {}, h('span', {}, days[0].label), h('span', {}, days.at(-1).label)));
}
