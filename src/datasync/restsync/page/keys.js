// The browser of keys and values: pages are fetched as one goes down, and only what can be seen is drawn.

import { json, valueOf } from "./api.js";
import { clock, count, fill, make, many } from "./dom.js";

const ROW = 28;
const PAGE = 2000;
const [TEXT, BINARY] = [256 << 10, 4096]; // bytes of a value that are shown
const box = document.getElementById("keys");
const run = document.getElementById("keys-run");
const field = document.getElementById("keys-prefix");
const panel = document.getElementById("value");
const counter = document.getElementById("keys-count");
const rows = new Map();

let keys = [];
let next = null;
let loading = null;
let goal = 0;
let at = -1;
let opened = null;
let opening = null; // the key whose value was asked for, and is not here yet
let shown = null;
let turn = 0;
let fault = "";
let asked = "";
let reading = null;
let read = 0;
let stale = false;

const directory = () => field.value.slice(0, field.value.lastIndexOf("/") + 1);

/** Read the keys again, from the start. */
export function refresh() {
  reading = readAll(++turn);
  return reading;
}

async function readAll(mine) {
  asked = field.value;
  next = fault = "";
  [loading, goal] = [null, 0];
  const found = await page(mine, "");
  if (found === null) return draw();
  const chosen = keys[at];
  keys = found;
  at = chosen === undefined ? -1 : keys.indexOf(chosen);
  read = Date.now() / 1000;
  stale = false;
  draw();
}

/** Something has changed: show the value as it is now, and the keys, unless they are too many to read time and again. */
export function changed() {
  if (opened !== null) show(opened);
  if (!next && !loading && keys.length < PAGE && !box.matches(":active")) return refresh();
  stale = true;
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
    if (mine !== turn) return null;
    fault = error.message;
    next = null;
    return null;
  }
}

/** Fetch further pages until there are `wanted` keys, or no more. */
async function more(wanted) {
  goal = Math.max(goal, wanted);
  loading ??= fetchMore(turn);
  await loading;
}

async function fetchMore(mine) {
  while (mine === turn && next && keys.length < goal) {
    const found = await page(mine, next);
    if (found !== null) keys.push(...found);
    if (mine === turn) draw();
  }
  if (mine === turn) [loading, goal] = [null, 0];
}

function draw() {
  const notes = [`${count(keys.length)}${next ? " and more" : ""}`];
  if (stale) notes.push(`as of ${clock(read)}`);
  if (fault) notes.push(fault);
  counter.textContent = notes.join(", ");
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
  const key = keys[at];
  if (key === undefined || key === opening) return; // asking again before it is here would only make it later
  opened = opening = key;
  shown = null;
  await show(key);
  if (opening === key) opening = null;
}

const same = (one, other) => one.length === other.length && one.every((byte, at) => byte === other[at]);

async function show(key) {
  const found = await valueOf(key, shown).catch((error) => ({ error }));
  if (key !== opened || (shown?.bytes && found?.bytes && shown.tag === found.tag && same(shown.bytes, found.bytes))) return;
  shown = found;
  const about = make("div", { class: "about" }, make("p", { class: "key" }, key));
  if (found === null || found.error) {
    about.append(make("p", { class: "note" }, found ? found.error.message : "This key does not exist any more."));
    fill(panel, about);
    return;
  }
  const { bytes, tag } = found;
  const [kind, body, most] = rendered(bytes);
  const at = tag ? `, revision ${count(Number(tag.replaceAll('"', "")))}` : "";
  const part = bytes.length > most ? `, of which the first ${count(most)} are shown` : "";
  about.append(make("p", { class: "note" }, `${kind}, ${many(bytes.length, "byte")}${part}${at}`));
  fill(panel, about, body);
}

/** What the bytes are, how they look, and how many of them are shown. */
function rendered(bytes) {
  let text;
  try {
    const decoder = new TextDecoder("utf-8", { fatal: true });
    text = decoder.decode(bytes.subarray(0, TEXT), { stream: bytes.length > TEXT }); // the cut may go through a sign
  } catch {
    return ["binary", make("pre", {}, hex(bytes.subarray(0, BINARY))), BINARY];
  }
  if (bytes.length <= TEXT) {
    try {
      JSON.parse(text);
      return ["JSON", coloured(laidOut(text)), TEXT];
    } catch { /* plain text */ }
  }
  const pre = textBox(text);
  pre.append(text);
  return ["text", pre, TEXT];
}

/** Where to put a text. Browsers lay out a word that fills thousands of lines in a time that grows with its square,
 * unless they may break it anywhere from the start. */
function textBox(text) {
  return make("pre", /\S{1000}/.test(text) ? { class: "dense" } : {});
}

/** JSON with line ends and indents, and otherwise as it is stored: numbers with all their digits, and every member. */
function laidOut(text) {
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

function coloured(text) {
  const pre = textBox(text);
  let end = 0;
  for (const match of text.matchAll(/("[^"\\]*(?:\\.[^"\\]*)*")(\s*:)?|-?\d[\d.eE+-]*|\b(?:true|false|null)\b/g)) {
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
function search() {
  clearTimeout(typing);
  box.scrollTop = 0;
  at = -1;
  return refresh();
}
field.addEventListener("input", () => {
  clearTimeout(typing);
  typing = setTimeout(search, 200);
});
field.addEventListener("keydown", async (event) => {
  if (event.key !== "Enter" && event.key !== "ArrowDown") return;
  event.preventDefault();
  box.focus();
  clearTimeout(typing); // where the keys were read again since, it would take the selection away
  if (asked !== field.value) search();
  for (let one = null; one !== reading; ) await (one = reading); // one may be overtaken by the next
  select(0);
});
document.getElementById("keys-refresh").addEventListener("click", refresh);
refresh();
