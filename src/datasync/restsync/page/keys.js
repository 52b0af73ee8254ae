// The browser of keys and values: pages are fetched as one goes down, and only what can be seen is drawn.

import { json, valueOf } from "./api.js";
import { count, fill, make } from "./dom.js";
import { onCommit } from "./tail.js";

const ROW = 28;
const PAGE = 2000;
const box = document.getElementById("keys");
const run = document.getElementById("keys-run");
const field = document.getElementById("keys-prefix");
const panel = document.getElementById("value");
const counter = document.getElementById("keys-count");
const rows = new Map();

let keys = [];
let next = null;
let loading = null;
let at = -1;
let opened = null;
let turn = 0;

const directory = () => field.value.slice(0, field.value.lastIndexOf("/") + 1);

/** Read the keys anew, from the start. */
export async function refresh() {
  const mine = ++turn;
  next = "";
  loading = null;
  const found = await page(mine, "");
  if (found === null) return;
  keys = found;
  at = Math.min(at, keys.length - 1);
  draw();
}

async function page(mine, cursor) {
  const query = new URLSearchParams({ prefix: directory(), limit: PAGE, values: "0" });
  if (cursor) query.set("cursor", cursor);
  try {
    const answer = await json(`v1/keys?${query}`);
    if (mine !== turn) return null;
    next = answer.next;
    const whole = answer.items.map((item) => item.key);
    return field.value === directory() ? whole : whole.filter((key) => key.startsWith(field.value));
  } catch (error) {
    if (mine === turn) counter.textContent = error.message;
    return null;
  }
}

/** Fetch further pages until there are `wanted` keys, or no more. */
async function more(wanted) {
  if (loading || !next) return;
  const mine = turn;
  loading = true;
  while (mine === turn && next && keys.length < wanted) {
    const found = await page(mine, next);
    if (found === null) break;
    keys.push(...found);
    draw();
  }
  if (mine === turn) loading = null;
}

function draw() {
  counter.textContent = next ? `${count(keys.length)} and more` : count(keys.length);
  // where pages are left, the list shows that it goes on
  run.style.height = `${(keys.length + (next ? 40 : 0)) * ROW}px`;
  const first = Math.max(0, Math.floor(box.scrollTop / ROW) - 8);
  const last = Math.min(keys.length, Math.ceil((box.scrollTop + box.clientHeight) / ROW) + 8);
  for (const [index, row] of rows) {
    if (index < first || index >= last || row.dataset.key !== keys[index]) {
      row.remove();
      rows.delete(index);
    }
  }
  for (let index = first; index < last; index++) {
    if (!rows.has(index)) rows.set(index, entry(index));
    rows.get(index).setAttribute("aria-selected", String(index === at));
  }
  if (rows.has(at)) box.setAttribute("aria-activedescendant", `key-${at}`);
  else box.removeAttribute("aria-activedescendant");
  if (!keys.length && !next) {
    fill(run);
    rows.clear();
    run.style.height = "100%";
    run.append(make("div", { class: "empty" }, make("p", {}, "No keys here.")));
  } else {
    run.querySelector(".empty")?.remove();
  }
  if (next && last >= keys.length - 200) more(keys.length + PAGE);
}

function entry(index) {
  const key = keys[index];
  const cut = key.lastIndexOf("/", key.length - 2) + 1;
  const row = make("div", { class: "entry", role: "option", id: `key-${index}`, title: key },
    make("span", { class: "dir" }, key.slice(0, cut)), key.slice(cut));
  row.dataset.key = key;
  row.style.top = `${index * ROW}px`;
  row.addEventListener("click", () => { select(index); open(); });
  run.append(row);
  return row;
}

function select(index) {
  at = Math.max(0, Math.min(keys.length - 1, index));
  const top = at * ROW;
  if (top < box.scrollTop) box.scrollTop = top;
  else if (top + ROW > box.scrollTop + box.clientHeight) box.scrollTop = top + ROW - box.clientHeight;
  draw();
}

async function open() {
  if (at < 0 || at >= keys.length) return;
  opened = keys[at];
  await show(opened);
}

async function show(key) {
  const found = await valueOf(key).catch((error) => ({ error }));
  if (key !== opened) return;
  const about = make("div", { class: "about" }, make("p", { class: "key" }, key));
  if (found === null || found.error) {
    about.append(make("p", { class: "note" }, found ? found.error.message : "This key does not exist any more."));
    fill(panel, about);
    return;
  }
  const { bytes, revision } = found;
  const [kind, body] = rendered(bytes);
  const at = revision ? `, revision ${count(Number(revision))}` : "";
  about.append(make("p", { class: "note" }, `${kind}, ${count(bytes.length)} byte${bytes.length === 1 ? "" : "s"}${at}`));
  fill(panel, about, body);
}

function rendered(bytes) {
  let text;
  try {
    text = new TextDecoder("utf-8", { fatal: true }).decode(bytes.subarray(0, 262144));
  } catch {
    return ["binary", make("pre", {}, hex(bytes.subarray(0, 4096)))];
  }
  if (bytes.length <= 262144) {
    try {
      const value = JSON.parse(text);
      return ["JSON", coloured(typeof value === "object" ? JSON.stringify(value, null, 2) : text)];
    } catch { /* plain text */ }
  }
  return ["text", make("pre", {}, text)];
}

function coloured(text) {
  const pre = make("pre");
  let end = 0;
  for (const match of text.matchAll(/("(?:[^"\\]|\\.)*")(\s*:)?|-?\d[\d.eE+-]*|\b(?:true|false|null)\b/g)) {
    pre.append(text.slice(end, match.index));
    const word = match[1] ?? match[0];
    pre.append(make("span", { class: match[2] ? "k" : match[1] ? "s" : "n" }, word));
    end = match.index + word.length;
  }
  pre.append(text.slice(end));
  return pre;
}

function hex(bytes) {
  const lines = [];
  for (let at = 0; at < bytes.length; at += 8) {
    const part = [...bytes.subarray(at, at + 8)];
    const codes = part.map((byte) => byte.toString(16).padStart(2, "0")).join(" ").padEnd(24);
    const signs = part.map((byte) => (byte > 31 && byte < 127 ? String.fromCharCode(byte) : "·")).join("");
    lines.push(`${at.toString(16).padStart(6, "0")}  ${codes} ${signs}`);
  }
  return lines.join("\n");
}

const MOVES = { ArrowDown: 1, j: 1, ArrowUp: -1, k: -1 };

box.addEventListener("keydown", async (event) => {
  const page = Math.floor(box.clientHeight / ROW);
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (MOVES[event.key]) select(at + MOVES[event.key]);
  else if (event.key === "PageDown") select(at + page);
  else if (event.key === "PageUp") select(at - page);
  else if (event.key === "Home") select(0);
  else if (event.key === "End") { await more(Infinity); select(keys.length - 1); }
  else if (event.key === "Enter" || event.key === " ") open();
  else return;
  event.preventDefault();
});
box.addEventListener("scroll", () => requestAnimationFrame(draw), { passive: true });
new ResizeObserver(draw).observe(box);
let typing = 0;
field.addEventListener("input", () => {
  clearTimeout(typing);
  typing = setTimeout(() => { box.scrollTop = 0; at = -1; refresh(); }, 200);
});
field.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" && event.key !== "ArrowDown") return;
  event.preventDefault();
  box.focus();
  select(0);
});
document.getElementById("keys-refresh").addEventListener("click", refresh);
onCommit(({ changes }) => {
  if (opened !== null && changes.some((change) => change.key === opened)) show(opened);
});
refresh();
