// The rows of the status: troubles, sources, watches in their resync order, and remote watchers.

import { badge, count, make, many, settle, since, span } from "./dom.js";
import { fragment, onPointed, pointed } from "./fragment.js";

const lists = Object.fromEntries(["troubles", "sources", "watch-list", "remote-list"].map((id) => [id, document.getElementById(id)]));
const ROOM = 64; // changes that fill the bar of a backlog at least
const LOG = 4096; // transactions that the agent keeps for those who are behind
const FAR = 1000;
let leading = null; // a link was followed to a row that is not here yet

/** Show them. */
export function showRows(status) {
  const { sources, watches, troubles } = status;
  document.getElementById("trouble").hidden = !troubles.length;
  settle(lists.troubles, troubles.map((one) => entry("trouble", one, trouble)));
  settle(lists.sources, sources.map((one) => entry("source", one, source)));
  document.getElementById("sources-card").hidden = !sources.length;

  const highest = Math.max(ROOM, ...watches.map((watch) => watch.backlog));
  document.getElementById("watches").hidden = !watches.length;
  settle(lists["watch-list"], [...watches.map((one, index) => entry("watch", { ...one, index, highest }, watch)), ...more(status.more_watches)]);
  showRemote(status);
  if (leading) lead(leading);
}

function entry(kind, one, build) {
  const marked = pointed();
  const data = { ...one, marked: marked?.kind === kind && marked.name === one.name };
  return { key: `${kind} ${one.trouble?.kind ?? ""} ${one.index ?? ""} ${one.name}`, data, build: () => build(data) };
}

const more = (number) => (number ? [{ key: "more", data: number, build: () => make("li", { class: "nothing" }, `and ${count(number)} more`) }] : []);

function trouble({ name, tone, word, trouble: { kind, since: moment, why } }) {
  return make("li", { "data-tone": tone },
    badge(word, tone),
    make("a", { class: kind === "source" ? "mono" : "", href: fragment(kind, name), title: `Show this ${kind}` }, name),
    make("p", {}, why),
    moment === null ? null : make("span", { class: "note" }, since(moment, "for")));
}

function source({ name, tone, word, since: moment, revision, reconnects, error, marked }) {
  const back = reconnects === 1 ? "came back once" : `came back ${count(reconnects)} times`;
  return make("li", { "data-tone": tone, "data-at": `source ${name}`, class: marked ? "marked" : "", tabindex: -1 },
    make("div", { class: "source" },
      make("span", { class: "name mono", title: name }, name),
      make("span", { class: "state" }, badge(word, tone)),
      make("span", { class: "note" }, since(moment, "for"), revision ? `, revision ${count(revision)}` : "", reconnects ? `, ${back}` : "")),
    error ? make("p", { class: "why" }, error) : null);
}

/** The scopes of a watch, as far as they are listed. */
function named({ scopes, more_scopes }) {
  const listed = scopes.map((scope) => scope || "everything").join(", ");
  return more_scopes ? `${listed}, and ${count(more_scopes)} more` : listed;
}

function bar(part) {
  const filled = make("i");
  filled.style.width = `${Math.min(100, Math.round(100 * part))}%`;
  return make("span", { class: "bar", "aria-hidden": "true" }, filled);
}

const label = (text) => make("span", { class: "label" }, text);

function watch(one) {
  const { name, tone, word, index, highest, backlog, state, resync, failing, open, more_open, marked } = one;
  const scopes = named(one);
  const last = resync
    ? [`${resync.reason}, ${many(resync.keys, "key")} in ${span(resync.duration)}, `, since(resync.at, "ago")]
    : ["not yet"];
  const begun = resync !== null || state !== "waiting";
  return make("li", { "data-tone": tone, "data-at": `watch ${name}`, class: marked ? "marked" : "", tabindex: -1 },
    make("div", { class: "watch" },
      make("span", { class: "order", "aria-hidden": "true" }, String(index + 1)),
      make("span", { class: "name", title: name }, name),
      make("span", { class: "scopes mono", title: scopes }, scopes),
      make("span", { class: "state" }, badge(word, tone)),
      make("span", { class: "backlog", title: "changes that wait" }, label("backlog "),
        bar(backlog / highest), make("span", {}, begun ? count(backlog) : "–")),
      make("span", { class: "last note" }, label("resync: "), ...last)),
    failing ? reasons(failing) : null,
    open ? opened(open, more_open) : null);
}

/** The keys that the watch has taken over and not applied yet. */
function opened(open, more) {
  const keys = Object.entries(open).flatMap(([key, { verdict, reason }]) =>
    [make("dt", { title: key }, key), make("dd", {}, reason ? `${verdict}: ${reason}` : verdict)]);
  return make("div", { class: "why" },
    make("dl", { class: "refused" }, ...keys), more ? make("p", {}, `and ${count(more)} more`) : null);
}

function reasons({ since: moment, why, attempt, keys }) {
  const refused = Object.entries(keys);
  return make("div", { class: "why" },
    make("p", {}, since(moment, "for"), `${attempt > 1 ? `, try ${count(attempt)}` : ""}: ${why}`),
    refused.length
      ? make("dl", { class: "refused" }, ...refused.flatMap(([key, said]) => [make("dt", { title: key }, key), make("dd", {}, said)]))
      : null);
}

function showRemote({ watches, watchers, remote, sources }) {
  const isServed = !watches.length && sources.length > 0;
  document.getElementById("remote").hidden = !remote.length && !isServed;
  document.getElementById("remote-note").hidden = !remote.length;
  const none = { key: "none", data: 0, build: () => make("li", { class: "nothing" }, "Nobody follows at the moment.") };
  settle(lists["remote-list"], [
    ...remote.map((one, index) => ({ key: `${one.peer ?? ""} ${index}`, data: one, build: () => far(one) })),
    ...more(watchers - remote.length),
    ...(remote.length ? [] : [none]),
  ]);
}

function far(watcher) {
  const { behind, peer } = watcher;
  const [word, tone] = behind === null ? ["reads a snapshot", "work"] : behind > FAR ? ["far behind", "warn"] : ["following", "good"];
  const scopes = named(watcher);
  return make("li", { "data-tone": tone },
    make("div", { class: "watch far" },
      make("span", { class: "name", title: peer }, peer ?? "a remote watcher"),
      make("span", { class: "scopes mono", title: scopes }, scopes),
      make("span", { class: "state" }, badge(word, tone)),
      make("span", { class: "backlog", title: "transactions that it has not read" }, label("behind "),
        bar((behind ?? 0) / LOG), make("span", {}, behind === null ? "–" : count(behind)))));
}

/** Lead to a row: mark it, alone, bring it into sight and give it the focus. */
function lead(at) {
  leading = at;
  const row = [...document.querySelectorAll("[data-at]")].find((one) => one.dataset.at === at);
  for (const other of document.querySelectorAll(".marked")) other.classList.toggle("marked", other === row);
  if (!row) return;
  leading = null;
  row.classList.add("marked");
  row.focus({ preventScroll: true });
  row.scrollIntoView({ block: "center" });
}

for (const kind of ["watch", "source"]) onPointed(kind, (name) => lead(`${kind} ${name}`));
