// What is known, how it comes, and what is shown of it.

const QUIET_SECONDS = 5; // figures come each second: after this without any the connection is lost
const RETRY_SECONDS = [1, 2, 3, 5, 8, 10];
const BAND_SPANS = [120, 300, 900]; // seconds that the timeline shows: as much as there is, within these
const BANDS_MAX = 24;
const CHANGES_SHOWN = 15;
const FAILED_SHARE = 0.01; // of the last minute's requests: more is worth a word
const FAILED_LEAST = 5;
const KINDS = { valid: 'good', unchecked: 'unknown', refusing: 'bad', invalid: 'bad', draining: 'calm', disabled: 'calm' };

let status = null; // the last whole one, with what came since
let servers = new Map(); // by name, in their order
let history = []; // a moment each second
let changes = []; // the oldest first
let offset = 0; // the server's clock, less ours
let token = sessionStorage.getItem('bestguess-token') || '';
let lastSaid = '';

const charts = new Charts(byId('charts'));
const guesses = new Guesses();
const seconds = () => Date.now() / 1000 + offset;

charts.add(new Chart('Requests per second', {
  wide: true, form: count, least: 1,
  lines: [
    { name: '', unit: 'all', colour: 'c1', of: (point) => point.rate },
    { name: '', unit: 'failed', colour: 'c2', of: (point) => point.errors },
  ],
}));
charts.add(new Chart('Latency', {
  wide: true, form: time, least: 0.001,
  lines: [
    { name: 'p50', colour: 'c1', of: (point) => point.p50 },
    { name: 'p99', colour: 'c2', of: (point) => point.p99 },
  ],
}));
charts.add(new Chart('In flight', { form: count, least: 2, lines: [{ name: '', colour: 'c1', of: (point) => point.pairs }] }));
charts.add(new Chart('Queue', { form: count, least: 2, lines: [{ name: '', colour: 'c1', of: (point) => point.queue }] }));
const loads = charts.add(new Chart('Reported load, per second', { form: count, least: 1, lines: [], keys: true }));

// --------------------------------------------------------------------------------------- asking

class Refused extends Error {}
class TokenNeeded extends Refused {}

async function ask(path, options) {
  const headers = { ...(options?.headers || {}) };
  if (token) headers.Authorization = `Bearer ${token}`;
  const answer = await fetch(path, { cache: 'no-store', ...options, headers });
  if (answer.ok) return answer;
  const text = (await answer.text()).trim() || `status ${answer.status}`;
  if (answer.status !== 401) throw new Refused(text);
  askForToken(text);
  throw new TokenNeeded(text);
}

function askForToken(text) {
  byId('token').hidden = false;
  byId('token-value').focus();
  write(byId('token-wrong'), token ? text : '');
  sessionStorage.removeItem('bestguess-token');
  token = '';
}

byId('token').addEventListener('submit', (event) => {
  event.preventDefault();
  token = byId('token-value').value.trim();
  byId('token-value').value = '';
  sessionStorage.setItem('bestguess-token', token);
  byId('token').hidden = true;
  write(byId('token-wrong'), '');
  stream.again();
});

// What happens, by server-sent events. EventSource could not send the token, so they are read here.
class Stream {
  constructor() {
    this.tries = 0;
    this.timer = null;
    byId('again').addEventListener('click', () => this.again());
    setInterval(() => this.watch(), 1000);
  }

  again() {
    this.tries = 0;
    this.open();
  }

  async open() {
    clearTimeout(this.timer);
    this.timer = null;
    this.abort?.abort();
    const abort = new AbortController();
    this.abort = abort;
    this.heard = Date.now();
    let why = 'the connection ended';
    try {
      const answer = await ask('/events', { signal: abort.signal });
      await this.read(answer.body.pipeThrough(new TextDecoderStream()).getReader());
    } catch (cause) {
      if (cause instanceof TokenNeeded) return this.halt();
      if (cause instanceof Refused) why = cause.message;
      else if (abort.signal.reason === 'quiet') why = 'nothing has come for some seconds';
      else if (abort.signal.aborted) return;
    }
    if (this.abort === abort) this.lost(why);
  }

  async read(reader) {
    let rest = '';
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      this.heard = Date.now();
      const blocks = (rest + value).replaceAll('\r\n', '\n').split('\n\n');
      rest = blocks.pop();
      for (const block of blocks) this.take(block);
    }
  }

  take(block) {
    let name = 'message';
    const data = [];
    for (const line of block.split('\n')) {
      const at = line.indexOf(':');
      const [field, value] = at < 0 ? [line, ''] : [line.slice(0, at), line.slice(at + 1).replace(/^ /, '')];
      if (field === 'event') name = value;
      if (field === 'data') data.push(value);
    }
    if (data.length === 0 && name !== 'bye') return;
    if (name === 'hello') this.tries = 0;
    take[name]?.(data.length ? JSON.parse(data.join('\n')) : null);
  }

  watch() {
    if (this.timer === null && Date.now() - this.heard > QUIET_SECONDS * 1000) this.abort?.abort('quiet');
    if (this.due) this.count();
  }

  // Nothing will come until there is a token.
  halt() {
    this.abort = null;
    this.heard = Infinity;
    this.since ||= seconds();
    document.body.classList.add('stale');
    byId('lost').hidden = true;
    link('warn', 'a token is needed');
  }

  lost(why) {
    const delay = RETRY_SECONDS[Math.min(this.tries, RETRY_SECONDS.length - 1)];
    this.tries += 1;
    this.why = why;
    this.since ||= seconds();
    this.due = Date.now() + delay * 1000;
    this.timer = setTimeout(() => this.open(), delay * 1000);
    document.body.classList.add('stale');
    link('bad', 'connection lost');
    document.title = '(lost) bestguess';
    byId('lost').hidden = false;
    this.count();
    if (this.tries === 1) say('The connection is lost. What you see is old.');
  }

  count() {
    const left = Math.max(0, Math.ceil((this.due - Date.now()) / 1000));
    const old = status ? `What you see is from ${clock(this.since)}. ` : '';
    write(byId('lost-text'), `No connection to bestguess: ${this.why}. ${old}${left ? `Trying again in ${left} s.` : 'Trying again.'}`);
  }

  found() {
    if (this.since) say('The connection is back.');
    [this.since, this.due] = [null, null];
    document.body.classList.remove('stale');
    byId('lost').hidden = true;
    link('good', 'live');
  }
}

function link(kind, text) {
  byId('link').className = `pill ${kind}`;
  write(byId('link'), text);
}

function say(text) {
  lastSaid = lastSaid === text ? `${text} ` : text; // the same once more is said again
  byId('said').textContent = lastSaid;
}

// --------------------------------------------------------------------------------------- taking

const take = {
  hello(whole) {
    takeStatus(whole);
    stream.found();
    ask('/guesses?limit=200').then((answer) => answer.json()).then((known) => guesses.reset(known.guesses)).catch(() => {});
  },

  status(figures) {
    offset = figures.time - Date.now() / 1000;
    const last = history[history.length - 1];
    const isNext = last && figures.time - last.time < GAP_SECONDS;
    const failed = isNext ? Math.max(0, figures.errors_total - last.errorsTotal) / Math.max(0.001, figures.time - last.time) : null;
    Object.assign(status, { state: figures.state, pairs: figures.pairs, queue: figures.queue, clients: figures.clients, links: figures.links });
    for (const server of servers.values()) Object.assign(server, { rate: 0, p50: null, p99: null });
    for (const one of figures.servers) takeServer(one.name, one);
    const byServer = {};
    for (const server of servers.values()) byServer[server.name] = KINDS[server.state] === 'bad' ? null : server.loadRate;
    history.push({
      time: figures.time, rate: figures.requests_per_second, errors: failed, errorsTotal: figures.errors_total, total: figures.requests_total,
      p50: figures.latency_p50_seconds, p99: figures.latency_p99_seconds, pairs: figures.pairs, queue: figures.queue, loads: byServer,
    });
    while (history.length && history[0].time < figures.time - HISTORY_SECONDS) history.shift();
    if (figures.servers_count !== servers.size || figures.servers.some((one) => !servers.has(one.name))) refresh();
    guesses.tick(figures.guesses_left_out);
    show();
  },

  change(change) {
    changes.push(change);
    const server = servers.get(change.server);
    if (server) Object.assign(server, { state: change.to, reason: change.reason, since: change.time });
    if (!server || change.to === 'removed') refresh();
    say(`${change.server} is ${change.to}${change.reason ? `: ${change.reason}` : ''}`);
    show();
  },

  guess(guess) {
    guesses.add(guess);
  },

  bye(told) {
    link('calm', told?.reason ?? 'the process ends');
  },
};

function takeStatus(whole) {
  status = whole;
  offset = whole.time - Date.now() / 1000;
  changes = whole.changes.slice();
  const known = servers;
  servers = new Map();
  for (const one of whole.servers) {
    const server = known.get(one.name) || { name: one.name, rate: 0, p50: null, p99: null, loadRate: null };
    servers.set(one.name, server);
    takeServer(one.name, one);
  }
  write(byId('where'), `listening on ${whole.listen} · ${whole.policy}`);
  write(byId('version'), whole.version.includes('bestguess') ? whole.version : `bestguess ${whole.version}`);
  buildRows();
  const lines = [...servers.keys()].slice(0, LINES_MAX);
  loads.setLines(lines.map((name, place) => ({ name, colour: `c${place + 1}`, of: (point) => point.loads[name] ?? null })));
  show();
}

// Takes in what is told of a server: wholly, or the figures of a second.
function takeServer(name, told) {
  const server = servers.get(name);
  if (!server) return;
  const before = server.report;
  const failures = told.failures_total ?? Object.values(told.failures).reduce((sum, one) => sum + one, 0);
  Object.assign(server, { state: told.state, reason: told.reason, setting: told.setting, weight: told.weight, in_flight: told.in_flight, failures });
  if (told.address !== undefined) Object.assign(server, { address: told.address, since: told.since, max: told.max });
  if (told.requests_per_second !== undefined) server.rate = told.requests_per_second;
  if (told.latency_p50_seconds !== undefined) [server.p50, server.p99] = [told.latency_p50_seconds, told.latency_p99_seconds];
  server.report = told.report;
  if (before && told.report && told.report.time > before.time) {
    // A count that went back is a restart.
    server.loadRate = told.report.load < before.load ? null : (told.report.load - before.load) / (told.report.time - before.time);
  }
}

let isAsking = false;
async function refresh() {
  if (isAsking) return;
  isAsking = true;
  try {
    takeStatus(await (await ask('/status')).json());
  } catch {
    // The stream will tell that the connection is lost.
  }
  isAsking = false;
}

// --------------------------------------------------------------------------------------- showing

let willShow = false;
function show() {
  if (willShow || !status) return;
  willShow = true;
  requestAnimationFrame(() => {
    willShow = false;
    showVerdict();
    for (const server of servers.values()) showRow(server);
    charts.update(history, seconds());
    showBands();
    showChanges();
  });
}

function listed(names) {
  if (names.length <= 3) return names.join(names.length === 2 ? ' and ' : ', ');
  return `${names.slice(0, 2).join(', ')} and ${names.length - 2} more`;
}

// Requests of the last minute, and how many of them failed.
function lastMinute() {
  const minute = history.filter((point) => point.time > seconds() - 61);
  if (minute.length < 2) return { total: 0, failed: 0 };
  const [first, last] = [minute[0], minute[minute.length - 1]];
  return { total: last.total - first.total, failed: last.errorsTotal - first.errorsTotal };
}

function judge() {
  const all = [...servers.values()];
  const of = (...states) => all.filter((server) => states.includes(server.state));
  const [good, bad, calm, unknown] = [of('valid'), of('refusing', 'invalid'), of('draining', 'disabled'), of('unchecked')];
  if (status.state === 'draining') return ['warn', 'This process is draining: it ends when its requests have ended'];
  const names = (some) => listed(some.map((server) => server.name));
  const are = (some) => (some.length === 1 ? 'is' : 'are');
  const more = calm.length ? `; ${names(calm)} ${are(calm)} taken out` : '';
  if (all.length === 0) return ['bad', 'There is no server'];
  if (good.length + unknown.length === 0) return ['bad', `No server is left: every request fails${more}`];
  if (bad.length) return ['bad', `${bad.length} of ${all.length} servers ${are(bad)} down: ${names(bad)}${more}`];
  if (calm.length) return ['warn', `${good.length} of ${all.length} servers ${good.length === 1 ? 'serves' : 'serve'}${more}`];
  if (unknown.length) return ['unknown', `${unknown.length} of ${all.length} servers ${are(unknown)} not checked yet`];
  if (history.length && history.slice(-3).every((point) => point.queue > 0)) return ['warn', `All servers serve, but ${count(status.queue)} requests wait for one of the ${count(status.pairs_max)} places`];
  const { total, failed } = lastMinute();
  if (failed >= FAILED_LEAST && failed > total * FAILED_SHARE) {
    const share = trimmed((100 * failed) / total, 1);
    return ['warn', `${all.length === 1 ? 'The one server serves' : 'All servers serve'}, but ${share} % of the requests failed in the last minute`];
  }
  return ['good', all.length === 1 ? 'The one server serves' : `All ${all.length} servers serve`];
}

function showVerdict() {
  const [kind, text] = judge();
  byId('verdict').className = `verdict ${kind}`;
  write(byId('verdict-text'), text);
  const reasons = [...servers.values()].filter((server) => ['refusing', 'invalid'].includes(server.state) && server.reason);
  const last = history[history.length - 1];
  const { failed } = lastMinute();
  const words = reasons.slice(0, 2).map((server) => `${server.name}: ${server.reason}, for ${age(seconds() - server.since)}`);
  if (last) words.push(`${count(last.rate)} requests/s`, failed > 0 ? `${count(failed)} failed in the last minute` : 'none failed in the last minute');
  words.push(`${count(status.clients)} clients`, `up for ${age(status.uptime_seconds + seconds() - status.time)}`);
  write(byId('verdict-more'), words.join(' · '));
  const down = [...servers.values()].filter((server) => KINDS[server.state] === 'bad').length;
  document.title = down ? `(${down} down) bestguess` : 'bestguess';
  const colour = { good: '%230a7455', warn: '%23d08a10', bad: '%23d0342c' }[kind] || '%238a96a1';
  const icon = `data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'%3E%3Ccircle cx='8' cy='8' r='6' fill='${colour}'/%3E%3C/svg%3E`;
  if (byId('icon').getAttribute('href') !== icon) byId('icon').setAttribute('href', icon);
}

// Rows are made once for each server, so that whoever types or has the focus in one keeps it.
function buildRows() {
  const body = byId('server-rows');
  const rows = [...servers.values()].map((server) => {
    if (!server.row) makeRow(server);
    return server.row;
  });
  const stays = rows.length === body.children.length && rows.every((row, place) => body.children[place] === row);
  if (!stays) body.replaceChildren(...rows);
}

function makeRow(server) {
  const cell = (label, kind) => make('td', { 'data-label': label, ...(kind ? { class: kind } : {}) });
  const parts = {
    why: make('div', { class: 'why' }), state: make('span', { class: 'pill' }),
    rate: cell('Requests/s', 'number'), p50: cell('p50', 'number'), p99: cell('p99', 'number'),
    flight: cell('In flight', 'number'), failed: cell('Failed', 'number'), load: cell('Reported load', 'number'),
    weight: make('input', { type: 'number', min: '0', step: 'any', 'aria-label': `Weight of ${server.name}` }),
    set: make('button', { disabled: '', 'aria-label': `Set the weight of ${server.name}` }, 'Set'),
    act: make('button', { type: 'button', class: 'act' }),
  };
  const form = make('form', { class: 'weigh' }, parts.weight, parts.set);
  const isNew = () => parts.weight.value !== '' && Number(parts.weight.value) !== server.weight;
  parts.weight.addEventListener('input', () => { parts.set.disabled = !isNew(); });
  form.addEventListener('submit', (event) => {
    event.preventDefault();
    if (isNew()) change(server, 'weight', parts.weight.value);
  });
  parts.act.addEventListener('click', () => drainOrEnable(server));
  server.parts = parts;
  server.row = make('tr', {}, make('td', {}, make('div', { class: 'name' }, server.name), parts.why), make('td', {}, parts.state));
  server.row.append(parts.rate, parts.p50, parts.p99, parts.flight, parts.failed, parts.load);
  server.row.append(make('td', { 'data-label': 'Weight' }, form), make('td', {}, parts.act));
  server.row.dataset.server = server.name;
}

function showRow(server) {
  const { parts } = server;
  const kind = KINDS[server.state] || 'unknown';
  parts.state.className = `pill ${kind}`;
  server.row.className = kind === 'bad' ? 'down' : '';
  write(parts.state, server.state);
  const since = server.since ? `for ${age(seconds() - server.since)}` : '';
  write(parts.why, kind === 'good' ? since : [server.reason, since].filter(Boolean).join(', '));
  write(parts.rate, count(server.rate));
  write(parts.p50, time(server.p50));
  write(parts.p99, time(server.p99));
  write(parts.flight, count(server.in_flight));
  write(parts.failed, count(server.failures));
  write(parts.load, server.report ? count(server.report.load) : '–');
  parts.load.title = server.report ? `errors ${server.report.errors}; reported ${age(seconds() - server.report.time)} ago` : 'it has not reported yet';
  if (document.activeElement !== parts.weight && parts.set.disabled) {
    const text = String(server.weight);
    if (parts.weight.value !== text) parts.weight.value = text;
  }
  const verb = server.setting === 'enabled' ? 'Drain' : 'Enable';
  write(parts.act, verb);
  parts.act.setAttribute('aria-label', `${verb} ${server.name}`);
}

// Intervals of one state between two moments, from the changes that are known.
function intervals(server, start, end) {
  const own = changes.filter((change) => change.server === server.name);
  const born = Math.max(start, status.time - status.uptime_seconds);
  const list = [];
  let [from, state] = [born, own.length ? own[0].from : server.state];
  for (const change of own) {
    const at = Math.min(end, Math.max(born, change.time));
    if (state !== null && state !== 'removed' && at > from) list.push({ from, to: at, state });
    [from, state] = [at, change.to];
  }
  if (end > from) list.push({ from, to: end, state });
  return list;
}

function showBands() {
  const end = seconds();
  const past = end - status.time + status.uptime_seconds;
  const span = BAND_SPANS.find((one) => one >= past) || BAND_SPANS[BAND_SPANS.length - 1];
  const start = end - span;
  const isLively = (server) => server.state !== 'valid' || changes.some((change) => change.server === server.name && change.time > start);
  const all = [...servers.values()];
  const shown = all.length <= BANDS_MAX ? all : all.filter(isLively).slice(0, BANDS_MAX);
  const items = [];
  for (const server of shown) {
    const svg = draw('svg', { viewBox: '0 0 1000 16', preserveAspectRatio: 'none', role: 'img' });
    const pieces = intervals(server, start, end);
    for (const piece of pieces) {
      const kind = KINDS[piece.state] || 'unknown';
      // What is well is thin, what is not is tall: colour is not needed to tell.
      const height = { good: 4, bad: 16 }[kind] || 9;
      const x = ((piece.from - start) / span) * 1000;
      const width = Math.max(2, ((piece.to - piece.from) / span) * 1000);
      const rect = draw('rect', { class: kind, x: x.toFixed(1), width: width.toFixed(1), y: (16 - height) / 2, height });
      const title = draw('title');
      title.textContent = `${piece.state} from ${clock(piece.from)} to ${piece.to === end ? 'now' : clock(piece.to)}`;
      rect.append(title);
      svg.append(rect);
    }
    const words = pieces.map((piece) => `${piece.state} for ${age(piece.to - piece.from)}`).join(', then ');
    svg.setAttribute('aria-label', `${server.name}: ${words}`);
    items.push(make('span', { class: 'band-name' }, server.name), svg);
  }
  if (shown.length < all.length) items.push(make('p', { class: 'faint' }, `${all.length - shown.length} others are not shown; most are valid all along`));
  items.push(make('div', { class: 'span' }, make('span', {}, `${age(span)} ago`), make('span', {}, age(span / 2)), make('span', {}, 'now')));
  const legend = make('div', { class: 'legend' });
  for (const [kind, text] of [['good', 'valid'], ['bad', 'refusing or invalid'], ['calm', 'draining or disabled'], ['unknown', 'unchecked']]) {
    legend.append(make('span', {}, make('i', { class: kind }), text));
  }
  byId('bands').replaceChildren(...items, legend);
}

let changesShown = '';
function showChanges() {
  const latest = changes.slice(-CHANGES_SHOWN).reverse();
  const key = latest.map((change) => `${change.time} ${change.server} ${change.to}`).join();
  if (key === changesShown) return;
  changesShown = key;
  const items = latest.map((change) => {
    const steps = `${change.from === null ? 'new' : change.from} → ${change.to}`;
    return make('li', {}, moment(change.time), make('span', {}, make('b', {}, change.server)), make('span', {}, steps, change.reason ? `: ${change.reason}` : ''));
  });
  byId('change-list').replaceChildren(...items);
}

// -------------------------------------------------------------------------------------- steering

async function change(server, what, content) {
  const { parts } = server;
  write(byId('refused'), '');
  try {
    const options = { method: 'POST' };
    if (content !== undefined) Object.assign(options, { body: content, headers: { 'Content-Type': 'text/plain' } });
    const answer = await ask(`/servers/${encodeURIComponent(server.name)}/${what}`, options);
    takeServer(server.name, await answer.json());
    parts.set.disabled = true;
    say(what === 'weight' ? `${server.name} has the weight ${server.weight}` : `${server.name} is ${server.state}`);
  } catch (cause) {
    const why = cause instanceof Refused ? cause.message : 'there is no connection';
    write(byId('refused'), `${server.name}: ${why}`);
  }
  show();
}

function drainOrEnable(server) {
  if (server.setting !== 'enabled') return change(server, 'enable');
  const others = [...servers.values()].filter((one) => one !== server && one.state === 'valid');
  if (others.length) return change(server, 'drain');
  write(byId('sure-text'), `No other server is valid. Without ${server.name} every new request fails.`);
  const dialog = byId('sure');
  dialog.returnValue = 'no';
  dialog.onclose = () => dialog.returnValue === 'yes' && change(server, 'drain');
  return dialog.showModal();
}

const stream = new Stream();
stream.open();
