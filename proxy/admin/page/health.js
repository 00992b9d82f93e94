
// ---- is all well? In one state, a headline, and reasons ----

const RANK = {good: 0, warn: 1, bad: 2};
const SIGNS = {good: '✓', warn: '!', bad: '✕', idle: '–'};
const RECENT = 600, NOW = 60; // seconds: what counts as lately, and as now, for the headline

function mark(state) {
  return make('span', {class: 'mark-of ' + state, 'aria-hidden': 'true'}, SIGNS[state]);
}

// Null: nothing is known of it, for or against, as of a server that has a name and is looked up when there is mail.
function endpointState(endpoint) {
  if (endpoint.state === null) {
    return 'good';
  }
  const states = {ok: 'good', good: 'good', suspect: 'warn', probing: 'warn', down: 'bad', bad: 'bad', open: 'bad'};
  return states[endpoint.state] || 'warn';
}

function endpointWords(endpoint) {
  if (endpoint.state === null) {
    return 'nothing is known against it';
  }
  if (endpointState(endpoint) === 'good' && endpoint.failures > 0) {
    return 'was tried in vain, ' + plural(endpoint.failures, 'failure') + ' in a row';
  }
  const words = {good: 'answers', warn: 'in doubt', bad: 'does not answer'}[endpointState(endpoint)];
  return words + (endpoint.failures > 0 ? ', ' + plural(endpoint.failures, 'failure') + ' in a row' : '');
}

// The last `seconds` of a list of steps.
function lately(data, list, seconds) {
  const steps = Math.max(1, Math.round(seconds / ((data.history || {}).step || 10)));
  return (list || []).slice(-steps);
}

function historyOf(data, relay) {
  const relays = (data.history || {}).relays || {};
  return Object.hasOwn(relays, relay.name) ? relays[relay.name] : {};
}

// {state, words, look}: of one relay; where there is a look, it is shown so.
function relayHealth(data, relay) {
  const states = relay.endpoints.map(endpointState);
  const bad = states.filter((s) => s === 'bad').length;
  const history = historyOf(data, relay);
  const failed = sum(lately(data, history.failed, RECENT));
  if (states.length > 0 && bad === states.length) {
    return {state: 'bad', words: states.length === 1 ? 'its server does not answer' : 'none of its servers answers'};
  }
  if (bad > 0) {
    return {state: 'warn', words: bad + ' of ' + states.length + ' servers ' + (bad === 1 ? 'does' : 'do') + ' not answer'};
  }
  if (states.includes('warn')) {
    return {state: 'warn', words: 'a server has failed lately and is watched'};
  }
  if (failed > 0 && sum(lately(data, history.accepted, RECENT)) === 0) {
    return {state: 'warn', words: 'it has accepted nothing in the last ten minutes, and failed ' + plural(failed, 'time')};
  }
  if (relay.slowed) {
    return {state: 'warn', words: 'its receiver has asked to be sent less; mail goes more slowly'};
  }
  const known = relay.endpoints.some((e) => e.state !== null) || sum(history.accepted) > 0;
  return {state: 'good', look: known ? 'good' : 'idle', words: known ? 'well' : 'not used lately'};
}

// What a client was told of the relay when somebody still tried it: later it hears only that the relay is down.
function whyOf(data, relay) {
  const tried = data.refusals.find((r) => r.relay === relay.name && /^451 4\.[47]\./.test(r.reply || '') && !r.reply.includes('is down, and'));
  return tried === undefined ? '' : ` (at ${clock(tried.at)}: ${tried.reply})`;
}

function reasonsOf(data) {
  const reasons = [];
  const say = (state, text) => reasons.push({state, text});
  if (!data.serving) {
    say('bad', (data.health || 'no mail is served').trim());
  } else if (!data.ready) {
    say('warn', 'No new sessions are taken: it is starting or ending.');
  }
  if (data.routes && data.routes.damaged && data.serving) {
    say('bad', 'The routing table is damaged: recipients get 451. It is built again by itself.');
  }
  for (const relay of data.relays) {
    const health = relayHealth(data, relay);
    if (health.state !== 'good') {
      say(health.state, 'Relay ' + relay.name + ': ' + health.words + whyOf(data, relay) + '.');
    }
  }
  const listed = new Set(data.relays.flatMap((relay) => relay.endpoints.map((e) => e.address)));
  for (const endpoint of (data.endpoints || []).filter((e) => !listed.has(e.address) && endpointState(e) !== 'good')) {
    say('warn', 'Server ' + endpoint.address + ': ' + endpointWords(endpoint) + '.');
  }
  if (data.ledger && data.ledger.usable === false) {
    say('warn', 'The ledger cannot be used' + (data.ledger.why ? ': ' + data.ledger.why : '') + '. Mail flows without it.');
  }
  if (data.reload && data.reload.last_ok === false) {
    say('warn', 'The last reload failed (' + moment(data.reload.last_at) + '); what was in force before goes on.');
  }
  return reasons.sort((a, b) => RANK[b.state] - RANK[a.state]);
}

// {state, headline, reasons: [{state, text}]}
function judge(data) {
  const reasons = reasonsOf(data);
  const state = reasons.length > 0 ? reasons[0].state : 'good';
  const relays = data.relays.length;
  const dead = data.relays.filter((r) => relayHealth(data, r).state === 'bad').length;
  const moved = data.relays.reduce((n, r) => n + sum(lately(data, historyOf(data, r).accepted, RECENT)), 0);
  const flows = data.relays.some((r) => sum(lately(data, historyOf(data, r).accepted, NOW)) > 0);
  const isAsked = data.relays.some((r) => relayHealth(data, r).look === 'good');
  let headline = moved > 0 ? 'Mail flows' : isAsked ? 'All is well' : 'Ready for mail';
  if (!data.serving || (data.routes && data.routes.damaged) || (relays > 0 && dead === relays)) {
    headline = 'Mail does not flow';
  } else if (dead > 0) {
    const who = dead === 1 ? 'one relay does not answer' : dead + ' relays do not answer';
    headline = flows ? 'Mail flows, but ' + who : who[0].toUpperCase() + who.slice(1);
  } else if (state !== 'good') {
    headline = moved > 0 ? 'Mail flows, with a warning' : 'A warning';
  }
  if (state === 'good') {
    reasons.push({state, text: moved > 0
      ? plural(moved, 'message') + ' handed over to relays in the last ten minutes; every relay that was asked is well.'
      : isAsked ? 'No mail in the last ten minutes; every relay that was asked before is well.'
        : 'Since the start, ' + lasting(data.now - data.started) + ' ago, no relay has been asked.'});
  }
  return {state, headline, reasons};
}
