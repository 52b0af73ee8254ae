// The live tail: the newest changes, each with what differs.

import { isReadable, packedSize } from "./binary.js";
import { onChanges } from "./changes.js";
import { differences } from "./diff.js";
import { clock, count, fill, make, plain } from "./dom.js";
import { fragment } from "./fragment.js";

const KEEP = 300; // changes
const SHOWN = 8; // differences of a change
const LONG = 240; // signs of a value
const list = document.getElementById("tail");
const field = document.getElementById("tail-find");
const button = document.getElementById("tail-pause");
let paused = false;
let waiting = [];
let missed = 0;
let first = true;

/** Pause, or go on. */
export function toggle() {
  paused = !paused;
  button.textContent = paused ? "Resume" : "Pause";
  button.setAttribute("aria-pressed", String(paused));
  if (!paused) render();
}

const SIGNS = { add: ["+", "new"], update: ["~", "changed"], delete: ["−", "deleted"] };

function line(change, index, revision, at) {
  const [before, after] = [value(change, "prev"), value(change, "value")];
  const kind = change.op === "delete" ? "delete" : before === null ? "add" : "update";
  const [sign, word] = SIGNS[kind];
  return make("div", { class: `change ${kind}${index ? "" : " first"}` },
    make("span", { class: "op", title: word, "aria-hidden": "true" }, sign),
    make("span", { class: "key" }, make("span", { class: "visually-hidden" }, `${word} `),
      make("a", { href: fragment("key", change.key), title: plain(change.key) }, plain(change.key))),
    make("span", { class: "at" }, index ? "" : `${revision ? `@${revision} · ` : ""}${at}`),
    what(kind, before, after));
}

/** A value as {text}, or {size} where it is binary; null where there is none. */
function value(change, name) {
  const packed = change[`${name}_base64`];
  if (packed !== undefined) return { size: packedSize(packed) };
  const text = change[name];
  if (text === undefined) return null;
  return isReadable(text) ? { text } : { size: new TextEncoder().encode(text).length };
}

const told = (value) => (value.text === undefined ? `binary, ${count(value.size)} bytes` : value.text === "" ? "(empty)" : short(value.text));
const short = (text) => plain(text.length > LONG ? `${text.slice(0, LONG)}…` : text);

function what(kind, before, after) {
  const box = make("div", { class: "what" });
  if (kind === "add") box.append(make("p", {}, make("ins", {}, told(after))));
  else if (kind === "delete") box.append(...(before === null ? [] : [make("p", {}, make("del", {}, told(before)))]));
  else if (before.text === undefined || after.text === undefined) box.append(step("", told(before), told(after)));
  else {
    const found = differences(before.text, after.text);
    box.append(...found.slice(0, SHOWN).map(difference));
    if (found.length > SHOWN) box.append(make("p", { class: "note" }, `and ${count(found.length - SHOWN)} more`));
  }
  return box;
}

function difference({ path, from, to, same }) {
  if (same) return make("p", { class: "note" }, "written again, with the same content");
  const [one, other] = apart(from, to);
  return step(path, one, other);
}

function step(path, from, to) {
  const sign = from === null ? "+ " : to === null ? "− " : "";
  return make("p", {},
    path ? make("span", { class: "path" }, plain(`${sign}${path} `)) : null,
    from === null ? null : make("del", {}, from === "" ? "(empty)" : short(from)),
    from === null || to === null ? null : make("span", { class: "to" }, " → "),
    to === null ? null : make("ins", {}, to === "" ? "(empty)" : short(to)));
}

/** Long texts from a little before where they begin to differ. */
function apart(from, to) {
  if (from === null || to === null || Math.max(from.length, to.length) <= LONG) return [from, to];
  let same = 0;
  while (same < Math.min(from.length, to.length) && from[same] === to[same]) same++;
  if (same < 40) return [from, to];
  return [from, to].map((text) => `…${text.slice(same - 20)}`);
}

function render() {
  if (paused || (!waiting.length && !missed)) return;
  if (first) fill(list);
  first = false;
  const lines = [];
  for (const { note, revision, changes = [], more = 0, at } of waiting.toReversed()) {
    if (lines.length >= KEEP) break;
    if (note) lines.push(gap(`${at}: ${note}`));
    lines.push(...changes.map((change, index) => line(change, index, revision, at)));
    if (more) lines.push(gap(`and ${count(more)} more in the same transaction`));
  }
  if (missed) lines.push(gap(`${count(missed)} more changes went by`));
  const isRead = list.scrollTop > 0;
  const height = list.scrollHeight;
  list.prepend(...lines.slice(0, KEEP));
  while (list.childElementCount > KEEP) list.lastElementChild.remove();
  if (isRead) list.scrollTop += list.scrollHeight - height; // what is being read stays where it is
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

onChanges((happened) => {
  if (happened.kind === "resync") add({ note: "the whole state was read again (a RESYNC); what changed meanwhile is not listed" });
  if (happened.kind === "broken" && happened.stood) add({ note: "the connection broke off" });
  if (happened.kind !== "commit") return;
  const changes = happened.changes.filter((change) => change.key.includes(field.value));
  if (changes.length) add({ revision: happened.revision, changes: changes.slice(0, KEEP), more: Math.max(0, changes.length - KEEP) });
});

function restart() {
  waiting = [];
  missed = 0;
  first = true;
  const which = field.value ? `keys with ${field.value}` : "any key";
  fill(list, make("div", { class: "empty" }, make("p", {}, "Quiet."), make("p", { class: "note" }, `Changes of ${which} appear here.`)));
}

field.addEventListener("input", restart);
button.addEventListener("click", toggle);
setInterval(render, 200);
restart();
