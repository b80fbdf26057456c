// Curves: uPlot in the colours of the page, as wide as its place.
import { html, useEffect, useRef, useState, short } from "./lib.js";

export const COLORS = ["#4269d0", "#e08a00", "#e8554a", "#2fa58f", "#3ca951", "#d9629a", "#a463f2", "#6f9ce8", "#9c6b4e", "#8a8f98"];

export function useTheme() {
  const read = () => document.documentElement.dataset.theme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
  const [theme, setTheme] = useState(read());
  useEffect(() => {
    const media = matchMedia("(prefers-color-scheme: dark)");
    const look = () => setTheme(read());
    const observer = new MutationObserver(look);
    observer.observe(document.documentElement, { attributes: true, attributeFilter: ["data-theme"] });
    media.addEventListener("change", look);
    return () => { observer.disconnect(); media.removeEventListener("change", look); };
  }, []);
  return theme;
}

// Each curve keeps its own weight: an exponential mean of what came before, without the start's bias.
export function smooth(values, weight) {
  if (!weight) return values;
  let [mean, total] = [0, 0];
  return values.map((value) => {
    mean = mean * weight + value * (1 - weight);
    total = total * weight + (1 - weight);
    return mean / total;
  });
}

const axis = ({ color, borderTopColor: line }) => ({ stroke: color, grid: { stroke: line, width: 1 }, ticks: { stroke: line, width: 1, size: 4 }, font: "11px system-ui, sans-serif" });

// Lines: [{name, color, dashed, steps, values, low, high}]
export function Chart({ lines, height = 190 }) {
  const place = useRef(null);
  const theme = useTheme();
  useEffect(() => {
    const target = place.current;
    const tables = lines.flatMap((line) => [[line.steps, line.values], ...(line.low ? [[line.steps, line.low], [line.steps, line.high]] : [])]);
    const data = tables.length ? uPlot.join(tables) : [[]];
    const series = [{ label: "step", value: (_, value) => short(value) }];
    const bands = [];
    for (const line of lines) {
      series.push({ label: line.name, stroke: line.color, width: 1.6, dash: line.dashed ? [5, 3] : undefined, spanGaps: true, points: { show: line.values.length < 2, size: 5, fill: line.color }, value: (_, value) => short(value) });
      if (line.low) {
        const edge = { stroke: "transparent", width: 0, spanGaps: true, points: { show: false } };
        series.push({ ...edge, label: `${line.name} low` }, { ...edge, label: `${line.name} high` });
        bands.push({ series: [series.length - 1, series.length - 2], fill: `${line.color}26` });
      }
    }
    const plot = new uPlot({
      width: target.clientWidth || 300, height, series, bands, legend: { show: false }, padding: [8, 16, 0, 0],
      cursor: { points: { size: 6 }, drag: { x: true, y: false }, y: false },
      scales: { x: { time: false } },
      axes: [
        { ...axis(getComputedStyle(target)), size: 26, values: (_, ticks) => ticks.map((tick) => short(tick)) },
        { ...axis(getComputedStyle(target)), size: 52, values: (_, ticks) => ticks.map((tick) => short(tick)) },
      ],
      hooks: { setCursor: [(u) => tell(target, u, lines)] },
    }, data, target);
    const observer = new ResizeObserver(() => plot.setSize({ width: target.clientWidth, height }));
    observer.observe(target);
    return () => { observer.disconnect(); plot.destroy(); };
  }, [lines, theme, height]);
  return html`<div class="chart"><div ref=${place}></div></div>`;
}

// What the curves are at under the pointer: in a box of its own, since names may be long.
function tell(target, u, lines) {
  let box = target.parentNode.querySelector(".tip");
  const index = u.cursor.idx;
  if (index === null || index === undefined || u.cursor.left < 0) { box?.remove(); return; }
  if (!box) { box = document.createElement("div"); box.className = "tip"; target.parentNode.append(box); }
  box.textContent = "";
  const row = (name, value, color) => {
    const line = document.createElement("div");
    const dot = document.createElement("i");
    dot.style.background = color || "transparent";
    const text = document.createElement("span");
    text.textContent = name;
    const figure = document.createElement("b");
    figure.textContent = value;
    line.append(dot, text, figure);
    box.append(line);
  };
  const x = u.data[0][index];
  row("step", short(x));
  const near = lines.map((line) => ({ line, value: at(line, x) })).filter(({ value }) => value !== null).sort((a, b) => b.value - a.value);
  near.slice(0, 12).forEach(({ line, value }) => row(line.name || "value", short(value), line.color));
  const right = u.cursor.left > u.over.clientWidth / 2;
  box.style.left = right ? "" : `${u.cursor.left + 70}px`;
  box.style.right = right ? `${u.over.clientWidth - u.cursor.left + 20}px` : "";
}

// A curve's value at a step: that of its last point up to there.
function at(line, step) {
  let [low, high] = [0, line.steps.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (line.steps[middle] <= step) low = middle + 1; else high = middle;
  }
  return low ? line.values[low - 1] : null;
}

export const Legend = ({ lines }) => html`<ul class="legend">${lines.map((line) => html`<li key=${line.name}><i style=${{ background: line.color }}></i>
  <span>${line.name}</span><b>${line.values.length ? short(line.values[line.values.length - 1]) : ""}</b></li>`)}</ul>`;
