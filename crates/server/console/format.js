// Numbers and times as people read them.

const WHOLE = new Intl.NumberFormat('en', { maximumFractionDigits: 0 });
const SHORT = new Intl.NumberFormat('en', { notation: 'compact', maximumFractionDigits: 1 });

export const whole = number => (number === null || number === undefined ? '–' : WHOLE.format(number));

export const short = number => (number === null || number === undefined ? '–' : number < 10_000 ? WHOLE.format(number) : SHORT.format(number));

export function rate(number) {
  if (number === null || number === undefined || !Number.isFinite(number)) return '–';
  return number >= 100 ? WHOLE.format(number) : number.toFixed(1);
}

// A small number, with a digit after the point only if it has one.
export const few = number => (Number.isInteger(number) ? WHOLE.format(number) : number.toFixed(1));

// A time in milliseconds.
export function span(ms) {
  if (ms === null || ms === undefined) return '–';
  if (ms < 1) return '< 1 ms';
  if (ms < 1000) return `${Math.round(ms)} ms`;
  if (ms < 59_950) return `${(ms / 1000).toFixed(1)} s`;
  const seconds = Math.round(ms / 1000);
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${seconds % 60} s`;
  return `${Math.floor(seconds / 3600)} h ${Math.floor(seconds / 60) % 60} min`;
}

export const clock = seconds => new Date(seconds * 1000).toLocaleTimeString('en-GB');

export function moment(seconds) {
  if (!seconds) return '–';
  const at = new Date(seconds * 1000);
  const day = at.toLocaleDateString('en-GB', { day: 'numeric', month: 'short', year: 'numeric' });
  return `${day}, ${at.toLocaleTimeString('en-GB', { hour: '2-digit', minute: '2-digit' })}`;
}

export const day = days => new Date(days * 86_400_000).toLocaleDateString('en-GB', { day: 'numeric', month: 'short', timeZone: 'UTC' });

export function bytes(count) {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let at = 0;
  while (count >= 1024 && at < units.length - 1) { count /= 1024; at += 1; }
  return `${at && count < 100 ? count.toFixed(1) : Math.round(count)} ${units[at]}`;
}
