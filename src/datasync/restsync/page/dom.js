// Making elements, and numbers and times as a person reads them.

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

/** How long ago, in words that do not flicker. */
export const ago = (seconds) => (seconds < 2 ? "just now" : seconds < 10 ? "seconds ago" : `${span(seconds)} ago`);

/** The time of day. */
export const clock = (unix) => new Date(unix * 1000).toLocaleTimeString("en-GB");

/** Put `children` in place of what an element holds. */
export function fill(element, ...children) {
  element.replaceChildren(...children.filter((child) => child !== null && child !== undefined));
}

/** Set a text only where it differs, so that selections and readers are left alone. */
export function say(id, text) {
  const element = document.getElementById(id);
  if (element.textContent !== text) element.textContent = text;
}
