// The value of a key as it is now, or what a folder holds.

import { valueOf } from "./api.js";
import { base64, hex, isReadable } from "./binary.js";
import { onChanges } from "./changes.js";
import { copyButton } from "./copy.js";
import { count, fill, make, many, plain } from "./dom.js";
import { fragment } from "./fragment.js";
import { colour, isJson, laidOut } from "./json.js";

const [TEXT, BINARY] = [256 << 10, 4096]; // bytes of a value that are shown
const panel = document.getElementById("value");
let opened = null; // the key whose value is to be seen
let shown = null; // its value, once it is here

/** Show the value of a key, and keep it up to date. */
export function showKey(key) {
  if (key === opened) return;
  [opened, shown] = [key, null];
  panel.scrollTop = 0;
  read(key);
}

/** Show what a folder holds. */
export function showFolder(prefix, holds) {
  [opened, shown] = [null, null];
  fill(panel, about(prefix, many(holds, "key"), copyButton("Copy prefix", () => prefix), linkButton(prefix)));
}

/** The value may be another by now. */
export function reread() {
  if (opened !== null) read(opened);
}

const linkButton = (name) => copyButton("Copy link", () => location.href.replace(/#.*/s, "") + fragment("key", name));

function about(name, note, ...buttons) {
  return make("div", { class: "about" }, make("p", { class: "key" }, plain(name)), make("p", { class: "note" }, note),
    make("div", { class: "buttons" }, ...buttons));
}

const same = (one, other) => one.length === other.length && one.every((byte, at) => byte === other[at]);

async function read(key) {
  const found = await valueOf(key, shown).catch((error) => ({ error }));
  if (key !== opened || (shown?.bytes && found?.bytes && shown.tag === found.tag && same(shown.bytes, found.bytes))) return;
  shown = found;
  const buttons = [copyButton("Copy key", () => key), linkButton(key)];
  if (found === null || found.error) {
    fill(panel, about(key, found ? found.error.message : "This key does not exist any more.", ...buttons));
    return;
  }
  const { bytes, tag } = found;
  const [kind, body, most, copied] = rendered(bytes);
  const at = tag ? `, revision ${count(Number(tag.replaceAll('"', "")))}` : "";
  const part = bytes.length > most ? `, of which the first ${count(most)} are shown` : "";
  buttons.splice(1, 0, copyButton(kind === "binary" ? "Copy as base64" : "Copy value", copied));
  fill(panel, about(key, `${kind}, ${many(bytes.length, "byte")}${part}${at}`, ...buttons), body);
}

/** What the bytes are, how they look, how many of them are shown, and what gives all of them for the clipboard. */
function rendered(bytes) {
  const text = readable(bytes);
  if (text === null) return ["binary", make("pre", { class: "hex" }, hex(bytes.subarray(0, BINARY))), BINARY, () => base64(bytes)];
  const pre = textBox(text);
  const whole = () => (bytes.length > TEXT ? new TextDecoder("utf-8", { ignoreBOM: true }).decode(bytes) : text);
  const json = bytes.length <= TEXT && isJson(text);
  if (json) colour(pre, laidOut(text));
  else pre.append(text);
  return [json ? "JSON" : "text", pre, TEXT, whole];
}

/** As text, as far as it is shown; null for what is none. */
function readable(bytes) {
  try {
    const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
    const text = decoder.decode(bytes.subarray(0, TEXT), { stream: bytes.length > TEXT }); // the cut may go through a sign
    return isReadable(text) ? text : null;
  } catch {
    return null;
  }
}

/** Where to put a text. Browsers lay out a word that fills thousands of lines in a time that grows with its square,
 * unless they may break it anywhere from the start. */
function textBox(text) {
  return make("pre", /\S{1000}/.test(text) ? { class: "dense" } : {});
}

onChanges((happened) => {
  if (happened.kind === "live" || happened.changes?.some((change) => change.key === opened)) reread();
});
