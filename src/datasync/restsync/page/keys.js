// All keys of the agent, in order: read once, page by page, and then kept up to date by the stream of changes.

import { json } from "./api.js";
import { onChanges } from "./changes.js";

const PAGE = 10_000;
const MOST = 250_000; // keys that are read at most: a browser keeps them all
const AGAIN = 5000; // milliseconds until they are read again after a fault

/** What is known: `sorted` keys; whether they are `complete`, cut off at so many (`cut`), or were never read (null as
 * `read`, the Unix time of it); `live` while the stream keeps them up to date; the last `fault`. */
export const known = { sorted: [], complete: false, cut: false, read: null, live: false, fault: "" };

const listeners = [];
let turn = 0;
let told = 0;
let pending = new Map(); // what has changed since the last time that it was merged: whether a key is there

/** Be told when that has changed. */
export function onKeys(listener) {
  listeners.push(listener);
}

function tell() {
  for (const listener of listeners) listener();
}

/** Read the keys again, from the start. */
export async function refresh() {
  const mine = ++turn;
  const found = [];
  pending = new Map();
  try {
    for (let next = ""; ; ) {
      const query = new URLSearchParams({ limit: PAGE, values: "0", ...(next && { cursor: next }) });
      const answer = await json(`v1/keys?${query}`);
      if (mine !== turn) return;
      for (const item of answer.items) found.push(item.key);
      next = answer.next;
      const [complete, cut] = [!next, Boolean(next) && found.length >= MOST];
      // at the first time what there is already is shown, and later only the whole
      if (complete || cut || !known.complete) {
        Object.assign(known, { sorted: found.toSorted(), complete, cut, read: Date.now() / 1000, fault: "" });
        tell();
      }
      if (complete || cut) break;
    }
    merge();
  } catch (error) {
    if (mine !== turn) return;
    known.fault = error.message;
    tell();
    setTimeout(() => { if (mine === turn) refresh(); }, AGAIN);
  }
}

/** Take over what has changed. A change that the keys had already when they were read says the same again. */
function merge() {
  clearTimeout(told);
  told = 0;
  if (!pending.size || !known.complete) return;
  const there = new Set(known.sorted);
  const [added, gone] = [[], new Set()];
  for (const [key, isThere] of pending) {
    if (isThere && !there.has(key)) added.push(key);
    if (!isThere && there.has(key)) gone.add(key);
  }
  pending = new Map();
  if (!added.length && !gone.size) return;
  known.sorted = [...(gone.size ? known.sorted.filter((key) => !gone.has(key)) : known.sorted), ...added].sort();
  tell();
}

onChanges((happened) => {
  if (happened.kind === "commit") {
    for (const { key, op } of happened.changes) pending.set(key, op !== "delete");
    told ||= setTimeout(merge, 200);
    return;
  }
  const before = known.live;
  known.live = happened.kind === "live";
  if (happened.kind === "live" ? !happened.resumed : known.read === null && happened.kind === "broken") refresh();
  else if (before !== known.live) tell();
});
