// What parts of the application show of themselves: a card each, with tables, timelines and drawings.

import { Refused, json } from "./api.js";
import { count, draw, make, many, settle, span } from "./dom.js";

const box = document.getElementById("panels");
const chosen = new Map(); // by panel, what somebody wants to see more of
const [WIDE, HIGH, ACROSS, BELOW] = [224, 44, 64, 14]; // of the boxes of a drawing, and between them

/** Ask each of them, and show what it says. */
export async function showPanels(names = []) {
  box.hidden = !names.length;
  const panels = await Promise.all(names.map(async (name) => ({ name, ...(await asked(name)) })));
  settle(box, panels.map(({ name }) => ({ key: name, data: name, build: () => card(name) })));
  for (const [index, { name, blocks, fault }] of panels.entries()) {
    const [, said, list] = box.children[index].children;
    said.hidden = !fault;
    said.textContent = fault;
    showBlocks(list, name, blocks);
  }
}

async function asked(name) {
  const about = chosen.has(name) ? `?about=${encodeURIComponent(chosen.get(name))}` : "";
  try {
    const { blocks } = await json(`v1/panels/${encodeURIComponent(name)}${about}`, { signal: AbortSignal.timeout(5000) });
    return { blocks, fault: "" };
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    return { blocks: [], fault: error.message };
  }
}

function card(name) {
  const id = `panel-${name}`;
  return make("section", { class: "card panel", "aria-labelledby": id },
    make("div", { class: "head" }, make("h2", { id }, name)), make("p", { class: "fault", role: "status" }), make("div"));
}

const FORMS = { table, timeline, drawing };

function showBlocks(list, name, blocks) {
  const known = blocks.filter(({ type }) => FORMS[type]);
  settle(list, known.map((block, index) => ({
    key: `${block.type} ${index}`,
    data: block.type === "table" ? [block.title, block.head, block.more] : block, // its rows have a life of their own
    build: () => make("section", {}, make("h3", {}, block.title), FORMS[block.type](block, name),
      block.more ? make("p", { class: "note" }, `and ${count(block.more)} more`) : null),
  })));
  for (const [index, block] of known.entries()) {
    if (block.type !== "table") continue;
    settle(list.children[index].querySelector("tbody"), block.rows.map((one, at) => ({
      key: one.about ?? String(at), data: one, build: () => row(one, name),
    })));
  }
}

/** Show more of that, from now on. */
async function choose(name, about) {
  chosen.set(name, about);
  await showPanels([...box.children].map((one) => one.querySelector("h2").textContent)).catch(() => {}); // asked again soon
}

function table({ head }) {
  const columns = make("tr", {}, ...head.map((text) => make("th", { scope: "col" }, text)));
  return make("div", { class: "across" }, make("table", {}, make("thead", {}, columns), make("tbody")));
}

function row({ cells: [first, ...rest], tone = "idle", about }, name) {
  const lead = about === undefined ? first : make("button", { class: "link", type: "button" }, first);
  if (about !== undefined) lead.addEventListener("click", () => choose(name, about));
  return make("tr", { "data-tone": tone }, make("th", { scope: "row" }, lead), ...rest.map((text) => make("td", {}, text)));
}

function timeline({ length, bars }) {
  return make("ol", { class: "timeline" }, ...bars.map(({ label, begin, length: lasted, tone = "idle", note = "" }) => {
    const filled = make("i");
    const part = (seconds) => `${length > 0 ? (100 * seconds) / length : 0}%`;
    filled.style.left = part(begin);
    filled.style.width = part(lasted);
    return make("li", { "data-tone": tone }, make("span", { class: "mono", title: label }, label),
      make("span", { class: "track", "aria-hidden": "true" }, filled),
      make("span", { class: "note", title: note }, note ? `${span(lasted)}, ${note}` : span(lasted)));
  }));
}

function drawing({ boxes, arrows = [] }, name) {
  const columns = [...new Set(boxes.map((one) => one.column))].sort((one, other) => one - other);
  const used = columns.map(() => 0);
  const placed = boxes.map((one) => {
    const column = columns.indexOf(one.column);
    return { ...one, x: 2 + column * (WIDE + ACROSS), y: 2 + used[column]++ * (HIGH + BELOW) };
  });
  const width = columns.length * (WIDE + ACROSS) - ACROSS + 20;
  const height = Math.max(0, ...used) * (HIGH + BELOW) - BELOW + 4;
  return make("div", { class: "across" }, draw("svg", { class: "graph", viewBox: `0 0 ${width} ${height}`, width, height, role: "group",
    "aria-label": `${many(boxes.length, "object")}, ${many(arrows.length, "arrow")}` },
    ...arrows.map((one) => arrow(placed[one.begin], placed[one.end], one.dashed)), ...placed.map((one) => boxOf(one, name))));
}

function boxOf({ name: text, x, y, tone = "idle", note = "", about }, name) {
  const words = note ? `${text}, ${note}` : text;
  const element = draw("g", { class: "box", "data-tone": tone, ...(about === undefined ? {} : { role: "button", tabindex: 0, "aria-label": words }) },
    draw("title", {}, words), draw("rect", { x, y, width: WIDE, height: HIGH, rx: 8 }),
    draw("text", { x: x + 12, y: y + (note ? 19 : 27) }, cut(text)), draw("text", { class: "said", x: x + 12, y: y + 35 }, note));
  if (about === undefined) return element;
  element.addEventListener("click", () => choose(name, about));
  element.addEventListener("keydown", (event) => { if (event.key === "Enter") choose(name, about); });
  return element;
}

/** The end of a name tells more than its beginning, which many share. */
const cut = (text) => (text.length > 27 ? `…${text.slice(-26)}` : text);

function arrow(from, to, dashed) {
  const [x1, y1, y2] = [from.x + WIDE, from.y + HIGH / 2, to.y + HIGH / 2];
  const forward = to.x > from.x;
  const x2 = forward ? to.x : to.x + WIDE; // back, or within a column: around the right side
  const bend = forward ? (x2 - x1) / 2 : 36;
  const tip = forward ? -6 : 6;
  return draw("g", { class: dashed ? "arrow dashed" : "arrow" },
    draw("path", { d: `M${x1} ${y1}C${x1 + bend} ${y1} ${forward ? x2 - bend : x2 + bend} ${y2} ${x2} ${y2}` }),
    draw("path", { class: "tip", d: `M${x2} ${y2}l${tip} -4v8z` }));
}
