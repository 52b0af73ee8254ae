// Sources, and watches in their resync order.

import { ago, badge, count, fill, make, many, say, span } from "./dom.js";

const SOURCE = { connecting: "work", loading: "work", following: "good", lost: "bad", closed: "idle" };
const WATCH = { waiting: "work", resyncing: "work", following: "good", failing: "bad", overdue: "warn", unattended: "idle", closed: "idle" };
const WORDS = { unattended: "nobody reads", loading: "loading", waiting: "waits its turn" };

const MUCH = 64; // changes that wait
const LONG = 5; // seconds for which they do
const laggingSince = new Map();

/** Whether a watch has had much to do for long, of those that have no other trouble; asked with each status. */
const isBehind = (watch, now) => now - (laggingSince.get(watch.name) ?? now) >= LONG && !watch.failing;

function noteBacklogs(watches, now) {
  for (const { name, backlog } of watches) {
    if (backlog < MUCH) laggingSince.delete(name);
    else if (!laggingSince.has(name)) laggingSince.set(name, now);
  }
}

function trouble({ name, state, failing: { keys } }) {
  const refused = Object.keys(keys).length;
  if (state === "overdue") return `${name} is overdue`;
  return state === "failing" || !refused ? `${name} is failing` : `${name} refused ${refused === 1 ? "a key" : "keys"}`;
}

function reason({ failing: { why, keys } }) {
  const [first] = Object.entries(keys);
  return first && why.startsWith("refused") ? first.join(": ") : why;
}

/** What stands at the top: a tone, a headline and a line below it. */
export function judge({ sources, watches, more_watches, now, ready, name }) {
  noteBacklogs(watches, now);
  const lost = sources.filter((source) => SOURCE[source.state] === "bad");
  const failing = watches.filter((watch) => watch.failing);
  const busy = [...sources, ...watches].filter((one) => (SOURCE[one.state] || WATCH[one.state]) === "work");
  const behind = watches.filter((watch) => isBehind(watch, now));
  if (failing.length) {
    const first = failing.reduce((one, other) => (other.failing.since < one.failing.since ? other : one));
    const head = failing.length === 1 ? trouble(first) : `${failing.length} watches are failing`;
    const tone = failing.some((watch) => watch.state === "failing" || Object.keys(watch.failing.keys).length) ? "bad" : "warn";
    const who = failing.length === 1 ? "" : `${first.name}, `;
    const besides = lost.length ? `. Besides, ${lost[0].name} is lost` : "";
    return [tone, head, `${who}for ${span(now - first.failing.since)}: ${reason(first)}${besides}`];
  }
  if (lost.length) {
    const [first] = lost;
    const head = lost.length === 1 ? "The source is lost" : `${lost.length} sources are lost`;
    return ["bad", head, `for ${span(now - first.since)}; the last state stands meanwhile. ${first.error || ""}`];
  }
  if (!sources.some((source) => source.state !== "closed")) return ["idle", "Nothing is watched", "there is no source"];
  if (!ready) return ["work", "Not ready", `${name} has not brought its whole state yet`];
  if (busy.length) return ["work", "Catching up", many(busy.length, "part") + " on the way"];
  if (behind.length) {
    const first = behind.reduce((one, other) => (other.backlog > one.backlog ? other : one));
    const head = behind.length === 1 ? `${first.name} is behind` : `${behind.length} watches are behind`;
    const since = span(now - laggingSince.get(first.name));
    return ["warn", head, `${many(first.backlog, "change")} wait for ${first.name}, and many have for ${since}`];
  }
  const waiting = watches.reduce((sum, watch) => sum + watch.backlog, 0);
  const tail = waiting ? `, ${many(waiting, "change")} under way` : "";
  const following = watches.filter((watch) => watch.state === "following").length;
  const all = watches.length && !more_watches ? `, ${count(following)} of ${count(watches.length)} watches follow` : "";
  const whole = following === watches.length ? all.replace(/(\d+) of \1 /, "all $1 ") : all;
  return ["good", "All is in step", `${many(sources.length, "source")}${whole}${tail}`];
}

/** List the sources. */
export function showSources({ sources, now }) {
  fill(document.getElementById("sources"), ...sources.map((source) => {
    const tone = SOURCE[source.state] || "idle";
    const back = source.reconnects ? `, came back ${source.reconnects === 1 ? "once" : `${count(source.reconnects)} times`}` : "";
    return make("li", { "data-tone": tone },
      make("div", { class: "row" }, make("span", { class: "mono", title: source.name }, source.name), badge(WORDS[source.state] || source.state, tone)),
      make("p", { class: "note" }, `for ${span(Math.max(0, now - source.since))}, revision ${count(source.revision)}${back}`),
      source.error ? make("p", { class: "why" }, source.error) : null);
  }));
}

/** List the watches, or, where a source is only served to others, its remote watchers. */
export function showWatches({ watches, more_watches, remote, watchers, now }) {
  const list = document.getElementById("watch-list");
  const onlyRemote = !watches.length;
  say("watches-title", onlyRemote ? "Remote watchers" : "Watches");
  say("watches-note", onlyRemote ? "those that are furthest behind first" : "in the order in which they are resynced");
  document.getElementById("columns").hidden = onlyRemote && !remote.length;
  document.getElementById("columns").dataset.remote = onlyRemote;
  if (onlyRemote) {
    const more = watchers - remote.length;
    fill(list, ...remote.map(far), more > 0 ? make("li", { class: "nothing" }, `and ${count(more)} more`) : null,
      remote.length ? null : make("li", { class: "nothing" }, "Nobody follows at the moment."));
    return;
  }
  const highest = Math.max(MUCH, ...watches.map((watch) => watch.backlog));
  fill(list, ...watches.map((watch, index) => one(watch, index, now, highest)),
    more_watches ? make("li", { class: "nothing" }, `and ${count(more_watches)} more`) : null);
}

/** The scopes of a watch, as far as they are listed. */
function named({ scopes, more_scopes }) {
  const listed = scopes.map((scope) => scope || "everything").join(", ");
  return more_scopes ? `${listed}, and ${count(more_scopes)} more` : listed;
}

function far({ behind, ...watcher }, index) {
  const shown = named(watcher);
  const [word, tone] = behind === null ? ["reads a snapshot", "work"] : behind > 1000 ? ["far behind", "warn"] : ["following", "good"];
  const fillBar = make("i");
  fillBar.style.width = `${Math.min(100, Math.round((100 * (behind || 0)) / 4096))}%`;
  return make("li", { "data-tone": tone },
    make("div", { class: "watch" },
      make("span", { class: "order" }, String(index + 1)),
      make("span", { class: "name" }, "remote watcher"),
      make("span", { class: "scopes mono", title: shown }, shown),
      make("span", { class: "state" }, badge(word, tone)),
      make("span", { class: "backlog", title: "transactions that it has not read" }, make("span", { class: "label" }, "behind"),
        make("span", { class: "bar" }, fillBar), make("span", {}, behind === null ? "–" : count(behind))),
      make("span", {})));
}

function one(watch, index, now, highest) {
  const behind = isBehind(watch, now);
  const tone = (watch.failing && WATCH[watch.state] === "good") || behind ? "warn" : WATCH[watch.state] || "idle";
  const word = watch.failing && WATCH[watch.state] === "good" ? "refused keys" : behind ? "behind" : WORDS[watch.state] || watch.state;
  const scopes = named(watch);
  const fillBar = make("i");
  fillBar.style.width = `${Math.round((100 * watch.backlog) / highest)}%`;
  const last = watch.resync
    ? `${watch.resync.reason}, ${many(watch.resync.keys, "key")} in ${span(watch.resync.duration)}, ${ago(now - watch.resync.at)}`
    : "not yet";
  return make("li", { "data-tone": tone },
    make("div", { class: "watch" },
      make("span", { class: "order" }, String(index + 1)),
      make("span", { class: "name", title: watch.name }, watch.name),
      make("span", { class: "scopes mono", title: scopes }, scopes),
      make("span", { class: "state" }, badge(word, tone)),
      make("span", { class: "backlog", title: "changes that wait" }, make("span", { class: "label" }, "backlog"),
        make("span", { class: "bar" }, fillBar), make("span", {}, count(watch.backlog))),
      make("span", { class: "last note" }, make("span", { class: "label" }, "resync: "), last)),
    watch.failing ? failing(watch.failing, now) : null);
}

function failing({ since, why, attempt, keys }, now) {
  const refused = Object.entries(keys);
  const tries = attempt > 1 ? `, try ${attempt}` : "";
  return make("div", { class: "why" },
    make("p", {}, `For ${span(now - since)}${tries}: ${why}`),
    refused.length
      ? make("dl", { class: "refused" }, ...refused.flatMap(([key, said]) => [make("dt", { title: key }, key), make("dd", {}, said)]))
      : null);
}
