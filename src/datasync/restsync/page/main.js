// The page: asks the agent how it is, every second, and shows it.

import { Refused, json } from "./api.js";
import { clock, count, rate, say, span } from "./dom.js";
import { changed, refresh } from "./keys.js";
import { plot } from "./plot.js";
import { toggle } from "./tail.js";
import { judge, showSources, showWatches } from "./watches.js";

const EVERY = 1000;
let answered = 0;
let last = "";
let seen = null;
let timer = 0;

async function look() {
  clearTimeout(timer);
  timer = null; // until the answer is there
  try {
    const status = await json("v1/status", { signal: AbortSignal.timeout(5000) });
    answered = Date.now();
    show(status);
  } catch (error) {
    silent(error);
  }
  timer = setTimeout(look, document.hidden ? 5 * EVERY : EVERY);
}

function show(status) {
  const [tone, head, line] = judge(status);
  headline(tone, head, line, status.name);
  say("name", status.name);
  say("figure-keys", count(status.keys));
  say("figure-revision", status.revision ? count(status.revision) : "–");
  const recent = status.rate.values.slice(-3);
  say("figure-rate", rate(recent.reduce((sum, value) => sum + value, 0) / recent.length));
  say("figure-watchers", count(status.watchers));
  say("fresh", "live");
  document.body.dataset.stale = false;
  document.getElementById("pulse").className = "pulse on";
  say("version", `datasync ${status.version}`);
  say("since", `up for ${span(status.now - status.started)}`);
  plot(status.rate);
  const { now, ...lasting } = status;
  // a source without revisions tells by its rate alone that something has changed
  const mark = `${status.revision} ${status.keys} ${status.rate.values.at(-1) ? status.rate.until : ""}`;
  if (seen !== null && seen !== mark) changed();
  seen = mark;
  const parts = JSON.stringify([lasting.sources, lasting.watches, lasting.remote, tone, Math.floor(now / 5)]);
  if (parts === last || isSelected("watches") || isSelected("sources")) return;
  last = parts;
  showSources(status);
  showWatches(status);
}

/** Whether somebody has marked text there, perhaps to copy it: it should stand still. */
function isSelected(id) {
  const selection = document.getSelection();
  return selection?.type === "Range" && selection.containsNode(document.getElementById(id), true);
}

function headline(tone, head, line, name = "") {
  document.getElementById("verdict").dataset.tone = tone;
  document.getElementById("sign").setAttribute("href", `#sign-${tone}`);
  say("headline", head);
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
  if (answered) parts.push(`for ${span((Date.now() - answered) / 1000)}; what is below is what it said at ${clock(answered / 1000)}`);
  headline("bad", head, parts.join("; "), document.getElementById("name").textContent);
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
document.addEventListener("visibilitychange", () => { if (!document.hidden && timer !== null) look(); });
document.getElementById("help-button").addEventListener("click", SHORTCUTS["?"]);
look();
