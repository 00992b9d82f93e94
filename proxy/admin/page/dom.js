
// ---- elements; what the daemon says becomes text in them, and nothing else ----

const SVG = 'http://www.w3.org/2000/svg';

// What a client has sent may hold signs that nobody sees, or that turn the order of the others round.
const HIDDEN = /[\u0000-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]/g;

function plain(value) {
  return String(value).replace(HIDDEN, (c) => '\\u{' + c.codePointAt(0).toString(16) + '}');
}

function byId(id) {
  return document.getElementById(id);
}

function fill(parent, children) {
  parent.replaceChildren(...children.flat(2).filter((c) => c !== null && c !== undefined && c !== ''));
  return parent;
}

// make('p', {class: 'soft'}, 'text', element, ...): strings become text.
function make(name, attributes, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes || {})) {
    element.setAttribute(key, value);
  }
  return fill(element, children);
}

function draw(name, attributes, text) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes || {})) {
    element.setAttribute(key, value);
  }
  if (text !== undefined) {
    element.textContent = text;
  }
  return element;
}

// A name, an address, a reply: from elsewhere, so its direction is its own.
function told(value, kind) {
  return make('bdi', kind ? {class: kind} : {}, plain(value));
}

function code(value) {
  const element = make('code', {});
  element.append(told(value));
  return element;
}

// No more work, and no more for a screen reader to notice, than there are changes.
function setText(element, text) {
  if (element.textContent !== text) {
    element.textContent = text;
  }
}

// What is drawn anew only when it says something else. True: it does.
function isNew(element, value) {
  const text = JSON.stringify(value);
  if (element.drawnOf === text) {
    return false;
  }
  element.drawnOf = text;
  return true;
}

// facts([['Idle', 3], ...]): what is null is not known, and not shown.
function facts(pairs) {
  return make('dl', {class: 'facts'}, ...pairs.filter(([, value]) => value !== null && value !== undefined)
    .map(([name, value]) => [make('dt', {}, name), make('dd', {}, value instanceof Node ? value : told(value))]));
}
