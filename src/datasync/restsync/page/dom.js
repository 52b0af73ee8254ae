// Making elements and keeping them up to date, and numbers and times as a person reads them.

/** An element; text becomes text, never markup. */
export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "class") element.className = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

const SVG = "http://www.w3.org/2000/svg";

/** An element of a drawing. */
export function draw(tag, properties = {}, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(properties)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/** Its state as a word with a sign, so that the colour says nothing alone. */
export function badge(word, tone) {
  const sign = draw("svg", { viewBox: "0 0 32 32", "aria-hidden": "true" }, draw("use", { href: `#sign-${tone}` }));
  return make("span", { class: "badge", "data-tone": tone }, sign, word);
}

const whole = new Intl.NumberFormat("en");

/** 12,345 */
export const count = (number) => whole.format(number);

/** "1 key", "2 keys" */
export const many = (number, unit) => `${count(number)} ${unit}${number === 1 ? "" : "s"}`;

/** A rate, with as many digits as it is worth. */
export function rate(number) {
  if (number === 0) return "0";
  if (number < 10) return number.toFixed(1);
  return count(Math.round(number));
}

/** A time span: "840 ms", "12 s", "3 min", "2 h 10 min", "4 days". */
export function span(seconds) {
  if (seconds < 0.001) return "under 1 ms";
  if (seconds < 1) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (seconds < 100) return `${Math.round(seconds)} s`;
  const minutes = Math.round(seconds / 60);
  if (minutes < 100) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  if (hours < 48) return `${hours} h ${minutes % 60} min`;
  return `${Math.floor(hours / 24)} days`;
}

/** How long something has lasted, in whole seconds: it is shown each second. */
export const lasting = (seconds) => (seconds < 1 ? "under 1 s" : seconds < 100 ? `${Math.floor(seconds)} s` : span(seconds));

const FORMS = {
  for: (seconds) => `for ${lasting(seconds)}`,
  ago: (seconds) => (seconds < 2 ? "just now" : seconds < 10 ? "seconds ago" : `${lasting(seconds)} ago`),
};
let present = 0;

/** How long ago a moment was (Unix time), as "for 3 min" or as "3 min ago"; it goes on with `pass`. */
export function since(moment, form) {
  return make("span", { "data-since": moment, "data-form": form }, FORMS[form](present - moment));
}

/** It is `now`: bring all that `since` made up to date, in place. */
export function pass(now) {
  present = now;
  for (const element of document.querySelectorAll("[data-since]")) {
    set(element, FORMS[element.dataset.form](now - Number(element.dataset.since)));
  }
}

/** A text in which nothing hides: signs that cannot be seen, or turn others around, as escapes; line ends stay. */
export const plain = (text) => text.replace(/[\0-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g,
  (sign) => `\\u${sign.charCodeAt(0).toString(16).padStart(4, "0")}`);

/** The time of day. */
export const clock = (unix) => new Date(unix * 1000).toLocaleTimeString("en-GB");

/** Put `children` in place of what an element holds. */
export function fill(element, ...children) {
  element.replaceChildren(...children.filter((child) => child !== null && child !== undefined));
}

function set(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Set a text only where it differs, so that selections and readers are left alone. */
export function say(id, text) {
  set(document.getElementById(id), text);
}

const settled = new WeakMap();

/** Have a list show `entries`, each {key, data, build}. An element stays as long as its `data` is the same, with the
 * focus and the marked text that may be in it; one in which somebody has marked text stays as it is until then. */
export function settle(list, entries) {
  const before = settled.get(list) ?? new Map();
  const after = new Map();
  for (const { key, data, build } of entries) {
    const mark = JSON.stringify(data);
    const known = before.get(key);
    if (known && (known.mark === mark || isSelected(known.element))) {
      after.set(key, known);
      continue;
    }
    const element = build();
    after.set(key, { mark, element });
    if (!known) continue;
    const focused = known.element.contains(document.activeElement);
    const itself = known.element === document.activeElement;
    known.element.replaceWith(element);
    if (focused) (itself ? element : element.querySelector("a, button") ?? element).focus({ preventScroll: true });
  }
  for (const [key, { element }] of before) if (!after.has(key)) element.remove();
  let index = 0;
  for (const { element } of after.values()) {
    if (list.children[index] !== element) list.insertBefore(element, list.children[index] ?? null);
    index++;
  }
  settled.set(list, after);
}

/** Whether somebody has marked text there, perhaps to copy it: it should stand still. */
function isSelected(element) {
  const selection = document.getSelection();
  return selection?.type === "Range" && selection.containsNode(element, true);
}
