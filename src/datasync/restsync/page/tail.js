// The live tail: the newest changes, filtered by prefix.

import { Refused, events } from "./api.js";
import { clock, count, fill, make } from "./dom.js";

const KEEP = 300;
const list = document.getElementById("tail");
const field = document.getElementById("tail-prefix");
const button = document.getElementById("tail-pause");
const heard = new Set();
let paused = false;
let waiting = [];
let missed = 0;
let stream = null;
let first = true;

/** Call `listener` with each commit that goes by, filtered or not as the tail is. */
export function onCommit(listener) {
  heard.add(listener);
}

/** Pause, or go on. */
export function toggle() {
  paused = !paused;
  button.textContent = paused ? "Resume" : "Pause";
  button.setAttribute("aria-pressed", String(paused));
  if (!paused) render();
}

function line(change, index, revision, at) {
  const put = change.op === "put";
  const values = make("span", { class: "from-to" });
  const [before, after] = apart(text(change, "prev"), text(change, "value"));
  if (put) values.append(before === null ? "" : `${before} → `, make("b", {}, after));
  else values.append(before === null ? "" : `was ${before}`);
  return make("div", { class: `change ${change.op}${index ? "" : " first"}` },
    make("span", { class: "op", title: change.op }, put ? "+" : "−"),
    make("span", { class: "key" }, change.key),
    make("span", { class: "at" }, index ? "" : `@${revision} · ${at}`),
    values);
}

function text(change, name) {
  const found = change[name] ?? (change[`${name}_base64`] === undefined ? null : `base64:${change[`${name}_base64`]}`);
  return found === null ? null : found.slice(0, 2000);
}

/** Both values from where they begin to differ, so that the difference is seen. */
function apart(before, after) {
  if (before === null || after === null) return [before, after];
  let same = 0;
  while (same < before.length && before[same] === after[same]) same++;
  const start = before.lastIndexOf(",", same - 1) + 1;
  if (start < 8) return [before, after];
  return [before, after].map((value) => {
    const comma = value.indexOf(",", same);
    const end = Math.min(comma < 0 ? value.length : comma, start + 60);
    return `…${value.slice(start, end).trim()}${end < value.length ? "…" : ""}`;
  });
}

function render() {
  if (paused || (!waiting.length && !missed)) return;
  const lines = [];
  for (const { revision, at, changes } of waiting) {
    lines.unshift(...changes.slice(0, KEEP).map((change, index) => line(change, index, revision, at)));
  }
  if (first) fill(list);
  first = false;
  if (missed) lines.push(make("div", { class: "gap" }, `${count(missed)} more changes went by`));
  list.prepend(...lines.slice(0, KEEP));
  while (list.childElementCount > KEEP) list.lastElementChild.remove();
  waiting = [];
  missed = 0;
}

function take(data) {
  const prefix = field.value;
  for (const listener of heard) listener(data);
  const changes = prefix ? data.changes.filter((change) => change.key.startsWith(prefix)) : data.changes;
  if (!changes.length) return;
  waiting.push({ revision: data.revision, at: clock(Date.now() / 1000), changes });
  if (waiting.length > KEEP) missed += waiting.shift().changes.length;
}

async function follow(signal) {
  const prefix = field.value.slice(0, field.value.lastIndexOf("/") + 1);
  for (let pause = 500; !signal.aborted; pause = Math.min(pause * 2, 8000)) {
    try {
      const path = `v1/events?from=now&prefix=${encodeURIComponent(prefix)}`;
      for await (const event of events(path, signal)) {
        pause = 500;
        if (event.type === "commit") take(JSON.parse(event.data));
      }
    } catch (error) {
      if (error instanceof Refused && error.status === 400) return;
    }
    if (!signal.aborted) await new Promise((resolve) => setTimeout(resolve, pause));
  }
}

function restart() {
  stream?.abort();
  stream = new AbortController();
  waiting = [];
  first = true;
  const which = field.value ? `keys that begin with ${field.value}` : "any key";
  fill(list, make("div", { class: "empty" }, make("p", {}, "Quiet."), make("p", { class: "note" }, `Changes of ${which} appear here.`)));
  follow(stream.signal);
}

let typing = 0;
field.addEventListener("input", () => {
  clearTimeout(typing);
  typing = setTimeout(restart, 250);
});
button.addEventListener("click", toggle);
setInterval(render, 200);
restart();
