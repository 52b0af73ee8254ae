// JSON as it is stored: laid out, coloured and taken apart, with all digits of its numbers and every member.

import { make } from "./dom.js";

const TOKENS = /"[^"\\]*(?:\\.[^"\\]*)*"|[{}[\],:]|[^\s{}[\],:"]+/g;

/** Whether a text is JSON. */
export function isJson(text) {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}

/** With line ends and indents, and otherwise as it is. */
export function laidOut(text) {
  let depth = 0;
  const line = (deeper) => `\n${"  ".repeat((depth += deeper))}`;
  const spaced = ([sign]) => {
    if (sign === "{" || sign === "[") return sign + line(1);
    if (sign === "}" || sign === "]") return line(-1) + sign;
    if (sign === ",") return sign + line(0);
    return sign === ":" ? ": " : sign;
  };
  return Array.from(text.matchAll(/"[^"\\]*(?:\\.[^"\\]*)*"|\{\s*\}|\[\s*\]|[{}[\],:]|[^\s{}[\],:"]+/g), spaced).join("");
}

/** Append it to an element, with its names, texts and numbers told apart. */
export function colour(element, text) {
  let end = 0;
  for (const match of text.matchAll(/("[^"\\]*(?:\\.[^"\\]*)*")(\s*:)?|-?\d[\d.eE+-]*|\b(?:true|false|null)\b/g)) {
    element.append(text.slice(end, match.index));
    const word = match[1] ?? match[0];
    element.append(make("span", { class: match[2] ? "k" : match[1] ? "s" : "n" }, word));
    end = match.index + word.length;
  }
  element.append(text.slice(end));
}

/** Its structure: a Map for an object, an array, and for the rest the text as it is stored; null for what is not JSON,
 * or names a member twice, which a Map could not hold. */
export function structure(text) {
  if (!isJson(text)) return null;
  const tokens = text.match(TOKENS);
  let at = 0;
  let twice = false;
  const value = () => {
    const token = tokens[at++];
    if (token === "[") {
      const items = [];
      while (tokens[at] !== "]") {
        items.push(value());
        if (tokens[at] === ",") at++;
      }
      at++;
      return items;
    }
    if (token !== "{") return token;
    const members = new Map();
    while (tokens[at] !== "}") {
      const name = JSON.parse(tokens[at]);
      at += 2;
      twice ||= members.has(name);
      members.set(name, value());
      if (tokens[at] === ",") at++;
    }
    at++;
    return members;
  };
  const whole = value();
  return twice ? null : whole;
}

/** A structure on one line. */
export function compact(whole) {
  if (typeof whole === "string") return whole;
  if (Array.isArray(whole)) return `[${whole.map(compact).join(", ")}]`;
  return `{${[...whole].map(([name, value]) => `${JSON.stringify(name)}: ${compact(value)}`).join(", ")}}`;
}
