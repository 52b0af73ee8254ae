// What differs between two values: member by member where both are JSON, line by line where they are text.

import { compact, structure } from "./json.js";

const LARGE = 16 << 10; // signs of a value beyond which it is not taken apart
const MOST = 200; // differences
const CELLS = 40_000; // pairs of lines, or items, that are compared

/** The differences, each {path, from, to}, where null is: not there. The path is empty for the whole value; one with
 * `same` says that there is none that counts. */
export function differences(before, after) {
  if (before === after) return [{ path: "", from: null, to: null, same: true }];
  if (Math.max(before.length, after.length) > LARGE) return [{ path: "", from: before, to: after }];
  const [one, other] = [structure(before), structure(after)];
  const found = [];
  if (one !== null && other !== null && typeof one !== "string" && typeof other !== "string") members(one, other, "", found);
  else lines(before, after, found);
  return found.length ? found : [{ path: "", from: null, to: null, same: true }];
}

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

/** Items have no names: those that are the same in the same order go together, and so do as many as there are between. */
function items(one, other, path, found) {
  for (const [left, right] of apart(one.map(compact), other.map(compact))) {
    if (left.length === right.length) {
      left.forEach((index, at) => members(one[index], other[right[at]], `${path}[${right[at]}]`, found));
      continue;
    }
    for (const index of left) found.push({ path: `${path}[${index}]`, from: compact(one[index]), to: null });
    for (const index of right) found.push({ path: `${path}[${index}]`, from: null, to: compact(other[index]) });
  }
}

function lines(before, after, found) {
  const [one, other] = [before.split("\n"), after.split("\n")];
  if (one.length === 1 || other.length === 1) {
    if (before !== after) found.push({ path: "", from: before, to: after });
    return;
  }
  for (const [left, right] of apart(one, other)) {
    if (left.length === right.length) {
      left.forEach((index, at) => found.push({ path: `line ${right[at] + 1}`, from: one[index], to: other[right[at]] }));
      continue;
    }
    for (const index of left) found.push({ path: `line ${index + 1}`, from: one[index], to: null });
    for (const index of right) found.push({ path: `line ${index + 1}`, from: null, to: other[index] });
  }
}

/** Where two lists of texts differ: the places on both sides between what they have in common, in order. */
function apart(one, other) {
  const most = Math.min(one.length, other.length);
  let begin = 0;
  while (begin < most && one[begin] === other[begin]) begin++;
  let end = 0;
  while (end < most - begin && one[one.length - 1 - end] === other[other.length - 1 - end]) end++;
  const [height, width] = [one.length - end - begin, other.length - end - begin];
  const span = (from, to) => Array.from({ length: to - from }, (_, at) => begin + from + at);
  if (height * width > CELLS) return [[span(0, height), span(0, width)]];

  // the longest common subsequence: how much of it lies behind each pair of places
  const common = Array.from({ length: height + 1 }, () => new Uint16Array(width + 1));
  for (let row = height - 1; row >= 0; row--) {
    for (let column = width - 1; column >= 0; column--) {
      common[row][column] = one[begin + row] === other[begin + column]
        ? common[row + 1][column + 1] + 1
        : Math.max(common[row + 1][column], common[row][column + 1]);
    }
  }
  const found = [];
  let [row, column, top, left] = [0, 0, 0, 0];
  while (row < height && column < width) {
    if (one[begin + row] !== other[begin + column]) {
      if (common[row + 1][column] >= common[row][column + 1]) row++;
      else column++;
      continue;
    }
    if (row > top || column > left) found.push([span(top, row), span(left, column)]);
    [top, left] = [++row, ++column];
  }
  if (height > top || width > left) found.push([span(top, height), span(left, width)]);
  return found;
}

const join = (path, name) => {
  const plain = /^[\w-]+$/.test(name) ? name : JSON.stringify(name);
  return path ? `${path}.${plain}` : plain;
};
