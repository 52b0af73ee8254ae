// The page: asks the agent how it is, every second, and shows it.

import { json } from "./api.js";
import { count, many, rate, say, span } from "./dom.js";
import { refresh } from "./keys.js";
import { plot } from "./plot.js";
import { toggle } from "./tail.js";
import { judge, showSources, showWatches } from "./watches.js";

const EVERY = 1000;
let answered = 0;
let last = "";

async function look() {
  try {
    const status = await json("v1/status", { signal: AbortSignal.timeout(5000) });
    answered = Date.now();
    show(status);
  } catch (error) {
    silent(error);
  }
  setTimeout(look, document.hidden ? 5 * EVERY : EVERY);
}

function show(status) {
  const [tone, head, line] = judge(status);
  headline(tone, head, line);
  say("name", status.name);
  say("figure-keys", count(status.keys));
  say("figure-revision", status.revision ? count(status.revision) : "–");
  const recent = status.rate.values.slice(-3);
  say("figure-rate", rate(recent.reduce((sum, value) => sum + value, 0) / recent.length));
  say("figure-watchers", count(status.watchers));
  say("fresh", "live");
  document.getElementById("pulse").className = "pulse on";
  say("version", `datasync ${status.version}`);
  say("since", `up for ${span(status.now - status.started)}`);
  plot(status.rate);
  const { now, ...lasting } = status;
  const parts = JSON.stringify([lasting.sources, lasting.watches, lasting.remote, Math.floor(now / 5)]);
  if (parts === last || document.getSelection()?.type === "Range") return;
  last = parts;
  showSources(status);
  showWatches(status);
}

function headline(tone, head, line) {
  document.getElementById("verdict").dataset.tone = tone;
  document.getElementById("sign").setAttribute("href", `#sign-${tone}`);
  say("headline", head);
  say("subline", line);
  document.title = tone === "good" ? "datasync" : `${head} · datasync`;
}

function silent() {
  document.getElementById("pulse").className = "pulse off";
  const since = answered ? `for ${span((Date.now() - answered) / 1000)}` : "";
  say("fresh", "no answer");
  headline("bad", "The agent does not answer", `${since}${since ? "; " : ""}what is below is what it said last`);
}

const focus = (id) => {
  const element = document.getElementById(id);
  element.focus();
  element.scrollIntoView({ block: "nearest" });
  element.select?.();
};

const SHORTCUTS = {
  "/": () => focus("keys-prefix"),
  t: () => focus("tail-prefix"),
  w: () => { focus("watches"); document.getElementById("watches").scrollIntoView(); },
  p: toggle,
  r: refresh,
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
document.getElementById("help-button").addEventListener("click", SHORTCUTS["?"]);
look();
