// What the status means: a tone and a word for each source and watch, its troubles, and the headline. One judgement
// for all of the page, so that its colours agree.

import { count, lasting, many } from "./dom.js";

const SOURCE = { "not started": "idle", connecting: "work", loading: "work", following: "good", lost: "bad", closed: "idle" };
const WATCH = { waiting: "work", resyncing: "work", following: "good", failing: "bad", overdue: "warn", unattended: "idle", closed: "idle" };
const WORDS = { unattended: "nobody reads" };
const GRAVITY = ["idle", "good", "work", "warn", "bad"];

const MUCH = 64; // changes that wait
const LONG = 5; // seconds for which they do
const laggingSince = new Map();

/** Note who has much to do, and since when; once for each status. */
function noteBacklogs({ watches, now }) {
  const names = new Set(watches.map((watch) => watch.name));
  for (const name of laggingSince.keys()) if (!names.has(name)) laggingSince.delete(name);
  for (const { name, backlog } of watches) {
    if (backlog < MUCH) laggingSince.delete(name);
    else if (!laggingSince.has(name)) laggingSince.set(name, now);
  }
}

/** A source with its tone, its word and its trouble. */
function judgeSource(source, alone) {
  const tone = SOURCE[source.state] ?? "idle";
  const it = alone ? "The source" : source.name;
  const judged = (tone, word, said, since) =>
    ({ ...source, tone, word, trouble: { kind: "source", said: `${it} ${said}`, since, why: source.error ?? "" } });

  if (source.state === "lost") return judged("bad", "lost", "is lost", source.since);
  // it is followed, but for a part of it: a file that does not parse
  if (source.state === "following" && source.error) return judged("warn", "fault", "has a fault", null);
  return { ...source, tone, word: source.state, trouble: null };
}

/** A watch with its tone, its word and its trouble. */
function judgeWatch(watch, now) {
  const { name, state, failing, backlog } = watch;
  const since = failing?.since ?? null;
  const why = failing?.why ?? "";
  const refused = Object.entries(failing?.keys ?? {});
  const judged = (tone, word, said, trouble = {}) =>
    ({ ...watch, tone, word, trouble: { kind: "watch", said: `${name} ${said}`, since, why, ...trouble } });

  if (state === "overdue") return judged(refused.length ? "bad" : "warn", "overdue", "is overdue");
  if (failing && (state === "failing" || !refused.length)) return judged("bad", "failing", "is failing");
  if (failing) {
    const keys = refused.length === 1 ? "a key" : "keys";
    return judged("bad", `refused ${keys}`, `refused ${keys}`, { why: why.startsWith("refused") ? refused[0].join(": ") : why });
  }
  const lagging = laggingSince.get(name) ?? now;
  if (now - lagging >= LONG) {
    return judged("warn", "behind", "is behind", { since: lagging, why: `${many(backlog, "change")} wait for it` });
  }
  return { ...watch, tone: WATCH[state] ?? "idle", word: WORDS[state] ?? state, trouble: null };
}

/** All of it: the status with its sources and watches judged, its `troubles`, the gravest first, and the headline as
 * {tone, head, line, target}, where target is the one that it is about. */
export function judge(status) {
  noteBacklogs(status);
  const sources = status.sources.map((source) => judgeSource(source, status.sources.length === 1));
  const watches = status.watches.map((watch) => judgeWatch(watch, status.now));
  const troubles = [...sources, ...watches].filter((one) => one.trouble).sort((one, other) =>
    GRAVITY.indexOf(other.tone) - GRAVITY.indexOf(one.tone) || (one.trouble.since ?? status.now) - (other.trouble.since ?? status.now));
  const judged = { ...status, sources, watches, troubles };
  return { ...judged, ...headline(judged) };
}

function headline(status) {
  const { sources, watches, troubles, ready, name, now } = status;
  if (troubles.length) {
    const [first] = troubles;
    const kinds = ["source", "watch"].map((kind) => troubles.filter((one) => one.trouble.kind === kind));
    const head = kinds.filter((some) => some.length).map(together).join(", ");
    const since = first.trouble.since === null ? [] : [`for ${lasting(now - first.trouble.since)}`];
    const stands = kinds[0].length && ready ? ["the last state stands meanwhile"] : [];
    return { tone: first.tone, head, line: [...since, ...stands, following(status)].filter(Boolean).join("; "), target: first };
  }
  const still = (tone, head, line) => ({ tone, head, line, target: null });
  if (sources.every((source) => source.state === "not started")) return still("idle", "Not started", "the agent has not started yet");
  if (sources.every((source) => source.state === "closed")) return still("idle", "Stopped", "nothing is followed any more");
  if (!ready) return still("work", "Not ready", `${name} has not brought its whole state yet`);
  const busy = [...sources, ...watches].filter((one) => one.tone === "work").length;
  if (busy) return still("work", "Catching up", `${many(busy, "part")} on the way`);
  const waiting = watches.reduce((sum, watch) => sum + watch.backlog, 0);
  const tail = waiting ? `${many(waiting, "change")} under way` : "";
  return still("good", "All is in step", [many(sources.length, "source"), following(status), tail].filter(Boolean).join(", "));
}

/** Several of one kind, in one sentence. */
function together(some) {
  if (some.length === 1) return some[0].trouble.said;
  const [{ trouble: { kind } }] = some;
  if (kind === "source") {
    return `${count(some.length)} sources ${some.every((one) => one.state === "lost") ? "are lost" : "have faults"}`;
  }
  const said = some.every((one) => one.word === "behind") ? "behind" : "failing";
  return `${count(some.length)} watches are ${said}`;
}

/** How many watches follow; nothing where not all are known. */
function following({ watches, more_watches }) {
  if (!watches.length || more_watches) return "";
  const well = watches.filter((watch) => watch.state === "following").length;
  const all = count(watches.length);
  if (watches.length === 1) return well ? "1 watch follows" : "0 of 1 watch follows";
  return `${well === watches.length ? `all ${all}` : `${count(well)} of ${all}`} watches follow`;
}
