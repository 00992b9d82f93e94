
// ---- the page: asks while somebody looks, and says when nobody answers ----

const EVERY = 5000, PATIENCE = 8000, PAUSE_MAX = 60000;
const SIGN_PATHS = {good: 'M4 12.5l5.5 5.5L20 7', warn: 'M12 4v10M12 18.5v.5', bad: 'M5 5l14 14M19 5L5 19', unknown: 'M12 12v.5'};
const ICON_COLOURS = {good: '17733f', warn: 'b87000', bad: 'b3261e', unknown: '777777'};

let last = null; // {data, seen: by our clock}
let pause = EVERY, timer = 0, asking = false, state = '', said = '';

function ASKING() {
  return {cache: 'no-store', credentials: 'omit', redirect: 'error', signal: AbortSignal.timeout(PATIENCE)};
}

function showState(verdict) {
  const words = verdict.headline + '. ' + verdict.reasons.map((r) => r.text).join(' ');
  if (state !== verdict.state) {
    document.body.dataset.state = verdict.state;
    byId('sign').replaceChildren(draw('path', {d: SIGN_PATHS[verdict.state], fill: 'none', stroke: 'currentColor',
      'stroke-width': 3.2, 'stroke-linecap': 'round', 'stroke-linejoin': 'round'}));
    byId('icon').href = 'data:image/svg+xml,' + encodeURIComponent('<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16"><circle cx="8" cy="8" r="7" fill="#'
      + ICON_COLOURS[verdict.state] + '"/></svg>');
  }
  setText(byId('headline'), verdict.headline);
  if (isNew(byId('reasons'), verdict.reasons)) {
    fill(byId('reasons'), verdict.reasons.map((r) => make('li', {}, told(r.text))));
  }
  // Said aloud only when health changes; the numbers in it change all the time.
  const essence = verdict.state === 'good' ? 'good' : plain(words).replace(/\d+/g, '');
  if (said !== '' && said !== essence) {
    setText(byId('spoken'), plain(words));
  }
  said = essence;
  state = verdict.state;
}

function tile(name, value, more) {
  return make('div', {}, make('dt', {}, name), make('dd', {}, value, more ? make('small', {}, ' ' + more) : ''));
}

function showTiles(data) {
  const m = data.messages, r = data.recipients, rate = sum(lately(data, (data.history || {}).sessions, 60));
  const figures = [['Sessions open', count(data.sessions.open), `${count(rate)} new/min`], ['Sessions so far', count(data.sessions.total), ''],
    ['Messages accepted', count(m.accepted), m.deferred + m.refused > 0 ? `${count(m.deferred)} deferred, ${count(m.refused)} refused after DATA` : ''],
    ['Recipients deferred', count(r.deferred), '4xx'], ['Recipients refused', count(r.refused), '5xx']];
  if (isNew(byId('tiles'), figures)) {
    fill(byId('tiles'), figures.map((f) => tile(...f)));
  }
}

function showReload(data) {
  const place = byId('reload'), reload = data.reload, routes = data.routes;
  if (!isNew(place, [reload, routes])) {
    return;
  }
  const errors = reload.last_ok === false ? reload.errors || [] : [];
  fill(place, [facts([
    ['Routes', `${count(routes.count)}, generation ${count(routes.generation)}` + (routes.damaged ? ', damaged' : '')],
    ['Reloads', reload.count + reload.failed > 0 ? `${count(reload.count)}, of which ${count(reload.failed)} failed` : 'none since the start'],
    ['Last', reload.last_at ? moment(reload.last_at) + (reload.last_ok ? ', good' : ', failed') : null],
    ['Last good', reload.last_good_at ? moment(reload.last_good_at) : null]]),
    errors.length > 0 ? make('ul', {class: 'errors', 'aria-label': 'Errors of the last reload'}, ...errors.map((e) => make('li', {class: 'mono'}, told(e)))) : null]);
}

function showLedger(data) {
  const place = byId('ledger'), l = data.ledger;
  if (l && isNew(place, l)) {
    fill(place, [facts([['State', l.usable ? 'in use' : 'cannot be used'], ['Why', l.why],
      ['Not settled', `${plural(l.sets, 'message')}, ${plural(l.recipients, 'recipient')}`], ['Records', count(l.records)],
      ['Size', size(l.size) + (l.max_size ? ' of ' + size(l.max_size) : '')]])]);
  }
}

function showProcess(data) {
  const place = byId('pool'), up = lasting(data.now - data.started);
  if (isNew(place, [up, data.workers, data.pool])) {
    fill(place, [facts([['Running for', up], ['Workers', data.workers], ['Idle connections', count(data.pool.idle)],
      ['Waiting for one', count(data.pool.waiting)]])]);
  }
}

function show(data) {
  const verdict = judge(data);
  showState(verdict);
  setText(byId('version'), plain(data.version));
  setText(byId('hostname'), plain(data.hostname || ''));
  document.title = `${SIGNS[verdict.state]} ${verdict.headline} – ${plain(data.hostname || 'splitmx')}`;
  delete document.body.dataset.away;
  setText(byId('seen'), 'as of ' + clock(last.seen));
  for (const part of [showTiles, showFlow, showRelays, showTransactions, showRefusals, showReload, showLedger, showProcess]) {
    part(data);
  }
}

function showAway() {
  const seen = last === null ? 'It has not answered since this page was opened.' : 'Last seen at ' + clock(last.seen) + '; what is below was so then.';
  document.body.dataset.away = '';
  document.title = `${SIGNS.bad} No answer – splitmx`;
  setText(byId('seen'), (last === null ? 'no answer' : 'last seen at ' + clock(last.seen)) + `; next try in ${Math.ceil(pause / 1000)} s`);
  showState({state: 'bad', headline: 'splitmx does not answer', reasons: [{state: 'bad', text: seen}]});
}

async function ask() {
  clearTimeout(timer);
  if (asking || document.hidden) {
    return;
  }
  asking = true;
  try {
    const answer = await fetch('/page.json', ASKING());
    if (!answer.ok) {
      throw new Error(answer.status);
    }
    last = {data: await answer.json(), seen: Date.now() / 1000};
    pause = EVERY;
    show(last.data);
  } catch (error) {
    console.info('page.json:', error.message);
    pause = Math.min(PAUSE_MAX, pause * 1.5);
    showAway();
  }
  asking = false;
  if (!document.hidden) {
    timer = setTimeout(ask, pause);
  }
}

document.addEventListener('visibilitychange', () => {
  if (document.hidden) {
    clearTimeout(timer);
  } else {
    pause = EVERY;
    ask();
  }
});
window.addEventListener('resize', () => last !== null && showFlow(last.data));
byId('look').addEventListener('submit', onLookUp);
ask();
