// The page of a sweep.
import { html, useState, useEffect, useMemo, useRef, api, fetchJson, usePolled, duration, count, short, day, State, Empty, Failure, Section, Table, UNKNOWN, usePanel, plain } from "./lib.js";
import { Chart, Legend, COLORS } from "./chart.js";

const ORDER = ["RUNNING", "FAILED", "TIMEOUT", "LOST", "INTERRUPTED", "QUEUED", "PENDING", "CANCELLED", "SUCCEEDED"];
const text = (value) => (value === null || value === undefined ? "" : typeof value === "object" ? JSON.stringify(value) : short(value));
const tookOf = (run) => (run.started_at ? (run.ended_at ?? (run.state === "RUNNING" ? Date.now() / 1000 : null)) - run.started_at : null);

export function SweepPage({ sweep, onTitle }) {
  const { data, error } = usePolled(api("sweeps", sweep), 2);
  const results = usePolled(api("results", sweep), data && !data.active ? 0 : 5).data;
  const [opened, setOpened] = useState(null);
  const [metric, setMetric] = useState("");
  useEffect(() => onTitle({ name: sweep }), [sweep]);
  useEffect(() => {
    const keys = (event) => { if (event.key === "Escape") setOpened(null); };
    addEventListener("keydown", keys);
    return () => removeEventListener("keydown", keys);
  }, []);
  const rows = useMemo(() => (data ? joined(data, results) : []), [data, results]);
  if (error && !data) return html`<${Failure}>${error}<//>`;
  if (!data) return html`<${Empty}>Reading the sweep…<//>`;
  const metrics = (results?.metrics || []).filter((name) => rows.some((row) => typeof row.last[name] === "number"));
  const chosen = metrics.includes(metric) ? metric : metrics[0] || "";
  return html`<header class="head"><div><h1>${data.name}</h1><p class="facts">${Object.entries(data.states).map(([state, n]) => html`<${State} state=${state} note=${count(n)}/>`)}
      ${data.launcher ? html`<span>run by ${data.launcher}</span>` : data.done < data.total ? html`<span>nobody runs it</span>` : ""}${data.eta_s ? html`<span>about ${duration(data.eta_s)} to go</span>` : ""}</p></div>
      <dl class="figures"><div><dt>runs</dt><dd>${count(data.total)}</dd></div><div><dt>done</dt><dd>${count(data.done)}</dd></div></dl></header>
    <${Bar} data=${data}/>
    ${error ? html`<${Failure}>${error}<//>` : ""}
    ${results?.why ? html`<p class="empty">${results.why}</p>` : ""}
    ${metrics.length ? html`<div class="picker"><label>metric <select value=${chosen} onChange=${(event) => setMetric(event.target.value)}>${metrics.map((name) => html`<option value=${name}>${name}</option>`)}</select></label></div>
      <${Curves} results=${results} metric=${chosen}/>
      <${Parallel} rows=${rows} varied=${data.varied} metric=${chosen} onOpen=${setOpened}/>
      <${Settings} results=${results} varied=${data.varied} metric=${chosen}/>` : !results ? html`<${Empty}>Reading what its runs have measured…<//>` : !results.why ? html`<${Empty}>No run has logged a number yet. A line does it: <code>lp.log(step, score=score)</code><//>` : ""}
    <${Runs} rows=${rows} varied=${data.varied} metrics=${metrics} onOpen=${(row) => setOpened(row.name)} opened=${opened}/>
    ${opened ? html`<${RunPanel} key=${opened} sweep=${sweep} row=${rows.find((row) => row.name === opened)} onClose=${() => setOpened(null)}/>` : ""}`;
}

// Runs with what they measured last: results are found by folders, which may be below a run's own.
function joined(data, results) {
  const measured = (results?.runs || []).map((row) => [`${data.folder}/${row.run}`, row]);
  return data.runs.map((run) => {
    const found = measured.find(([folder]) => folder === run.folder) || measured.find(([folder]) => folder.startsWith(`${run.folder}/`));
    return { ...run, last: found ? found[1] : {} };
  });
}

function Bar({ data }) {
  const states = ORDER.filter((state) => data.states[state]).sort((a, b) => (a === "SUCCEEDED" ? -1 : b === "SUCCEEDED" ? 1 : 0));
  return html`<div class="bar" role="img" aria-label="${data.done} of ${data.total} done">${states.map((state) => html`<i class="s-${state.toLowerCase()}" title="${data.states[state]} ${state.toLowerCase()}" style=${{ width: `${(100 * data.states[state]) / data.total}%` }}></i>`)}</div>`;
}

function Curves({ results, metric }) {
  const lines = useMemo(() => results.curves.filter((curve) => curve.metric === metric).map((curve, place) => ({
    name: `${curve.label} (n=${curve.runs})`, color: COLORS[place % COLORS.length], dashed: curve.dashed, steps: curve.steps, values: curve.mean,
    ...(curve.runs > 1 ? { low: curve.low, high: curve.high } : {}),
  })), [results, metric]);
  if (!lines.length) return "";
  return html`<${Section} title="Curves" aside=${html`<small>the mean of each setting's runs; shaded: the 95 % interval of the mean</small>`}><figure class="big"><figcaption>${metric}</figcaption><${Chart} lines=${lines} height=${280}/><${Legend} lines=${lines}/></figure><//>`;
}

// One axis for each parameter that varies, and one for the metric, by which lines are coloured.
function Parallel({ rows, varied, metric, onOpen }) {
  const [over, setOver] = useState(null);
  const place = useRef(null);
  const [width, setWidth] = useState(800);
  useEffect(() => {
    const observer = new ResizeObserver(() => setWidth(Math.max(place.current.clientWidth, 320)));
    observer.observe(place.current);
    return () => observer.disconnect();
  }, []);
  const drawn = rows.filter((row) => typeof row.last[metric] === "number");
  const axes = [...varied.map((name) => ({ name, of: (row) => row.params[name] })), { name: metric, of: (row) => row.last[metric] }].map((axis) => scaled(axis, drawn));
  const [height, top, side] = [240, 34, 64];
  const x = (number) => side + (axes.length > 1 ? (number * (width - 2 * side)) / (axes.length - 1) : 0);
  const y = (share) => top + (1 - share) * (height - top - 22);
  const shareOf = (row) => axes[axes.length - 1].at(row);
  return html`<${Section} title="Settings and what they reached" aside=${html`<small>a line for each run, coloured by ${metric}</small>`}><div class="parallel" ref=${place}>
    ${drawn.length < 2 || axes.length < 2 ? html`<${Empty}>There is something to compare once two runs with different settings have logged ${metric}.<//>` : html`<svg width=${width} height=${height} viewBox="0 0 ${width} ${height}">
      ${drawn.map((row) => {
        const d = `M${axes.map((axis, number) => `${x(number)} ${y(axis.at(row))}`).join("L")}`;
        return html`<g key=${row.name} class="run ${over === row.name ? "over" : over ? "under" : ""}" onMouseEnter=${() => setOver(row.name)} onMouseLeave=${() => setOver(null)} onClick=${() => onOpen(row.name)}>
          <title>${row.name}: ${axes.map((axis) => `${axis.name} ${text(axis.of(row))}`).join(", ")}</title><path class="wide" d=${d}/><path d=${d} style=${{ stroke: shade(shareOf(row)) }}/></g>`;
      })}
      ${axes.map((axis, number) => html`<g transform="translate(${x(number)} 0)"><line y1=${y(0)} y2=${y(1)}/><text class="title" y="16">${axis.name}</text>
        ${axis.ticks.map(([share, label]) => html`<text x=${number === axes.length - 1 ? 8 : -8} y=${y(share) + 4} class=${number === axes.length - 1 ? "right" : "left"}>${label}</text>`)}</g>`)}
    </svg>`}</div><//>`;
}

const shade = (share) => `hsl(${Math.round(225 - 190 * share)} 72% 52%)`;

// Where values stand on an axis, from 0 to 1: numbers by their size, or by its logarithm where they span decades; all else one after the other.
function scaled(axis, rows) {
  const values = [...new Set(rows.map((row) => axis.of(row)))];
  if (values.length && values.every((value) => typeof value === "number")) {
    const [low, high] = [Math.min(...values), Math.max(...values)];
    const log = low > 0 && high / low >= 50;
    const f = log ? Math.log10 : (value) => value;
    const at = (value) => (high > low ? (f(value) - f(low)) / (f(high) - f(low)) : 0.5);
    const ticks = values.length <= 5 ? values : [low, log ? 10 ** ((f(low) + f(high)) / 2) : (low + high) / 2, high];
    return { ...axis, at: (row) => at(axis.of(row)), ticks: ticks.map((value) => [at(value), short(value)]) };
  }
  const names = [...new Set(values.map(text))].sort();
  const at = (name) => (names.length > 1 ? names.indexOf(name) / (names.length - 1) : 0.5);
  return { ...axis, at: (row) => at(text(axis.of(row))), ticks: names.slice(0, 12).map((name) => [at(name), name.length > 14 ? `${name.slice(0, 13)}…` : name]) };
}

function Settings({ results, varied, metric }) {
  const rows = results.settings.map((setting) => ({ ...setting, metric: setting.metrics[metric] })).filter((row) => row.metric);
  const columns = [
    { name: "name", title: "setting", className: varied.length ? "wide-only dim" : "", of: (row) => row.name },
    ...varied.map((name) => ({ name: `p ${name}`, title: name, numeric: rows.every((row) => typeof row.params[name] === "number"), of: (row) => row.params[name], show: (row) => text(row.params[name]) })),
    { name: "runs", title: "runs", numeric: true, of: (row) => row.runs },
    { name: "mean", title: metric, numeric: true, of: (row) => row.metric.mean, show: (row) => html`<b>${short(row.metric.mean)}</b>${row.metric.runs > 1 ? html` <small>± ${short((row.metric.high - row.metric.low) / 2)}</small>` : ""}` },
  ];
  return html`<${Section} title="Settings" aside=${html`<small>the mean of the runs' last values, and half of its 95 % interval</small>`}><${Table} rows=${rows} columns=${columns} keyOf=${(row) => row.name} sortedBy=${{ name: "mean", down: true }}/><//>`;
}

function Runs({ rows, varied, metrics, onOpen, opened }) {
  const ordered = useMemo(() => [...rows].sort((a, b) => ORDER.indexOf(a.state) - ORDER.indexOf(b.state)), [rows]);
  const columns = useMemo(() => [
    { name: "name", title: "run", className: "name", of: (row) => row.name, show: (row) => html`<b>${row.name}</b>` },
    { name: "state", title: "state", of: (row) => ORDER.indexOf(row.state), show: (row) => html`<${State} state=${row.state} note=${row.state === "PENDING" && row.attempt ? "to retry" : ""}/>` },
    { name: "try", title: "try", numeric: true, className: "mid-only", of: (row) => row.attempt, show: (row) => row.attempt || "" },
    ...(rows.some((row) => row.gpus) ? [{ name: "gpu", title: "GPU", className: "mid-only", of: (row) => row.gpus?.join(","), show: (row) => row.gpus?.join(", ") ?? "" }] : []),
    { name: "took", title: "took", numeric: true, of: tookOf, show: (row) => (tookOf(row) === null ? "" : duration(tookOf(row))) },
    ...varied.map((name) => ({ name: `p ${name}`, title: name, className: "mid-only", numeric: rows.every((row) => typeof row.params[name] === "number"), of: (row) => row.params[name], show: (row) => text(row.params[name]) })),
    ...metrics.slice(0, 6).map((name, place) => ({ name: `m ${name}`, title: name, className: place ? "wide-only" : "", numeric: true, of: (row) => row.last[name], show: (row) => (row.last[name] === undefined || row.last[name] === null ? UNKNOWN : text(row.last[name])) })),
    { name: "cause", title: "how it ended", className: "line grow wide-only", of: (row) => row.cause, show: (row) => html`<span class="dim">${row.state === "SUCCEEDED" ? "" : row.cause}</span>` },
  ], [rows, varied, metrics.join()]);
  return html`<${Section} title="Runs"><${Table} rows=${ordered} columns=${columns} keyOf=${(row) => row.name} onOpen=${onOpen} selected=${opened}/><//>`;
}

function RunPanel({ sweep, row, onClose }) {
  const { data, error } = usePolled(`${api("sweep-logs", sweep)}?run=${encodeURIComponent(row.name)}`, row.state === "RUNNING" ? 2 : 0);
  const dialog = usePanel();
  return html`<dialog ref=${dialog} class="panel" aria-label=${row.name} onKeyDown=${(event) => event.key === "Escape" && onClose()}>
    <header><button class="close" aria-label="Close" title="Close (Esc)" onClick=${onClose}>×</button><h2>${row.name}</h2></header>
    <dl class="grid"><div><dt>state</dt><dd><${State} state=${row.state}/></dd></div><div><dt>attempt</dt><dd>${row.attempt || UNKNOWN}</dd></div><div><dt>took</dt><dd>${duration(tookOf(row))}</dd></div>
      <div><dt>host</dt><dd>${row.host || UNKNOWN}</dd></div><div><dt>started</dt><dd>${row.started_at ? day(row.started_at) : UNKNOWN}</dd></div>
      ${Object.entries(row.params).map(([name, value]) => html`<div><dt>${name}</dt><dd>${text(value)}</dd></div>`)}</dl>
    ${row.cause && row.state !== "SUCCEEDED" ? html`<p class="failure">${row.cause}</p>` : ""}
    ${error ? html`<${Failure}>${error}<//>` : ""}
    ${data ? html`<pre class="log">${plain(data["stdout.log"]) || "(nothing on standard output)"}</pre>${data["stderr.log"] ? html`<h3>standard error</h3><pre class="log">${plain(data["stderr.log"])}</pre>` : ""}` : ""}
  </dialog>`;
}
