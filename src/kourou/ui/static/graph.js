// The groups of a program, callers to the left; rates and queues on the edges; waits in amber, those that nothing ends in red.
import { html, duration, rate, count, tone, plural, stateOf } from "./lib.js";

const [WIDTH, HEIGHT, COLUMN_GAP, ROW_GAP, MARGIN] = [196, 84, 168, 30, 20];
const MOST_DOTS = 18;
const ALONE_IN_A_ROW = 4;  // groups, where nobody calls anybody

const labelOf = (name) => name.slice(0, name.lastIndexOf("/"));

// Rows of a column in the order of the middle of those they are called by: fewer edges cross.
function placed(groups, edges) {
  const columns = [];
  groups.forEach((group, place) => (columns[edges.length ? group.column : place % ALONE_IN_A_ROW] ||= []).push(group));
  const gap = edges.length ? COLUMN_GAP : ROW_GAP;
  const at = new Map();
  const most = Math.max(...columns.map((column) => column.length));
  const put = (column, number) => {
    const top = MARGIN + (edges.length ? ((most - column.length) * (HEIGHT + ROW_GAP)) / 2 : 0);
    column.forEach((group, row) => at.set(group.label, { x: MARGIN + number * (WIDTH + gap), y: top + row * (HEIGHT + ROW_GAP), column: number }));
  };
  columns.forEach(put);
  for (const [mine, other] of [["to", "from"], ["from", "to"], ["to", "from"]]) {
    const middle = (group) => {
      const ends = edges.filter((edge) => edge[mine] === group.label && edge.from !== edge.to).map((edge) => at.get(edge[other]).y);
      return ends.length ? ends.reduce((a, b) => a + b) / ends.length : at.get(group.label).y;
    };
    columns.forEach((column, number) => put(column.sort((a, b) => middle(a) - middle(b)), number));
  }
  return { at, width: 2 * MARGIN + columns.length * (WIDTH + gap) - gap, height: 2 * MARGIN + most * (HEIGHT + ROW_GAP) - ROW_GAP };
}

// Where edges leave and arrive: apart from each other on a box's side, in the order of their other ends.
function ports(edges, at) {
  const found = new Map(edges.map((edge) => [edge, { from: 0, to: 0 }]));
  for (const [mine, other] of [["from", "to"], ["to", "from"]]) {
    for (const label of at.keys()) {
      const forward = edges.filter((edge) => edge[mine] === label && at.get(edge.to).column > at.get(edge.from).column);
      forward.sort((a, b) => at.get(a[other]).y - at.get(b[other]).y || at.get(a[other]).x - at.get(b[other]).x);
      const apart = Math.min(18, (HEIGHT - 24) / forward.length);
      forward.forEach((edge, place) => { found.get(edge)[mine] = (place - (forward.length - 1) / 2) * apart; });
    }
  }
  return found;
}

// From a right side to a left one, past other columns above or below them; within a column around its right; backwards below.
function path(from, to, port, bottom) {
  if (to.column > from.column) {
    const [x0, y0, x1, y1] = [from.x + WIDTH, from.y + HEIGHT / 2 + port.from, to.x - 7, to.y + HEIGHT / 2 + port.to];
    const bend = COLUMN_GAP / 2;
    if (to.column === from.column + 1) return { d: `M${x0} ${y0}C${x0 + bend} ${y0} ${x1 - bend} ${y1} ${x1} ${y1}`, x: (x0 + x1) / 2, y: (y0 + y1) / 2 };
    const below = y0 + y1 > bottom;
    const far = (below ? bottom - 6 : 6) + port.from / 3;
    const d = `M${x0} ${y0}C${x0 + bend} ${y0} ${x0 + bend * 0.6} ${far} ${x0 + 2 * bend} ${far}L${x1 - 2 * bend} ${far}C${x1 - bend * 0.6} ${far} ${x1 - bend} ${y1} ${x1} ${y1}`;
    return { d, x: (x0 + x1) / 2, y: far + (below ? -4 : 4) };
  }
  if (from !== to && to.column === from.column) {
    const [x, y0, y1] = [from.x + WIDTH, from.y + HEIGHT / 2 + 12, to.y + HEIGHT / 2 - 12];
    return { d: `M${x} ${y0}C${x + 60} ${y0} ${x + 60} ${y1} ${x + 7} ${y1}`, x: x + 46, y: (y0 + y1) / 2 };
  }
  const [x0, x1, y] = [from.x + WIDTH / 2 + 20, to.x + WIDTH / 2 - 20, from.y + HEIGHT];
  const low = Math.max(y, to.y + HEIGHT) + 26;
  return { d: `M${x0} ${y}C${x0} ${low} ${x1} ${low} ${x1} ${to.y + HEIGHT + 7}`, x: (x0 + x1) / 2, y: low - 4 };
}

const cut = (text, most) => (text.length > most ? `${text.slice(0, most - 1)}…` : text);

function Box({ group, at, nodes, onOpen }) {
  const served = nodes.reduce((sum, node) => sum + (node.calls_per_s || 0), 0);
  const queued = nodes.reduce((sum, node) => sum + (node.queued || 0), 0);
  const worst = ["bad", "warn", "good"].find((one) => nodes.some((node) => tone(stateOf(node)) === one)) || "done";
  const keys = (event) => { if (event.key === "Enter" || event.key === " ") { event.preventDefault(); onOpen(group.label); } };
  return html`<g class="box ${worst}" transform="translate(${at.x} ${at.y})" tabindex="0" role="button" onClick=${() => onOpen(group.label)} onKeyDown=${keys}
      aria-label="${group.label}, ${plural(nodes.length, "node")}">
    <title>${group.label}: ${group.kind}</title>
    <rect width=${WIDTH} height=${HEIGHT} rx="8"/>
    <text class="label" x="12" y="22">${cut(group.label, 22)}</text>
    ${nodes.length > 1 ? html`<text class="dim end" x=${WIDTH - 12} y="22">×${count(nodes.length)}</text>` : ""}
    <text class="dim" x="12" y="39">${cut(group.kind, 29)}</text>
    ${nodes.slice(0, MOST_DOTS).map((node, place) => html`<circle class=${tone(stateOf(node))} cx=${16 + place * 9.6} cy="53" r="3.4"><title>${node.name}: ${stateOf(node).toLowerCase()}</title></circle>`)}
    <text class="figure" x="12" y="73">${served ? `${rate(served)} calls/s` : ""}</text>
    ${queued ? html`<text class="figure queued end" x=${WIDTH - 12} y="73">${count(queued)} queued</text>` : ""}
  </g>`;
}

const kindOf = (waits) => (waits.some((wait) => wait.severity !== "note") ? "stuck" : waits.length ? "waits" : "");

function Edge({ edge, way, waits }) {
  const kind = kindOf(waits);
  return html`<g class="edge ${kind} ${waits.some((wait) => wait.in_circle) ? "circle" : ""}">
    <title>${edge.from} calls ${edge.to}${waits.map((wait) => `\n${wait.who} waits for ${wait.on} (${wait.what})`).join("")}</title>
    <path d=${way.d} marker-end="url(#head${kind && `-${kind}`})"/></g>`;
}

function Words({ edge, way, waits }) {
  const words = [];
  if (waits.length) words.push(`waits ${duration(Math.max(...waits.map((wait) => wait.for_s)))}`);
  if (edge.calls_per_s) words.push(`${rate(edge.calls_per_s)}/s`);
  if (edge.unanswered && !waits.length) words.push(`${count(edge.unanswered)} in flight`);
  const text = words.join(" · ");
  const width = text.length * 6.1 + 12;
  return text ? html`<g class="edge words ${kindOf(waits)}"><rect x=${way.x - width / 2} y=${way.y - 8} width=${width} height="16" rx="8"/><text x=${way.x} y=${way.y + 3.8}>${text}</text></g>` : "";
}

export function Graph({ page, onOpen }) {
  const { groups, edges } = page.graph;
  if (!groups.length) return "";
  const known = new Set(groups.map((group) => group.label));
  const waits = new Map();
  for (const wait of page.waits) {
    const key = `${labelOf(wait.who)}\n${labelOf(wait.on)}`;
    waits.set(key, [...(waits.get(key) || []), wait]);
  }
  const drawn = edges.filter((edge) => known.has(edge.to));
  for (const key of waits.keys()) {
    const [from, to] = key.split("\n");
    if (known.has(from) && known.has(to) && !drawn.some((edge) => edge.from === from && edge.to === to)) drawn.push({ from, to, calls_per_s: null, unanswered: 0 });
  }
  const { at, width, height } = placed(groups, drawn);
  const below = drawn.some((edge) => at.get(edge.to).column <= at.get(edge.from).column) ? 34 : 0;
  const port = ports(drawn, at);
  const parts = drawn.map((edge) => ({ key: `${edge.from} ${edge.to}`, edge, waits: waits.get(`${edge.from}\n${edge.to}`) || [], way: path(at.get(edge.from), at.get(edge.to), port.get(edge), height) }));
  return html`<div class="graph"><svg width=${width} height=${height + below} viewBox="0 0 ${width} ${height + below}" role="group" aria-label="Who calls whom">
    <defs>${["head", "head-waits", "head-stuck"].map((id) => html`<marker id=${id} viewBox="0 0 8 8" refX="1" refY="4" markerWidth="8" markerHeight="8" markerUnits="userSpaceOnUse" orient="auto"><path d="M0 0l8 4-8 4z"/></marker>`)}</defs>
    ${parts.map((part) => html`<${Edge} ...${part}/>`)}
    ${parts.map((part) => html`<${Words} ...${part}/>`)}
    ${groups.map((group) => html`<${Box} key=${group.label} group=${group} at=${at.get(group.label)} nodes=${page.nodes.filter((node) => node.label === group.label)} onOpen=${onOpen}/>`)}
  </svg></div>`;
}
