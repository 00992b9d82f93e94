
// ---- one card a relay ----

function pill(state, text) {
  return make('span', {class: 'pill ' + state}, make('span', {'aria-hidden': 'true'}, SIGNS[state] + ' '), text);
}

function endpointItem(endpoint) {
  const state = endpointState(endpoint);
  return make('li', {}, mark(state),
    told(endpoint.address, 'mono'), ' ' + endpointWords(endpoint) + (endpoint.proxy ? ', told the client by a PROXY header' : ''));
}

// Those of which nothing is known take one line together.
function endpointList(endpoints) {
  const known = endpoints.filter((e) => e.state !== null), others = endpoints.filter((e) => e.state === null);
  return [known.length > 0 ? make('ul', {class: 'endpoints', 'aria-label': 'Servers'}, ...known.map(endpointItem)) : null,
    others.length > 0 ? make('p', {}, 'Not asked lately: ', others.slice(0, 2).flatMap((e, i) => [i > 0 ? ', ' : '', told(e.address, 'mono')]),
      others.length > 2 ? ` and ${others.length - 2} more.` : '.') : null];
}

function relayCard(data, relay) {
  const health = relayHealth(data, relay), own = historyOf(data, relay);
  const to = relay.recipients || {};
  const limit = relay.connections_max ? `at most ${plural(relay.connections_max, 'connection')} to each server` : '';
  const since = `Since the start: ${count(to.accepted)} recipients accepted, ${count(to.deferred)} deferred, ${count(to.refused)} refused; ${size(relay.bytes || 0)}`;
  const head = make('div', {},
    make('header', {}, make('h3', {}, told(relay.name)), pill(health.look || health.state, health.words),
      relay.paced ? make('span', {class: 'soft'}, relay.slowed ? 'slowed down' : 'paced') : null),
    ...endpointList(relay.endpoints),
    make('p', {}, since + (limit ? '; ' + limit : '') + '.'));
  return make('article', {class: 'relay'}, head, rateGraph(data.history || {}, own, relay.name),
    latencyGraph(data.history || {}, own, relay.name));
}

function showRelays(data) {
  const place = byId('relays');
  if (isNew(place, [data.relays, data.history])) {
    fill(place, data.relays.length > 0 ? data.relays.map((relay) => relayCard(data, relay))
      : [make('p', {class: 'empty'}, 'No relay is configured.')]);
  }
}
