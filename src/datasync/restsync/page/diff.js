// What differs between two values: member by member where both are JSON, line by line where they are text.

import { compact, structure } from "./json.js";

const LARGE = 16 << 10; // signs of a value beyond which only its size is told
const MOST = 200; // differences

/** The differences, each {path, from, to}, where null is: not there. The path is empty for the whole value. */
export function differences(before, after) {
  if (Math.max(before.length, after.length) > LARGE) return [{ path: "", from: sized(before), to: sized(after) }];
  const [one, other] = [structure(before), structure(after)];
  const found = [];
  if (one !== null && other !== null && typeof one !== "string" && typeof other !== "string") members(one, other, "", found);
  else lines(before, after, found);
  return found.length ? found : [{ path: "", from: null, to: null, same: true }];
}

const sized = (text) => `${text.length.toLocaleString("en")} characters`;

function members(one, other, path, found) {
  if (found.length >= MOST) return;
  if (one instanceof Map && other instanceof Map) {
    for (const [name, value] of one) {
      if (other.has(name)) members(value, other.get(name), join(path, name), found);
      else found.push({ path: join(path, name), from: compact(value), to: null });
    }
    for (const [name, value] of other) if (!one.has(name)) found.push({ path: join(path, name), from: null, to: compact(value) });
  } else if (Array.isArray(one) && Array.isArray(other)) {
    items(one, other, path, found);
  } else if (compact(one) !== compact(other)) {
    found.push({ path, from: compact(one), to: compact(other) });
  }
}

/** Items have no names: those at both ends that are the same go together, and so do as many as there are between. */
function items(one, other, path, found) {
  const [begin, end] = ends(one.map(compact), other.map(compact));
  const [left, right] = [one.slice(begin, one.length - end), other.slice(begin, other.length - end)];
  if (left.length === right.length) {
    left.forEach((item, index) => members(item, right[index], `${path}[${begin + index}]`, found));
    return;
  }
  left.forEach((item, index) => found.push({ path: `${path}[${begin + index}]`, from: compact(item), to: null }));
  right.forEach((item, index) => found.push({ path: `${path}[${begin + index}]`, from: null, to: compact(item) }));
}

function lines(before, after, found) {
  const [one, other] = [before.split("\n"), after.split("\n")];
  if (one.length === 1 && other.length === 1) {
    if (before !== after) found.push({ path: "", from: before, to: after });
    return;
  }
  const [begin, end] = ends(one, other);
  const [left, right] = [one.slice(begin, one.length - end), other.slice(begin, other.length - end)];
  for (let index = 0; index < Math.max(left.length, right.length); index++) {
    found.push({ path: `line ${begin + index + 1}`, from: left[index] ?? null, to: right[index] ?? null });
  }
}

/** How many are the same from the start, and how many of the others from the end. */
function ends(one, other) {
  const most = Math.min(one.length, other.length);
  let begin = 0;
  while (begin < most && one[begin] === other[begin]) begin++;
  let end = 0;
  while (end < most - begin && one[one.length - 1 - end] === other[other.length - 1 - end]) end++;
  return [begin, end];
}

const join = (path, name) => {
  const plain = /^[\w-]+$/.test(name) ? name : JSON.stringify(name);
  return path ? `${path}.${plain}` : plain;
};
