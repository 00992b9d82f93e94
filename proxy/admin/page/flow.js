
// ---- mail on its way: clients, splitmx, relays; as wide as there is mail, and moving only while it does ----

const ROW = 38, DROP_SECONDS = 40;

function perMinute(data, list) {
  return sum(lately(data, list, 60));
}

function lineWidth(rate) {
  return rate > 0 ? Math.min(18, 3 + 2.2 * Math.log2(1 + rate)) : 1.5;
}

function pipe(svg, path, rate, moves, broken) {
  svg.append(draw('path', {class: 'pipe' + (broken ? ' bad' : rate > 0 ? ' moved' : ''), d: path, 'stroke-width': broken ? 1.5 : lineWidth(rate)}));
  if (moves && !broken) {
    svg.append(draw('path', {class: 'drops', d: path, 'stroke-width': Math.min(5, lineWidth(rate) * 0.6)}));
  }
}

function shorten(text, letters) {
  return text.length > letters ? text.slice(0, Math.max(1, letters - 1)) + '…' : text;
}

function flowRows(data) {
  return data.relays.map((relay) => {
    const history = historyOf(data, relay);
    return {name: plain(relay.name), rate: perMinute(data, history.accepted), failed: perMinute(data, history.failed),
      moves: sum(lately(data, history.accepted, DROP_SECONDS)) > 0, state: relayHealth(data, relay).state, look: relayHealth(data, relay).look};
  });
}

function rateWords(row, narrow) {
  return `${count(row.rate)}/min` + (row.failed === 0 ? '' : narrow ? `, ${SIGNS.bad}${count(row.failed)}` : `, ${count(row.failed)} failed`);
}

function drawEnds(svg, row, x, y, room) {
  svg.append(draw('text', {class: row.look || row.state, x, y: y + 4, 'font-weight': 700}, SIGNS[row.look || row.state]));
  svg.lastChild.style.fill = 'currentColor';
  svg.append(draw('text', {x: x + 16, y: y - 1}, shorten(row.name, Math.floor((room - 16) / 7.4))));
  svg.append(draw('text', {class: 'small', x: x + 16, y: y + 13}, rateWords(row, room < 150)));
}

function showFlow(data) {
  const svg = byId('flow'), width = Math.max(240, Math.round(svg.parentNode.clientWidth - 28));
  const rows = flowRows(data), open = data.sessions.open;
  if (!isNew(svg, [width, rows, open])) {
    return;
  }
  const height = Math.max(2, rows.length) * ROW + 8, centre = height / 2;
  const narrow = width < 480, left = narrow ? 62 : 96, right = Math.min(230, Math.round(width * 0.38));
  const from = Math.round(left + (width - left - right) * 0.42), box = narrow ? 31 : 42;
  const total = sum(rows.map((row) => row.rate));
  svg.setAttribute('viewBox', `0 0 ${width} ${height}`);
  svg.replaceChildren();
  pipe(svg, `M${left - 4} ${centre}H${from - box}`, total, rows.some((row) => row.moves), false);
  rows.forEach((row, i) => {
    const y = 4 + ROW * (i + 0.5) + (rows.length < 2 ? ROW / 2 : 0), x = width - right - 8, bend = (from + box + x) / 2;
    pipe(svg, `M${from + box} ${centre}C${bend} ${centre} ${bend} ${y} ${x} ${y}`, row.rate, row.moves, row.state === 'bad');
    drawEnds(svg, row, width - right, y, right);
  });
  svg.append(draw('text', {x: 0, y: centre - 1}, 'Clients'));
  svg.append(draw('text', {class: 'small', x: 0, y: centre + 13}, `${count(open)} open`));
  svg.append(draw('rect', {class: 'box', x: from - box, y: centre - 15, width: 2 * box, height: 30, rx: 6}));
  svg.append(draw('text', {x: from, y: centre + 4.5, 'text-anchor': 'middle', 'font-weight': 600}, 'splitmx'));
  setText(byId('flow-words'), `${plural(open, 'session')} open. ` + rows.map((row) =>
    `To ${row.name}: ${rateWords(row)}, ${{good: 'well', warn: 'with a warning', bad: 'does not answer', idle: 'not used lately'}[row.look || row.state]}.`).join(' '));
}
