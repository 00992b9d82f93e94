
// ---- the look-up box: what `splitmx route` says, in sentences ----

const TLS_WORDS = {none: 'without TLS', may: 'with TLS where it is offered, without where not', opportunistic: 'with TLS where it is offered, without where not',
  require: 'with TLS or not at all', encrypt: 'with TLS or not at all', verify: 'with TLS and a certificate that is valid for its name, or not at all'};

function matchedWords(route) {
  const before = (route.tried || []).filter((t) => !t.found).map((t) => t.key);
  const tried = before.length > 0 ? [make('p', {class: 'soft'}, 'Looked for first, and not found: ',
    before.flatMap((key, i) => [i > 0 ? ', ' : '', code(key)]), '.')] : [];
  if (route.matched === null) {
    return [...tried, make('p', {}, tried.length > 0 ? 'No key of the routes matches.' : 'No key of the routes was looked for.')];
  }
  return [...tried, make('p', {}, 'The key ', code(route.matched), ' matches', ...(route.source ? [', at ', code(route.source)] : []), '.')];
}

function hopText(hop) {
  const port = hop.port ? ':' + hop.port : '';
  return hop.mx ? `the mail hosts (MX) of ${hop.host}${port}` : `${hop.host}${port}`;
}

function endpointOf(endpoint) {
  const own = {state: endpoint.health ?? null, failures: endpoint.failures || 0};
  const state = own.state === null ? 'idle' : endpointState(own), words = endpointWords(own);
  return make('li', {}, mark(state),
    told(endpoint.address || '–', 'mono'), endpoint.host && !String(endpoint.address).includes(endpoint.host) ? [' (', told(endpoint.host), ')'] : null, ' ' + words);
}

function hopItem(route, hop, i) {
  const own = (route.endpoints || []).filter((e) => e.next_hop === i);
  return make('li', {}, (i > 0 ? 'then ' : ''), code(hopText(hop)),
    own.length > 0 ? make('ul', {class: 'endpoints'}, ...own.map(endpointOf)) : null);
}

function relayWords(route) {
  const words = [make('p', {}, 'It goes to relay ', make('b', {}, told(route.relay)), ', ',
    TLS_WORDS[route.tls] || 'TLS: ' + plain(route.tls), '.')];
  if ((route.next_hops || []).length > 0) {
    words.push(make('ul', {'aria-label': 'Next hops'}, ...route.next_hops.map((hop, i) => hopItem(route, hop, i))));
  }
  if (route.fallback) {
    words.push(make('p', {}, 'While none of these answers, it goes to ', make('b', {}, told(route.fallback)), '.'));
  } else {
    words.push(make('p', {}, 'While none of these answers, its sender is told to try again: there is no fallback.'));
  }
  if (route.unknown_recipient) {
    words.push(make('p', {}, 'When the server does not know the recipient, ', make('b', {}, told(route.unknown_recipient)), ' is asked.'));
  }
  return words;
}

function actionWords(action) {
  const kind = action.slice(0, action.indexOf(':')), rest = action.slice(action.indexOf(':') + 1);
  const words = {error: 'It is refused: ', retry: 'Its sender is told to try again: ', discard: 'It is accepted and thrown away'}[kind];
  return [make('p', {}, words === undefined ? 'Action: ' : words, rest || words === undefined ? code(words === undefined ? action : rest) : '', '.')];
}

function explain(route) {
  const title = make('p', {}, make('b', {}, told(route.address)));
  const old = last !== null && last.data.reload.last_ok === false
    ? [make('p', {class: 'soft'}, 'The last reload failed: this is what the routes say that are in force since before.')] : [];
  return make('div', {}, title, ...old, ...matchedWords(route), ...(route.relay ? relayWords(route) : actionWords(route.action || '')));
}

async function lookUp(address) {
  const answer = await fetch('/route.json?address=' + encodeURIComponent(address), ASKING());
  const told = await answer.json().catch(() => ({}));
  return answer.ok ? {route: told} : {error: told.error || `no answer (${answer.status})`};
}

let lookUps = 0; // an answer that comes late is not that of the last question

async function onLookUp(event) {
  event.preventDefault();
  const address = byId('address').value.trim(), output = byId('answer'), mine = ++lookUps;
  if (address === '') {
    fill(output, []);
    byId('address').focus();
    return;
  }
  const result = await lookUp(address).catch(() => ({error: 'splitmx does not answer'}));
  if (mine === lookUps) {
    fill(output, [result.route ? explain(result.route)
      : make('div', {}, make('p', {}, mark('bad'), told(result.error)))]);
  }
}
