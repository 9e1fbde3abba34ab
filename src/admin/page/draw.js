'use strict';
// Making elements, words for numbers, and the charts. What peers wrote only ever becomes text.

const HISTORY_SECONDS = 300;
const SPAN_LEAST = 60; // a chart of a page that was just opened shows this much time
const GAP_SECONDS = 3.5; // figures come each second: a line ends where they did not
const LINES_MAX = 8; // servers with a line of their own in a chart

const byId = (id) => document.getElementById(id);

function make(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

function draw(tag, attributes) {
  const element = document.createElementNS('http://www.w3.org/2000/svg', tag);
  for (const [name, value] of Object.entries(attributes || {})) element.setAttribute(name, value);
  return element;
}

function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

// ---------------------------------------------------------------------------------------- words

function trimmed(number, digits) {
  return number.toLocaleString('en', { maximumFractionDigits: digits, useGrouping: true });
}

function count(number) {
  if (number === null || number === undefined) return '–';
  if (number >= 1e9) return `${trimmed(number / 1e9, 1)} G`;
  if (number >= 1e6) return `${trimmed(number / 1e6, 1)} M`;
  if (number >= 1e5) return `${trimmed(number / 1e3, 0)} k`;
  return trimmed(number, number < 10 ? 1 : 0);
}

function time(seconds) {
  if (seconds === null || seconds === undefined) return '–';
  if (seconds < 0.01) return `${trimmed(seconds * 1000, 2)} ms`;
  if (seconds < 1) return `${trimmed(seconds * 1000, 0)} ms`;
  return `${trimmed(seconds, 2)} s`;
}

function age(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 90) return `${whole} s`;
  if (whole < 5400) return `${Math.round(whole / 60)} min`;
  if (whole < 48 * 3600) return `${Math.round(whole / 3600)} h`;
  return `${Math.round(whole / 86400)} days`;
}

function clock(unix) {
  const date = new Date(unix * 1000);
  return [date.getHours(), date.getMinutes(), date.getSeconds()].map((part) => String(part).padStart(2, '0')).join(':');
}

function moment(unix) {
  const date = new Date(unix * 1000);
  return make('time', { datetime: date.toISOString(), title: date.toString() }, clock(unix));
}

// --------------------------------------------------------------------------------------- charts

// The least of 1, 2, 5 times a power of ten that is not below `most`.
function roundUp(most) {
  const power = 10 ** Math.floor(Math.log10(most));
  return [1, 2, 5, 10].map((factor) => factor * power).find((value) => value >= most * 0.999);
}

class Chart {
  // `lines` are what it draws: each with a name, a class for its colour, and `of`, which takes its
  // value out of a moment of the history. `least`: the scale never ends below it.
  constructor(title, { lines, form, least, wide, keys }) {
    this.form = form;
    this.least = least;
    this.title = title;
    this.svg = draw('svg', { viewBox: '0 0 1000 100', preserveAspectRatio: 'none', 'aria-hidden': 'true' });
    for (const y of [0, 50]) this.svg.append(draw('path', { class: 'grid', d: `M0 ${y}H1000` }));
    this.svg.append(draw('path', { class: 'base', d: 'M0 100H1000' }));
    this.lineGroup = draw('g');
    this.cursor = draw('path', { class: 'cursor', d: '' });
    this.svg.append(this.lineGroup, this.cursor);
    this.high = make('span', { class: 'tick' });
    this.middle = make('span', { class: 'tick' });
    this.high.style.top = '0';
    this.middle.style.top = '50%';
    this.plot = make('div', { class: 'plot' }, this.svg, this.high, this.middle);
    this.values = make('span', { class: 'values' });
    this.keys = keys ? make('div', { class: 'keys' }) : null;
    this.caption = make('figcaption', {}, make('span', { class: 'title' }, title));
    if (!keys) this.caption.append(this.values);
    this.from = make('span');
    this.to = make('span', {}, 'now');
    this.figure = make('figure', { tabindex: '0', role: 'group', 'aria-label': title, ...(wide ? { class: 'wide' } : {}) }, this.caption);
    if (this.keys) this.figure.append(this.keys);
    this.figure.append(this.plot, make('div', { class: 'span' }, this.from, this.to));
    this.setLines(lines);
  }

  setLines(lines) {
    this.lines = lines.map((line) => ({ ...line, path: draw('path', { class: line.colour }) }));
    this.lineGroup.replaceChildren(...this.lines.map((line) => line.path));
    this.shown = this.lines.map((line) => {
      const value = make('b');
      if (this.keys) return { value, box: make('span', { class: `key ${line.colour}` }, `${line.name} `, value) };
      const box = make('span', { class: `value ${lines.length > 1 ? line.colour : 'plain'}` });
      if (line.name) box.append(make('small', {}, `${line.name} `));
      box.append(value, make('small', {}, line.unit ? ` ${line.unit}` : ''));
      return { value, box };
    });
    (this.keys || this.values).replaceChildren(...this.shown.flatMap((one) => [one.box, ' ']));
  }

  // Draws the history from `start` to `end`; `at` is the moment under the cursor, if there is one.
  update(history, start, end, at) {
    let most = this.least;
    for (const point of history) {
      for (const line of this.lines) most = Math.max(most, line.of(point) ?? 0);
    }
    const top = roundUp(most);
    const x = (point) => (((point.time - start) / (end - start)) * 1000).toFixed(1);
    for (const line of this.lines) {
      let path = '';
      let last = -Infinity;
      for (const point of history) {
        const value = line.of(point);
        if (value === null || value === undefined) continue;
        const y = (100 - (value / top) * 100).toFixed(1);
        path += `${point.time - last > GAP_SECONDS ? 'M' : 'L'}${x(point)} ${y}`;
        if (point.time - last > GAP_SECONDS) path += 'h0';
        last = point.time;
      }
      line.path.setAttribute('d', path);
    }
    this.cursor.setAttribute('d', at ? `M${x(at)} 0V100` : '');
    const shown = at || history[history.length - 1];
    const words = this.lines.map((line, place) => {
      const text = shown ? this.form(line.of(shown)) : '–';
      write(this.shown[place].value, text);
      return `${line.name || ''} ${text} ${line.unit || ''}`.trim();
    });
    this.figure.setAttribute('aria-label', `${this.title}: ${words.join(', ')}`);
    write(this.high, this.form(top));
    write(this.middle, this.form(top / 2));
    write(this.from, `${age(end - start)} ago`);
    write(this.to, at ? clock(at.time) : 'now');
  }
}

// All charts, with one cursor through them: by pointer, or by the arrow keys on a chart.
class Charts {
  constructor(box) {
    this.list = [];
    this.box = box;
    this.at = null;
    this.history = [];
    [this.start, this.end] = [0, 1];
    box.addEventListener('pointermove', (event) => this.point(event));
    box.addEventListener('pointerleave', () => this.move(null));
    box.addEventListener('focusout', () => this.move(null));
    box.addEventListener('keydown', (event) => this.key(event));
  }

  add(chart) {
    this.list.push(chart);
    this.box.append(chart.figure);
    return chart;
  }

  point(event) {
    const plot = event.target.closest('.plot');
    if (!plot) return this.move(null);
    const edges = plot.getBoundingClientRect();
    const wanted = this.start + ((event.clientX - edges.left) / edges.width) * (this.end - this.start);
    let nearest = null;
    for (const point of this.history) {
      if (!nearest || Math.abs(point.time - wanted) < Math.abs(nearest.time - wanted)) nearest = point;
    }
    return this.move(nearest);
  }

  key(event) {
    const steps = { ArrowLeft: -1, ArrowRight: 1, PageUp: -30, PageDown: 30, Home: -Infinity };
    if (event.key === 'Escape' || event.key === 'End') return this.move(null);
    if (!(event.key in steps) || this.history.length === 0) return undefined;
    event.preventDefault();
    const last = this.history.length - 1;
    const place = (this.at ? this.history.indexOf(this.at) : last) + steps[event.key];
    return this.move(place >= last ? null : this.history[Math.max(0, place)]);
  }

  move(at) {
    if (at !== this.at) {
      this.at = at;
      this.update(this.history, this.end);
    }
  }

  update(history, now) {
    this.history = history;
    if (this.at && !history.includes(this.at)) this.at = null;
    const past = history.length ? now - history[0].time : 0;
    this.end = now;
    this.start = now - Math.min(HISTORY_SECONDS, Math.max(SPAN_LEAST, past));
    for (const chart of this.list) chart.update(history, this.start, this.end, this.at);
  }
}
