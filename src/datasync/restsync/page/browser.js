// The browser of keys: a tree, or what was searched for, of which only what can be seen is drawn.

import { clock, count, make, plain, say } from "./dom.js";
import { onPointed, point } from "./fragment.js";
import { known, onKeys, refresh } from "./keys.js";
import { firstOpen, folders, rows as treeRows, search } from "./tree.js";
import { reread, showFolder, showKey } from "./value.js";

const FIRST = 40; // rows to begin with, about
const DEEP = 12; // levels that are indented
const SPARE = 8; // rows that are drawn above and below
const box = document.getElementById("keys");
const run = document.getElementById("keys-run");
const field = document.getElementById("keys-find");
const drawn = new Map();

let rows = [];
let open = null; // folders; null until somebody opens or closes one
let automatic = null; // folders that are open from the start
let isSettled = false;
let at = -1;
let wanted = null; // the id of the row that is to be highlighted, and may not be here yet
let following = 0;
let total = null;

const height = () => parseFloat(getComputedStyle(box).getPropertyValue("--row"));
const isOpen = (prefix) => (open ?? automatic)?.has(prefix) ?? false;

/** The agent holds so many keys; null where that is not known yet. */
export function showTotal(keys) {
  if (keys === total) return;
  total = keys;
  showCount();
}

function showCount() {
  const { sorted, complete, cut, read, live, fault } = known;
  const notes = [];
  if (read !== null) {
    const all = complete || total === null ? sorted.length : total;
    const some = field.value ? rows.length : sorted.length;
    notes.push(some === all ? count(all) : `${count(some)} of ${count(all)}`);
    if (cut) notes.push("which is as many as are read");
    if (!live || fault) notes.push(`as of ${clock(read)}`);
  }
  say("keys-count", notes.join(", "));
  say("keys-fault", fault);
  document.getElementById("keys-fault").hidden = !fault;
}

/** Bring the rows up to date; what is highlighted stays so. */
function arrange() {
  const id = wanted ?? rows[at]?.id;
  // settled with the first keys: no folder opens or closes by itself later
  if (!isSettled) automatic = firstOpen(known.sorted, FIRST);
  isSettled = known.complete && known.sorted.length > 0;
  rows = field.value ? search(known.sorted, field.value) : treeRows(known.sorted, isOpen);
  at = id === undefined ? -1 : rows.findIndex((row) => row.id === id);
  if (at >= 0 && wanted !== null) {
    wanted = null;
    bringIntoSight(box.clientHeight / 2);
    follow();
  }
  showCount();
  draw();
}

function draw() {
  const row = height();
  run.style.height = rows.length ? `${rows.length * row}px` : "100%";
  const first = Math.max(0, Math.floor(box.scrollTop / row) - SPARE);
  const last = Math.min(rows.length, Math.ceil((box.scrollTop + box.clientHeight) / row) + SPARE);
  for (const [index, { element, mark }] of drawn) {
    if (index >= first && index < last && mark === signature(index)) continue;
    element.remove();
    drawn.delete(index);
  }
  for (let index = first; index < last; index++) {
    if (!drawn.has(index)) {
      const element = entry(rows[index], index, row);
      drawn.set(index, { element, mark: signature(index) });
      run.append(element);
    }
    drawn.get(index).element.setAttribute("aria-selected", String(index === at));
  }
  if (drawn.has(at)) box.setAttribute("aria-activedescendant", `key-${at}`);
  else box.removeAttribute("aria-activedescendant");
  run.querySelector(".empty")?.remove();
  if (!rows.length) run.append(make("div", { class: "empty" }, ...nothing()));
}

function nothing() {
  if (known.read === null) return [make("p", {}, known.fault ? "The keys cannot be read now." : "The keys are not here yet.")];
  if (field.value) return [make("p", {}, "No key has that in its name."), make("p", { class: "note" }, "Empty the field to see all.")];
  return [make("p", {}, "No keys."), make("p", { class: "note" }, "They appear here as soon as they are written.")];
}

/** What of a row is seen, apart from its highlight. */
const signature = (index) => [rows[index].id, rows[index].isOpen, rows[index].to - rows[index].from, rows[index].level, field.value, height()].join("\n");

function entry({ key, prefix, name, level, isOpen: opened, from, to, place, of }, index, row) {
  const element = make("div", {
    class: prefix === undefined ? "entry" : "entry folder", role: "treeitem", id: `key-${index}`, title: plain(key ?? prefix), "data-key": key,
    "aria-level": level, "aria-posinset": place, "aria-setsize": of, "aria-expanded": prefix === undefined ? null : String(opened),
  });
  if (prefix !== undefined) element.append(make("span", { class: "twist", "aria-hidden": "true" }));
  element.append(...(field.value ? hit(name) : [make("span", { class: "label" }, plain(name) || "(no name)")]));
  if (prefix !== undefined) element.append(make("span", { class: "holds" }, count(to - from)));
  element.style.setProperty("--level", Math.min(level, DEEP) - 1);
  element.style.top = `${index * row}px`;
  element.dataset.index = index;
  return element;
}

/** A key with what was searched for marked, and in sight. */
function hit(key) {
  const text = field.value;
  const begin = (text === text.toLowerCase() ? key.toLowerCase() : key).indexOf(text);
  const front = begin > 60 ? `…${key.slice(begin - 30, begin)}` : key.slice(0, begin);
  return [make("span", { class: "label" }, plain(front), make("mark", {}, plain(key.slice(begin, begin + text.length))), plain(key.slice(begin + text.length)))];
}

function select(index) {
  at = Math.max(0, Math.min(rows.length - 1, index));
  wanted = null;
  bringIntoSight();
  draw();
  clearTimeout(following);
  following = setTimeout(follow, 60); // a key that is held down goes by many
}

/** Scroll to the highlight, as far as it has to be, and then so far that as much of its surroundings is seen. */
function bringIntoSight(around = 0) {
  const row = height();
  if (parseFloat(run.style.height) < rows.length * row) run.style.height = `${rows.length * row}px`;
  if (at * row < box.scrollTop) box.scrollTop = at * row - around;
  else if ((at + 1) * row > box.scrollTop + box.clientHeight) box.scrollTop = (at + 1) * row - box.clientHeight + around;
}

/** The pane shows what is highlighted, and so does the address. */
function follow() {
  clearTimeout(following);
  const row = rows[at];
  if (!row) return;
  if (row.prefix === undefined) showKey(row.key);
  else showFolder(row.prefix, row.to - row.from);
  point("key", row.key ?? row.prefix);
}

function setOpen(prefix, isToBe) {
  open ??= new Set(automatic);
  if (isToBe) for (const folder of folders(prefix)) open.add(folder);
  else open.delete(prefix);
  arrange();
}

const toggleRow = (row) => { if (row?.prefix !== undefined) setOpen(row.prefix, !row.isOpen); };

/** To the folder around a row. */
function leave(index) {
  for (let above = index - 1; above >= 0; above--) if (rows[above].level < rows[index].level) return select(above);
}

/** Show a key, or a folder, that a link names. */
function reveal(name) {
  field.value = "";
  open ??= new Set(automatic);
  const isFolder = name.endsWith("/") && known.sorted.some((key) => key !== name && key.startsWith(name));
  for (const folder of folders(name)) if (!isFolder || folder !== name) open.add(folder);
  wanted = `${isFolder ? "folder" : "key"} ${name}`;
  at = -1;
  arrange();
  if (!isFolder) showKey(name); // also where there is no such key, to say so
  box.focus({ preventScroll: true });
  document.getElementById("keys-card").scrollIntoView({ block: "nearest" });
}

const MOVES = { ArrowDown: 1, j: 1, ArrowUp: -1, k: -1 };

box.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const page = Math.floor(box.clientHeight / height());
  const row = rows[at];
  if (MOVES[event.key]) select(at + MOVES[event.key]);
  else if (event.key === "PageDown") select(at + page);
  else if (event.key === "PageUp") select(at - page);
  else if (event.key === "Home") select(0);
  else if (event.key === "End") select(rows.length - 1);
  else if (event.key === "ArrowRight" && row?.prefix !== undefined) row.isOpen ? select(at + 1) : setOpen(row.prefix, true);
  else if (event.key === "ArrowLeft" && row) row.isOpen ? setOpen(row.prefix, false) : leave(at);
  else if (event.key === "Enter" || event.key === " ") row?.prefix === undefined ? follow() : toggleRow(row);
  else return;
  event.preventDefault();
});
box.addEventListener("click", (event) => {
  const element = event.target.closest(".entry");
  if (!element) return;
  const row = rows[Number(element.dataset.index)];
  select(Number(element.dataset.index));
  toggleRow(row);
});
box.addEventListener("scroll", () => requestAnimationFrame(draw), { passive: true });
new ResizeObserver(draw).observe(box);

let typing = 0;
function find() {
  clearTimeout(typing);
  typing = 0;
  box.scrollTop = 0;
  at = -1;
  wanted = null;
  arrange();
}
field.addEventListener("input", () => {
  clearTimeout(typing);
  typing = setTimeout(find, 120);
});
field.addEventListener("keydown", (event) => {
  if (event.key === "Escape") {
    field.value = "";
    find();
  }
  if (event.key !== "Enter" && event.key !== "ArrowDown") return;
  event.preventDefault();
  if (typing) find();
  box.focus();
  if (rows.length) select(Math.max(at, 0));
  else wanted = `key ${field.value}`; // it may have been written a moment ago
});
document.getElementById("keys-refresh").addEventListener("click", () => { refresh(); reread(); });
onKeys(arrange);
onPointed("key", reveal);
draw();
