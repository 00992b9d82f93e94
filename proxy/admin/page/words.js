
// ---- numbers and times, in words ----

function count(n) {
  return n === null || n === undefined ? '–' : Number(n).toLocaleString('en');
}

function plural(n, one, many) {
  return count(n) + ' ' + (n === 1 ? one : many || one + 's');
}

function size(bytes) {
  const units = ['B', 'kB', 'MB', 'GB', 'TB'];
  let n = bytes, unit = 0;
  while (n >= 1000 && unit + 1 < units.length) {
    n /= 1000;
    unit++;
  }
  return (n < 10 && unit > 0 ? n.toFixed(1) : Math.round(n)) + ' ' + units[unit];
}

function took(ms) {
  if (ms === null || ms === undefined) {
    return '–';
  }
  if (ms < 1) {
    return '< 1 ms';
  }
  return ms < 1000 ? Math.round(ms) + ' ms' : ms < 60000 ? (ms / 1000).toFixed(1) + ' s' : lasting(ms / 1000);
}

function lasting(seconds) {
  const s = Math.max(0, Math.round(seconds));
  if (s < 60) {
    return s + ' s';
  }
  if (s < 3600) {
    return Math.floor(s / 60) + ' min';
  }
  return s < 86400 ? (s / 3600).toFixed(1) + ' h' : Math.floor(s / 86400) + ' d';
}

function clock(time) {
  return new Date(time * 1000).toLocaleTimeString('en-GB');
}

function moment(time) {
  return new Date(time * 1000).toLocaleString('en-GB', {dateStyle: 'medium', timeStyle: 'medium'});
}

function sum(list) {
  return (list || []).reduce((a, b) => a + (b || 0), 0);
}

function most(list) {
  return (list || []).reduce((a, b) => Math.max(a, b || 0), 0);
}
