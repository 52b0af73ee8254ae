// The page: asks the agent how it is, every second, and shows it.

import { Refused, json } from "./api.js";
import { showTotal } from "./browser.js";
import { followChanges } from "./changes.js";
import { clock, count, fill, lasting, make, pass, rate, say } from "./dom.js";
import { fragment } from "./fragment.js";
import { judge } from "./judge.js";
import { refresh } from "./keys.js";
import { showPanels } from "./panels.js";
import { plot } from "./plot.js";
import { showRows } from "./rows.js";
import { toggle } from "./tail.js";
import { reread } from "./value.js";

const EVERY = 1000;
let answered = 0;
let timer = 0;

async function look() {
  clearTimeout(timer);
  timer = null; // until the answer is there
  try {
    const status = await json("v1/status", { signal: AbortSignal.timeout(5000) });
    answered = Date.now();
    show(judge(status));
    await showPanels(status.panels);
  } catch (error) {
    silent(error);
  }
  timer = setTimeout(look, document.hidden ? 5 * EVERY : EVERY);
}

function show(status) {
  pass(status.now);
  headline(status, status.name);
  say("name", status.name);
  figures(status);
  say("fresh", "live");
  document.body.dataset.stale = false;
  document.getElementById("pulse").className = "pulse on";
  say("version", `datasync ${status.version}`);
  say("since", `up for ${lasting(status.now - status.started)}`);
  plot(status.rate, status.ready ? status.started : null);
  showTotal(status.ready ? status.keys : null);
  showRows(status);
}

/** In numbers, as far as there are any: an agent that has no state yet has no zeros to show. */
function figures({ ready, keys, revision, rate: { values }, watchers, sources }) {
  const recent = values.slice(-3);
  say("figure-keys", ready ? count(keys) : "–");
  say("figure-revision", revision ? count(revision) : "–");
  say("figure-rate", ready ? rate(recent.reduce((sum, value) => sum + value, 0) / recent.length) : "–");
  say("figure-watchers", sources.length ? count(watchers) : "–");
}

let announced = "";

/** Say how it stands; aloud only when that is something else than before. */
function headline({ tone, head, line, target }, name = "") {
  document.getElementById("verdict").dataset.tone = tone;
  document.getElementById("sign").setAttribute("href", `#sign-${tone}`);
  const link = target && fragment(target.trouble.kind, target.name);
  if (announced !== `${head} ${link}`) {
    announced = `${head} ${link}`;
    const isFocused = document.getElementById("headline").contains(document.activeElement);
    say("aloud", head);
    fill(document.getElementById("headline"), link ? make("a", { href: link }, head) : head);
    if (isFocused) document.querySelector("#headline a")?.focus();
  }
  say("subline", line);
  document.title = [...(tone === "good" ? [] : [head]), name.replace(/^\w+:\/\//, ""), "datasync"].filter(Boolean).join(" · ");
}

function silent(error) {
  const refused = error instanceof Refused;
  document.getElementById("pulse").className = "pulse off";
  document.body.dataset.stale = true;
  say("fresh", refused ? "no status" : "no answer");
  const head = refused ? "The agent does not say how it is" : "The agent does not answer";
  const parts = refused ? [`${error.status}: ${error.message}`] : [];
  if (answered) parts.push(`for ${lasting((Date.now() - answered) / 1000)}; what is below is what it said at ${clock(answered / 1000)}`);
  headline({ tone: "bad", head, line: parts.join("; "), target: null }, document.getElementById("name").textContent);
}

const focus = (id) => {
  const element = document.getElementById(id);
  element.focus();
  element.scrollIntoView({ block: "nearest" });
  element.select?.();
};

function toWatches() {
  const [first] = ["watches", "remote", "sources-card"].map((id) => document.getElementById(id)).filter((one) => !one.hidden);
  first?.focus();
  first?.scrollIntoView();
}

const SHORTCUTS = {
  "/": () => focus("keys-find"),
  t: () => focus("tail-find"),
  w: toWatches,
  p: toggle,
  r: () => { refresh(); reread(); },
  "?": () => document.getElementById("help").showModal(),
};

document.addEventListener("keydown", (event) => {
  const typing = event.target.closest("input, textarea, dialog");
  if (event.key === "Escape" && event.target.matches("main input")) {
    event.preventDefault(); // which would empty the field
    event.target.blur();
  }
  if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
  const act = SHORTCUTS[event.key.toLowerCase()];
  if (!act) return;
  event.preventDefault();
  act();
});
document.addEventListener("visibilitychange", () => { if (!document.hidden && timer !== null) look(); });
document.getElementById("help-button").addEventListener("click", SHORTCUTS["?"]);
look();
followChanges();
