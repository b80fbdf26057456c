// Which page it is, what stands above all of them, and the list of runs and sweeps.
import { html, render, useState, useEffect, usePlace, usePolled, Link, go, runPath, sweepPath, duration, count, day, LIVE, State, Empty, Failure, Section, Table, UNKNOWN } from "./lib.js";
import { RunPage } from "./run.js";
import { SweepPage } from "./sweep.js";
import { useTheme } from "./chart.js";

function Theme() {
  const theme = useTheme();
  const turn = () => {
    const next = theme === "dark" ? "light" : "dark";
    document.documentElement.dataset.theme = next;
    try { localStorage.setItem("kourou-theme", next); } catch { /* storage may be off: it lasts as long as the page */ }
  };
  useEffect(() => {
    const keys = (event) => { if (event.key === "t" && !event.target.closest("input, select, textarea") && !event.metaKey && !event.ctrlKey) turn(); };
    addEventListener("keydown", keys);
    return () => removeEventListener("keydown", keys);
  }, [theme]);
  return html`<button class="icon" onClick=${turn} aria-label="Change to ${theme === "dark" ? "light" : "dark"} colours" title="Colours (t)"><svg viewBox="0 0 16 16" width="16" height="16"><circle cx="8" cy="8" r="6.2" fill="none" stroke="currentColor" stroke-width="1.5"/><path d="M8 1.8a6.2 6.2 0 0 1 0 12.4z" fill="currentColor"/></svg></button>`;
}

function App() {
  const { path } = usePlace();
  const [title, setTitle] = useState({});
  const [, kind, ...rest] = path.split("/");
  const name = rest.map(decodeURIComponent).join("/");
  useEffect(() => { if (!name) setTitle({}); }, [name]);
  useEffect(() => { document.title = title.name ? `${title.state && title.state !== "running" ? `${title.state}: ` : ""}${title.name} · kourou` : "kourou"; }, [title]);
  const page = kind === "runs" && name ? html`<${RunPage} key=${name} run=${name} onTitle=${setTitle}/>`
    : kind === "sweeps" && name ? html`<${SweepPage} key=${name} sweep=${name} onTitle=${setTitle}/>`
    : html`<${Lists}/>`;
  return html`<a class="skip" href="#content">To the content</a><header class="top"><${Link} to="/" class="brand"><img src="/static/icon.svg" alt="" width="20" height="20"/>kourou<//>
    ${name ? html`<nav aria-label="Where you are"><${Link} to="/">${kind}<//><span>/</span><b>${name}</b></nav>` : html`<nav></nav>`}
    ${title.connection === "live" ? html`<span class="live"><i></i>live</span>` : ""}<${Theme}/></header>
    <main id="content">${page}</main>`;
}

const RUN_COLUMNS = [
  { name: "run", title: "run", className: "name", of: (row) => row.run, show: (row) => html`<${Link} to=${runPath(row.run)} tabindex="-1"><b>${row.run}</b><//>` },
  { name: "state", title: "state", of: (row) => row.state, show: (row) => html`<${State} state=${row.state}/>` },
  { name: "type", title: "type", className: "mid-only dim", of: (row) => row.launch_type },
  { name: "nodes", title: "nodes", numeric: true, of: (row) => row.nodes, show: (row) => count(row.nodes) },
  { name: "host", title: "host", className: "wide-only dim", of: (row) => row.host },
  { name: "took", title: "took", numeric: true, of: (row) => row.took_s ?? row.age_s, show: (row) => duration(LIVE.has(row.state) ? Date.now() / 1000 - row.started_at : row.took_s) },
  { name: "started", title: "started", numeric: true, className: "mid-only", of: (row) => row.started_at, show: (row) => day(row.started_at) },
];

const SWEEP_COLUMNS = [
  { name: "sweep", title: "sweep", className: "name", of: (row) => row.sweep, show: (row) => html`<${Link} to=${sweepPath(row.sweep)} tabindex="-1"><b>${row.sweep}</b><//>` },
  { name: "done", title: "done", numeric: true, of: (row) => row.done / row.total, show: (row) => html`${count(row.done)} <small>of ${count(row.total)}</small>` },
  { name: "bar", title: "", className: "mid-only", of: (row) => row.done, show: (row) => html`<meter min="0" max="1" value=${row.done / Math.max(1, row.total)}></meter>` },
  { name: "states", title: "states", of: (row) => row.total, show: (row) => html`<span class="states">${Object.entries(row.states).map(([state, n]) => html`<${State} state=${state} note=${count(n)}/>`)}</span>` },
  { name: "eta", title: "to go", numeric: true, className: "mid-only", of: (row) => row.eta_s, show: (row) => (row.eta_s ? duration(row.eta_s) : UNKNOWN) },
  { name: "started", title: "started", numeric: true, className: "mid-only", of: (row) => row.started_at, show: (row) => (row.started_at ? day(row.started_at) : UNKNOWN) },
];

function Lists() {
  const [text, setText] = useState("");
  const [asked, setAsked] = useState("");
  useEffect(() => { const timer = setTimeout(() => setAsked(text), 250); return () => clearTimeout(timer); }, [text]);
  const { data, error } = usePolled(`/api/runs${asked ? `?text=${encodeURIComponent(asked)}` : ""}`, 3);
  if (!data) return error ? html`<${Failure}>${error}<//>` : html`<${Empty}>Looking for runs…<//>`;
  const live = data.runs.filter((row) => LIVE.has(row.state) || row.state === "pending");
  const ended = data.runs.filter((row) => !live.includes(row));
  const open = (row) => go(row.run ? runPath(row.run) : sweepPath(row.sweep));
  return html`${error ? html`<${Failure}>${error}<//>` : ""}
    <${Section} title="Running" aside=${html`<input type="search" placeholder="Filter runs" aria-label="Filter runs by name" value=${text} onInput=${(event) => setText(event.target.value)}/>`}>
      ${live.length ? html`<${Table} rows=${live} columns=${RUN_COLUMNS} keyOf=${(row) => row.run} onOpen=${open}/>`
        : html`<${Empty}>No program of yours runs on this machine${text ? ` whose name has “${text}” in it` : ""}. One that is started with <code>lp.launch</code> or <code>kourou run</code> appears here.<//>`}<//>
    <${Section} title="Sweeps" aside=${html`<small>below ${data.sweeps_folder}</small>`}>
      ${data.sweeps.length ? html`<${Table} rows=${data.sweeps} columns=${SWEEP_COLUMNS} keyOf=${(row) => row.sweep} onOpen=${open} most=${20}/>`
        : html`<${Empty}>There is no sweep below this folder. <code>kourou ui --sweeps FOLDER</code> looks elsewhere.<//>`}<//>
    <${Section} title="Ended" aside=${html`<small>${data.more ? `the newest ${count(data.runs.length)} of ${count(data.runs.length + data.more)} runs` : ""} in ${data.runs_folder}</small>`}>
      ${ended.length ? html`<${Table} rows=${ended} columns=${RUN_COLUMNS} keyOf=${(row) => row.run} onOpen=${open} most=${50}/>` : html`<${Empty}>No run has ended yet.<//>`}<//>`;
}

render(html`<${App}/>`, document.getElementById("app"));
