// The rate of changes over the last minutes, from when the agent has been there.

import { clock, draw, fill, make, rate } from "./dom.js";

const box = document.getElementById("plot");
let shown = null;
let pointed = null;

/** Draw `values`, changes a second in steps of `step` seconds, the last of which ended at `until`. What is older than
 * `started` is not a rate of zero: nobody was there to count. */
export function plot({ step, until, values }, started) {
  const lived = started === null ? 0 : Math.max(0, Math.min(values.length, Math.ceil((until - started) / step)));
  shown = { step, until, values, begin: values.length - lived };
  render();
}

function ceiling(highest) {
  if (highest <= 4) return 4;
  const power = 10 ** Math.floor(Math.log10(highest));
  return [1, 2, 4, 5, 10].map((factor) => factor * power).find((limit) => limit >= highest);
}

function render() {
  if (!shown) return;
  const { step, until, values, begin } = shown;
  const style = getComputedStyle(box);
  const width = box.clientWidth - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight);
  const height = box.clientHeight - parseFloat(style.paddingBottom);
  const [left, bottom] = [44, 20];
  const [w, h] = [Math.max(10, width - left), height - bottom - 6];
  const highest = Math.max(0, ...values.slice(begin));
  const top = ceiling(highest);
  const x = (index) => left + (w * index) / (values.length - 1);
  const y = (value) => 6 + h * (1 - value / top);
  const svg = draw("svg", { viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true" });
  for (const part of [0, 0.5, 1]) {
    const at = y(top * part);
    svg.append(draw("line", { class: part ? "grid" : "grid base", x1: left, x2: width, y1: at, y2: at }));
    svg.append(draw("text", { x: left - 10, y: at + 4, "text-anchor": "end" }, short(top * part)));
  }
  const minutes = Math.round((values.length * step) / 60);
  for (const part of [0, 0.5, 1]) {
    const text = part === 1 ? "now" : `−${minutes * (1 - part)} min`;
    const anchor = ["start", "middle", "end"][part * 2];
    svg.append(draw("text", { x: left + w * part, y: height - 2, "text-anchor": anchor }, text));
  }
  const points = values.map((value, index) => `${x(index).toFixed(1)} ${y(value).toFixed(1)}`).slice(begin);
  if (points.length) {
    const line = `M${points.join("L")}`;
    svg.append(draw("path", { class: "area", d: `${line}L${width} ${y(0)}L${x(begin)} ${y(0)}Z` }));
    svg.append(draw("path", { class: "rate", d: line }));
  }
  const note = document.getElementById("plot-note");
  if (!points.length) {
    note.textContent = "nothing to count yet";
  } else if (pointed !== null) {
    const index = Math.min(values.length - 1, Math.max(begin, pointed));
    svg.append(draw("line", { class: "at", x1: x(index), x2: x(index), y1: 6, y2: y(0) }));
    svg.append(draw("circle", { class: "dot", cx: x(index), cy: y(values[index]), r: 4.5 }));
    note.textContent = `${clock(until - (values.length - 1 - index) * step)}: ${rate(values[index])} a second`;
  } else {
    note.textContent = `last ${minutes} minutes, highest ${rate(highest)}`;
  }
  box.setAttribute("aria-label", `Rate of changes, ${note.textContent}`);
  fill(box, svg);
  box.dataset.left = left;
}

function short(number) {
  if (number >= 1e6) return `${number / 1e6}M`;
  return number >= 1e3 ? `${number / 1e3}k` : String(number);
}

box.addEventListener("pointermove", (event) => {
  if (!shown) return;
  const bounds = box.firstElementChild.getBoundingClientRect();
  const left = Number(box.dataset.left);
  pointed = Math.round(((event.clientX - bounds.left - left) / (bounds.width - left)) * (shown.values.length - 1));
  render();
});
box.addEventListener("pointerleave", () => { pointed = null; render(); });
box.addEventListener("blur", () => { pointed = null; render(); });
box.addEventListener("keydown", (event) => {
  const move = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if (!move || !shown) return;
  event.preventDefault();
  pointed = Math.min(shown.values.length - 1, Math.max(shown.begin, (pointed ?? shown.values.length - 1) + move));
  render();
});
new ResizeObserver(render).observe(box);
