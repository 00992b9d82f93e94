
// ---- an hour as a small graph: bars of messages, lines of latency ----

const MINUTES = 60, HEIGHT = 46;

// Steps of a few seconds into whole minutes, which stay where they are while the hour moves on.
function byMinute(history, list, combine) {
  const step = history.step || 10, end = history.end || 0, last = Math.floor((end - 1) / 60);
  const minutes = Array.from({length: MINUTES}, () => []);
  (list || []).forEach((value, i) => {
    const minute = Math.floor((end - (list.length - i) * step) / 60) - last + MINUTES - 1;
    if (minute >= 0 && minute < MINUTES && value !== null) {
      minutes[minute].push(value);
    }
  });
  return minutes.map((values) => (values.length > 0 ? combine(values) : null));
}

function middle(values) {
  return [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)];
}

function frame() {
  const svg = draw('svg', {viewBox: `0 0 ${MINUTES} ${HEIGHT}`, preserveAspectRatio: 'none', 'aria-hidden': 'true'});
  svg.append(draw('line', {class: 'base', x1: 0, x2: MINUTES, y1: HEIGHT - 0.5, y2: HEIGHT - 0.5}));
  return svg;
}

function labelled(name, value, words, svg) {
  const caption = make('p', {class: 'caption'}, make('span', {}, name), make('span', {}, make('b', {}, value)));
  const axis = make('div', {class: 'axis', 'aria-hidden': 'true'}, make('span', {}, '1 h ago'), make('span', {}, 'now'));
  return make('div', {class: 'graph', role: 'group', 'aria-label': words}, caption, svg, axis);
}

function rateGraph(history, own, name) {
  const taken = byMinute(history, own.accepted, sum), failed = byMinute(history, own.failed, sum);
  const top = Math.max(1, most(taken.map((n, i) => (n || 0) + (failed[i] || 0))));
  const svg = frame();
  const bar = (kind, i, from, n) => svg.append(draw('rect', {class: kind, x: i + 0.1, width: 0.8,
    y: HEIGHT - 1 - (from + n) / top * (HEIGHT - 4), height: n / top * (HEIGHT - 4)}));
  taken.forEach((n, i) => {
    if (n) {
      bar('taken', i, 0, n);
    }
    if (failed[i]) {
      bar('failed', i, n || 0, failed[i]);
    }
  });
  const total = sum(taken), lost = sum(failed);
  const words = `${name}: ${count(total)} accepted and ${count(lost)} failed in the last hour, at most ${count(top)} a minute`;
  return labelled('Messages', count(total) + (lost > 0 ? ` · ${count(lost)} failed` : '') + (total + lost > 0 ? ` · peak ${count(top)}/min` : ''),
    words, svg);
}

function latencyGraph(history, own, name) {
  const half = byMinute(history, own.p50, middle), slow = byMinute(history, own.p99, most);
  const top = Math.max(1, most(slow), most(half));
  const svg = frame();
  const y = (ms) => HEIGHT - 2 - ms / top * (HEIGHT - 6);
  slow.forEach((ms, i) => {
    if (ms !== null) {
      svg.append(draw('rect', {class: 'p99', x: i, width: 1, y: y(ms), height: Math.max(0, HEIGHT - 1 - y(ms))}));
    }
  });
  let path = '', before = null;
  half.forEach((ms, i) => {
    if (ms !== null) {
      path += before === null ? `M${i} ${y(ms)}H${i + 1}` : `L${i} ${y(ms)}H${i + 1}`;
    }
    before = ms;
  });
  svg.append(draw('path', {class: 'p50', d: path}));
  const known = half.filter((ms) => ms !== null);
  const now = known.length > 0 ? took(known[known.length - 1]) : '–';
  const worst = most(slow);
  const words = known.length > 0 ? `${name}: half within ${now} lately, 99 of 100 within ${took(worst)} in the last hour` : `${name}: no times in the last hour`;
  return labelled('Latency', known.length > 0 ? `p50 ${now} · p99 ${took(worst)}` : '–', words, svg);
}
