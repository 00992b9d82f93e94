
// ---- recent transactions; those that are open stay open while others come ----

const shown = new Map(); // what a transaction says → its element

function outcomeState(outcome) {
  return outcome === 'accepted' ? 'good' : outcome === 'rejected' || outcome === 'refused' ? 'bad' : 'warn';
}

// `250/refused`: the answer to RCPT, and what became of the message there (docs/logs.md, `transaction`).
const MARKS = {none: ['warn', 'not handed over'], accepted: ['good', 'accepted'], refused: ['bad', 'message refused'],
  unknown: ['warn', 'message not answered']};

function recipientOutcome(t, recipient) {
  const [, rcpt, mark] = /^(\d{3})(?:\/(\w+))?$/.exec(recipient.reply || '') || [];
  if (rcpt === undefined) {
    return [{2: 'good', 5: 'bad'}[String(recipient.reply || '')[0]] || 'warn', recipient.reply || 'not asked'];
  }
  if (rcpt[0] !== '2') {
    return [rcpt[0] === '5' ? 'bad' : 'warn', 'recipient refused: ' + rcpt];
  }
  return mark === undefined ? [outcomeState(t.outcome), t.outcome] : MARKS[mark] || ['warn', mark];
}

function recipientRow(address, relay, state, words) {
  return make('tr', {}, make('td', {}, told(address)), make('td', {}, relay === null ? '–' : told(relay)), make('td', {}, mark(state), told(words)));
}

function answerState(reply) {
  return (reply || '')[0] === '5' ? 'bad' : 'warn';
}

function inside(t) {
  const client = make('p', {}, moment(t.at) + '. Client ', told(t.client, 'mono'), ' ',
    t.client_name ? told(t.client_name) : 'without a name', ', HELO ', t.helo ? told(t.helo) : 'none', ', ',
    t.tls ? told(t.tls) : 'no TLS', ', session ', told(t.session, 'mono'), '.');
  const head = make('thead', {}, make('tr', {}, ...['Recipient', 'Relay', 'Outcome'].map((name) => make('th', {scope: 'col'}, name))));
  return make('div', {class: 'inside'}, client, make('table', {}, make('caption', {class: 'spoken'}, 'Outcome of each recipient'),
    head, make('tbody', {}, ...t.recipients.map((r) => recipientRow(r.address, r.relay, ...recipientOutcome(t, r))),
    ...t.refused.map((r) => recipientRow(r.recipient, r.relay, answerState(r.reply), r.reply || '')))),
    t.more_recipients > 0 ? make('p', {}, `and ${plural(t.more_recipients, 'recipient')} more`) : null,
    t.reply ? make('p', {}, 'Answer to the client: ', told(t.reply)) : null);
}

function transactionItem(t) {
  const first = t.recipients.length > 0 ? t.recipients[0].address : 'no recipient';
  const others = t.recipients.length - 1 + (t.more_recipients || 0);
  const more = (others > 0 ? ` and ${others} more` : '') + (t.refused.length > 0 ? `, ${t.refused.length} not taken` : '');
  const summary = make('summary', {}, make('span', {class: 'time'}, clock(t.at)),
    make('bdi', {class: 'from'}, t.from ? plain(t.from) : '<>'), make('bdi', {class: 'to'}, '→ ' + plain(first) + more),
    make('span', {class: 'pill ' + outcomeState(t.outcome)}, make('span', {'aria-hidden': 'true'}, SIGNS[outcomeState(t.outcome)] + ' '), plain(t.outcome)),
    make('span', {class: 'cost'}, (t.size === null ? '–' : size(t.size)) + ', ' + took(t.ms)));
  const details = make('details', {}, summary);
  details.addEventListener('toggle', () => {
    if (details.open && details.childElementCount === 1) {
      details.append(inside(t));
    }
  });
  return details;
}

// ---- recipients that were answered 4xx or 5xx, by the server behind or here ----

function refusalRow(r) {
  const state = answerState(r.reply);
  return make('tr', {}, make('td', {}, clock(r.at)), make('td', {}, told(r.recipient)), make('td', {}, r.relay ? told(r.relay) : 'refused here'),
    make('td', {}, mark(state), told(r.reply || '')),
    make('td', {}, told(r.client_name || r.client || ''), r.helo ? ' (HELO ' : '', r.helo ? told(r.helo) : '', r.helo ? ')' : ''));
}

function showRefusals(data) {
  const place = byId('refusals');
  setText(byId('refusals-count'), data.refusals.length > 0 ? `the last ${data.refusals.length}, newest first` : '');
  if (!isNew(place, data.refusals)) {
    return;
  }
  if (data.refusals.length === 0) {
    fill(place, [make('p', {class: 'empty'}, 'None since the start.')]);
    return;
  }
  const head = make('thead', {}, make('tr', {}, ...['Time', 'Recipient', 'Relay', 'Answer', 'Client'].map((name) => make('th', {scope: 'col'}, name))));
  fill(place, [make('table', {}, make('caption', {class: 'spoken'}, 'Recipients that were not taken'), head,
    make('tbody', {}, ...data.refusals.map(refusalRow)))]);
}

// Two that say the same are told apart by their number from the oldest.
function keyed(transactions) {
  const seen = new Map();
  return [...transactions].reverse().map((t) => {
    const text = JSON.stringify(t), n = (seen.get(text) || 0) + 1;
    seen.set(text, n);
    return [`${n} ${text}`, t];
  }).reverse();
}

function showTransactions(data) {
  const place = byId('transactions');
  const now = keyed(data.transactions.map((t) => ({...t, refused: data.refusals.filter((r) => r.id !== null && r.id === t.id)})));
  const keys = new Set(now.map(([key]) => key));
  setText(byId('recent-count'), now.length > 0 ? `the last ${now.length}, newest first` : '');
  for (const [key, element] of shown) {
    if (!keys.has(key)) {
      element.remove();
      shown.delete(key);
    }
  }
  if (now.length === 0) {
    fill(place, [make('p', {class: 'empty'}, 'No transaction since the start.')]);
    return;
  }
  place.querySelector('.empty')?.remove();
  let after = place.firstElementChild; // moves only what is not in its place, so that the focus stays
  for (const [key, t] of now) {
    if (!shown.has(key)) {
      shown.set(key, transactionItem(t));
    }
    const element = shown.get(key);
    if (element === after) {
      after = after.nextElementSibling;
    } else {
      place.insertBefore(element, after);
    }
  }
}
