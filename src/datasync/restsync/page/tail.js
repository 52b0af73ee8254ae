// The live tail: the newest changes, filtered by prefix.

import { Refused, events } from "./api.js";
import { clock, count, fill, make } from "./dom.js";

const KEEP = 300;
const list = document.getElementById("tail");
const field = document.getElementById("tail-prefix");
const button = document.getElementById("tail-pause");
let paused = false;
let waiting = [];
let missed = 0;
let stream = null;
let first = true;

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
  for (const { revision, at, changes, more, note } of waiting) {
    if (note) lines.unshift(gap(`${at}: ${note}`));
    else {
      if (more) lines.unshift(gap(`and ${count(more)} more changes in this transaction`));
      lines.unshift(...changes.map((change, index) => line(change, index, revision, at)));
    }
  }
  if (first) fill(list);
  first = false;
  if (missed) lines.push(gap(`${count(missed)} more changes went by`));
  list.prepend(...lines.slice(0, KEEP));
  while (list.childElementCount > KEEP) list.lastElementChild.remove();
  waiting = [];
  missed = 0;
}

const gap = (text) => make("div", { class: "gap" }, text);

function add(entry) {
  waiting.push({ ...entry, at: clock(Date.now() / 1000) });
  if (waiting.length > KEEP) {
    const { changes = [], more = 0 } = waiting.shift();
    missed += changes.length + more;
  }
}

function take({ revision, changes: all }) {
  const prefix = field.value;
  const changes = prefix ? all.filter((change) => change.key.startsWith(prefix)) : all;
  if (changes.length) add({ revision, changes: changes.slice(0, KEEP), more: Math.max(0, changes.length - KEEP) });
}

async function follow(signal) {
  const prefix = field.value.slice(0, field.value.lastIndexOf("/") + 1);
  const path = `v1/events?from=now&prefix=${encodeURIComponent(prefix)}`;
  let last = "";
  for (let pause = 500; !signal.aborted; pause = Math.min(pause * 2, 8000)) {
    const known = last;
    try {
      for await (const event of events(path, signal, last)) {
        pause = 500;
        if (event.type === "commit") take(JSON.parse(event.data));
        last = event.id || last;
        if (event.type !== "snapshot-begin") continue;
        add({ note: "the whole state was read again (a RESYNC); what changed meanwhile is not listed" });
        last = ""; // all the keys are not for here: go on with what is new
        break;
      }
    } catch (error) {
      if (error instanceof Refused && error.status === 400) return;
    }
    if (signal.aborted) return;
    if (last && last !== known) add({ note: "the connection broke off" });
    await new Promise((resolve) => setTimeout(resolve, pause));
  }
}

function restart() {
  stream?.abort();
  stream = new AbortController();
  waiting = [];
  missed = 0;
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
