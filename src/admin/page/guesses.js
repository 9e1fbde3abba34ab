// The stream of guesses: the latest first, each with its reasons to be opened.

const GUESSES_KEPT = 1000;
const GUESSES_SHOWN = 15;
const GUESSES_MORE = 150;

class Guesses {
  constructor() {
    this.all = []; // the latest first
    this.rows = new Map(); // by number
    this.isPaused = false;
    this.fresh = 0;
    this.leftOut = 0;
    this.list = byId('guess-list');
    this.filter = byId('filter');
    this.button = byId('pause');
    this.limit = GUESSES_SHOWN;
    this.filter.addEventListener('input', () => this.show());
    byId('more').addEventListener('click', () => this.showMore());
    this.button.addEventListener('click', () => this.pause(!this.isPaused));
    // Who opens one wants to read it.
    this.list.addEventListener('toggle', (event) => event.target.open && this.pause(true), true);
  }

  pause(isPaused) {
    this.isPaused = isPaused;
    this.button.setAttribute('aria-pressed', String(isPaused));
    if (!isPaused) {
      this.limit = GUESSES_SHOWN;
      for (const row of this.rows.values()) row.querySelector('details').open = false;
      this.fresh = 0;
      this.show();
    }
    this.label();
  }

  label() {
    const waiting = this.fresh ? ` (${count(this.fresh)} new)` : '';
    write(this.button, this.isPaused ? `Go on${waiting}` : 'Pause');
  }

  // All that are known by now, the latest first.
  reset(guesses) {
    this.all = guesses.slice(0, GUESSES_KEPT);
    this.rows.clear();
    this.show();
  }

  add(guess) {
    if (this.all.length && guess.number <= this.all[0].number) return;
    this.all.unshift(guess);
    if (this.all.length > GUESSES_KEPT) this.all.length = GUESSES_KEPT;
    if (this.isPaused) this.fresh += 1;
    this.isChanged = true;
  }

  // Once a second, so that the list does not run while it is looked at.
  tick(leftOut) {
    write(byId('left-out'), leftOut ? `${count(leftOut)} more in the last second are not shown` : '');
    if (this.isChanged && !this.isPaused) this.show();
    this.isChanged = false;
    this.label();
  }

  show() {
    const wanted = this.filter.value.trim().toLowerCase();
    const fits = (guess) =>
      [guess.request, guess.request_id, guess.server, guess.why].some((text) => text && text.toLowerCase().includes(wanted));
    const fitting = wanted ? this.all.filter(fits) : this.all;
    const shown = fitting.slice(0, this.limit);
    byId('more').hidden = fitting.length <= shown.length || this.limit > GUESSES_SHOWN;
    const rows = new Map(shown.map((guess) => [guess.number, this.rows.get(guess.number) || this.row(guess)]));
    const none = wanted ? 'No guess of the last thousand fits.' : 'No request has been sent on yet.';
    // Rows that stay are not taken out, so that what is focused keeps the focus.
    for (const child of [...this.list.children]) {
      if (![...rows.values()].includes(child)) child.remove();
    }
    let before = null;
    for (const row of [...rows.values()].reverse()) {
      if (row.nextSibling !== before || row.parentNode !== this.list) this.list.insertBefore(row, before);
      before = row;
    }
    if (rows.size === 0) this.list.append(make('li', { class: 'none' }, none));
    this.rows = rows;
  }

  showMore() {
    this.limit = GUESSES_MORE;
    const last = this.list.lastElementChild;
    this.pause(true);
    this.show();
    // The button is gone: the focus goes on where the list does.
    last?.querySelector('summary')?.focus();
  }

  row(guess) {
    const chosen = { server: guess.server, full: 'no room: it waits', nobody: 'nobody' }[guess.outcome] || guess.server || '–';
    // Why begins with who was chosen, and that stands beside it.
    const why = guess.why.startsWith(`${guess.server}: `) ? guess.why.slice(guess.server.length + 2) : guess.why;
    const summary = make('summary', {}, moment(guess.time));
    summary.append(
      make('span', { class: 'request' }, guess.request || `guess ${guess.number}`),
      make('span', { class: 'chosen' }, chosen),
      make('span', { class: 'reason' }, why),
    );
    const details = make('details', {}, summary);
    details.addEventListener('toggle', () => {
      if (details.open && details.children.length === 1) details.append(this.inside(guess));
    });
    return make('li', {}, details);
  }

  inside(guess) {
    const titles = ['server', '', 'score', 'in flight', 'curve', 'price', 'slowness', 'silence', 'errors', 'reported', 'weight'];
    const head = make('tr', {}, ...titles.map((text, place) => make('th', { scope: 'col', ...(place > 1 ? { class: 'number' } : {}) }, text)));
    const rows = guess.servers.map((server) => {
      const parts = server.parts || {};
      const factor = (value) => (value === undefined ? '–' : `× ${trimmed(value, 2)}`);
      const reported = server.reported_load === null ? '–' : `${count(server.reported_load)}, ${age(server.report_age_seconds ?? 0)} ago`;
      const limit = server.limit === null || server.limit === undefined ? '' : ` (${server.fitness === 'benched' ? time(server.limit) : count(server.limit)})`;
      const cells = [time(server.score_seconds), count(server.in_flight), time(parts.curve_seconds), factor(parts.price)];
      cells.push(factor(parts.slowness), time(parts.silence_seconds), time(parts.errors_seconds), reported);
      cells.push(parts.weight === undefined ? '–' : trimmed(parts.weight, 2));
      const row = make('tr', server.name === guess.server ? { class: 'won' } : {});
      row.append(make('td', {}, server.name), make('td', {}, server.fitness + limit));
      row.append(...cells.map((text) => make('td', { class: 'number' }, text)));
      return row;
    });
    const table = make('table', {}, make('thead', {}, head), make('tbody', {}, ...rows));
    const left = guess.considered - guess.servers.length;
    const words = [`Guess ${guess.number}, decided by: ${guess.rule}`];
    if (guess.request_id) words.push(`request id ${guess.request_id}`);
    if (left > 0) words.push(`${left} more servers were considered`);
    return make('div', { class: 'inside', tabindex: '0', role: 'group', 'aria-label': 'Reasons' }, make('p', { class: 'faint' }, words.join(' · ')), table);
  }
}
