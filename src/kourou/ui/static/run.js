// The page of a run.
import { html, useState, useEffect, useRef, useMemo, useCallback, api, post, fetchJson, usePolled, useEvents, usePlace, runPath, duration, size, rate, percent, count, plural,
  clock, day, short, LIVE, UNKNOWN, State, Empty, Failure, Section, Table, tone, stateOf, usePanel, plain } from "./lib.js";
import { Graph } from "./graph.js";
import { Chart, Legend, COLORS, smooth } from "./chart.js";
import { Timeline } from "./timeline.js";

const TABS = ["overview", "metrics", "timeline", "data", "hosts", "logs"];
const URGENCY = ["FAILED", "KILLED", "STARTING", "STOPPING", "READY", "PENDING", "FINISHED"];
const urgency = (node) => (node.silent ? -1 : node.will_restart ? 1.5 : URGENCY.indexOf(node.state));
const many = (given) => (Array.isArray(given) ? given.join(", ") : given ?? null);

export function RunPage({ run, onTitle }) {
  const url = api("runs", run);
  const [page, setPage] = useState(null);
  const [error, setError] = useState("");
  const take = useCallback((data) => { setError(data.trouble || ""); if (!data.trouble) setPage(data); }, []);
  const connection = useEvents(page || !error ? `${url}/events` : null, take);
  const [opened, setOpened] = useState(null);
  const [filter, setFilter] = useState("");
  const { tab: hash } = usePlace();
  const tab = TABS.includes(hash) ? hash : "overview";
  useEffect(() => { fetchJson(url).then((data) => setPage((before) => before || data), (failure) => setError(failure.message)); }, [url]);
  useEffect(() => onTitle(page ? { name: run, connection, state: page.state } : { name: run }), [run, connection, page && page.state]);
  const open = useCallback((name) => setOpened(name), []);
  useEffect(() => {
    const keys = (event) => {
      if (event.target.closest("input, textarea, select, dialog") || event.metaKey || event.ctrlKey || event.altKey) return;
      const place = Number(event.key) - 1;
      if (TABS[place]) location.hash = TABS[place];
      if (event.key === "Escape") setOpened(null);
    };
    addEventListener("keydown", keys);
    return () => removeEventListener("keydown", keys);
  }, []);
  if (!page) return error ? html`<${Failure}>${error}<//>` : html`<${Empty}>Asking the run…<//>`;
  const body = {
    overview: () => html`<${Overview} page=${page} onOpen=${open} filter=${filter} setFilter=${setFilter} opened=${opened}/>`,
    metrics: () => html`<${Metrics} page=${page}/>`,
    timeline: () => html`<${Timeline} page=${page} onOpen=${open}/>`,
    data: () => html`<${Data} page=${page} onOpen=${open}/>`,
    hosts: () => html`<${Hosts} page=${page} onOpen=${open}/>`,
    logs: () => html`<${Logs} page=${page} node=""/>`,
  }[tab];
  return html`<${Head} page=${page}/>
    ${connection !== "live" && connection !== "ended" && connection !== "connecting" ? html`<${Failure}>${connection === "lost" ? "The dashboard does not answer. What you see is how the run was; it is asked again." : connection}<//>` : ""}
    ${error ? html`<${Failure}>${error}<//>` : ""}
    <nav class="tabs" aria-label="Parts of the page">${TABS.map((name, place) => html`<a href="#${name}" aria-current=${tab === name ? "page" : null} title="Key ${place + 1}">${name}</a>`)}</nav>
    ${body()}
    ${opened && page.nodes.some((node) => node.name === opened) ? html`<${NodePanel} key=${opened} page=${page} name=${opened} onClose=${() => setOpened(null)}/>` : ""}`;
}

function Head({ page }) {
  const live = LIVE.has(page.state);
  const counts = new Map();
  for (const node of page.nodes) counts.set(stateOf(node), (counts.get(stateOf(node)) || 0) + 1);
  const lasted = (page.ended_at ?? page.taken_at) - page.started_at;
  const served = page.nodes.reduce((sum, node) => sum + (node.calls_per_s || 0), 0);
  const cpu = page.nodes.reduce((sum, node) => sum + (node.cpu_percent || 0), 0) + (page.launcher.cpu_percent || 0);
  const memory = page.nodes.reduce((sum, node) => sum + (node.memory_bytes || 0), 0) + (page.launcher.memory_bytes || 0);
  return html`<header class="head">
    <div><h1>${page.run_id}</h1>
      <p class="facts"><${State} state=${page.state}/><span>${page.launch_type}</span><span>${live ? "for" : "after"} ${duration(lasted)}</span>
        <span title=${new Date(page.started_at * 1000).toString()}>since ${day(page.started_at)}</span>
        ${page.waits_for ? html`<span class="warn-text">waits for ${page.waits_for}</span>` : ""}
        ${page.stop_reason ? html`<span>because ${page.stop_reason}</span>` : ""}</p></div>
    <dl class="figures"><div><dt>nodes</dt><dd>${count(page.nodes.length)}</dd></div>
      ${live ? html`<div><dt>calls/s</dt><dd>${rate(served)}</dd></div><div><dt>CPU %</dt><dd>${percent(cpu)}</dd></div><div><dt>memory</dt><dd>${size(memory)}</dd></div>` : ""}
      <div class="wide"><dt>states</dt><dd class="states">${[...counts].map(([state, n]) => html`<${State} state=${state} note=${count(n)}/>`)}</dd></div></dl>
    ${live && page.state === "running" ? html`<${Action} label="Stop run" sure="Stop it now" ask=${() => post(api("runs", page.run_id, "stop"))} danger/>` : ""}
  </header>`;
}

// A button that asks back in its own place, and tells how it went.
function Action({ label, sure, ask, danger }) {
  const [step, setStep] = useState("");
  const [told, setTold] = useState("");
  useEffect(() => { if (step !== "sure") return undefined; const timer = setTimeout(() => setStep(""), 4000); return () => clearTimeout(timer); }, [step]);
  const click = async () => {
    if (sure && step !== "sure") { setStep("sure"); setTold(""); return; }
    setStep("asking");
    try { await ask(); setTold(sure ? "Asked for." : ""); } catch (error) { setTold(error.message); }
    setStep("");
  };
  return html`<span class="action"><button class=${danger ? "danger" : ""} data-sure=${step === "sure" ? "" : null} disabled=${step === "asking"} onClick=${click}>${step === "sure" ? sure : label}</button>${told ? html`<small role="status">${told}</small>` : ""}</span>`;
}

function Overview({ page, onOpen, filter, setFilter, opened }) {
  const bad = page.findings.filter((finding) => finding.severity !== "note");
  const notes = page.findings.filter((finding) => finding.severity === "note");
  const graph = useRef(null);
  const openGroup = (label) => {
    const own = page.nodes.filter((node) => node.label === label);
    if (own.length === 1) onOpen(own[0].name); else setFilter(`${label}/`);
  };
  return html`${bad.length ? html`<ul class="findings" role="alert">${bad.map((finding) => html`<${Finding} finding=${finding} onOpen=${onOpen}/>`)}</ul>` : ""}
    <${Section} title="Who calls whom" aside=${LIVE.has(page.state) && page.graph.edges.length ? html`<small>calls a second, calls in flight; waits of more than 2 s are amber, and red where nothing moves</small>` : ""}>
      <div ref=${graph}><${Graph} page=${page} onOpen=${openGroup}/></div><//>
    ${page.waits.length ? html`<${Waits} page=${page} onOpen=${onOpen}/>` : ""}
    ${notes.length ? html`<${Section} title="Worth knowing"><ul class="findings">${notes.map((finding) => html`<${Finding} finding=${finding} onOpen=${onOpen}/>`)}</ul><//>` : ""}
    <${Nodes} page=${page} onOpen=${onOpen} filter=${filter} setFilter=${setFilter} opened=${opened}/>`;
}

const Finding = ({ finding, onOpen }) => html`<li class=${{ error: "bad", warning: "warn", note: "dim" }[finding.severity]}>
  <p>${finding.text}${finding.nodes.slice(0, 3).map((name) => html` <button class="chip" onClick=${() => onOpen(name)}>${name}</button>`)}</p>
  ${finding.details.length || finding.ends ? html`<div>${finding.details.filter((line) => !/^[\s^~]+$/.test(line)).map((line) => html`<p>${line}</p>`)}${finding.ends ? html`<p class="ends">ends when ${finding.ends}</p>` : ""}</div>` : ""}</li>`;

const Waits = ({ page, onOpen }) => html`<${Section} title="Who waits for whom" aside=${html`<small>${plural(page.waits.length, "wait")}</small>`}>
  <${Table} rows=${page.waits} keyOf=${(wait) => `${wait.who} ${wait.on} ${wait.doing} ${wait.what} ${wait.where}`} onOpen=${(wait) => onOpen(wait.on)} most=${12} columns=${WAIT_COLUMNS}/><//>`;

const WAIT_COLUMNS = [
  { name: "who", title: "who", of: (wait) => wait.who, show: (wait) => html`<b>${wait.who}</b>${wait.doing ? html` <small>in ${wait.doing}</small>` : ""}` },
  { name: "on", title: "waits for", of: (wait) => wait.on, show: (wait) => html`<span class=${wait.severity === "note" ? "" : "bad-text"}>${wait.on}</span> <small>${wait.what}</small>` },
  { name: "for", title: "for", numeric: true, of: (wait) => wait.for_s, show: (wait) => duration(wait.for_s) },
  { name: "where", title: "at", className: "line wide-only", of: (wait) => wait.where, show: (wait) => html`<code>${wait.where}</code>` },
  { name: "ends", title: "ends when", className: "line wide-only", of: (wait) => wait.ends, show: (wait) => wait.ends },
];

const up = (node, now) => node.uptime_s ?? (node.started_at && tone(node.state) !== "dim" ? now - node.started_at : null);
const hasFailed = (node) => node.exit && node.uptime_s !== null && tone(node.state) === "bad";
const metricsOf = (node) => Object.entries(node.metrics).filter(([name]) => name !== "step" && name !== "time");

function nodeColumns(page) {
  const live = LIVE.has(page.state);
  const some = (of) => page.nodes.some((node) => of(node) !== null && of(node) !== undefined && of(node) !== "");
  return [
    { name: "name", title: "node", className: "name", of: (node) => node.name, show: (node) => html`<b>${node.name}</b><span class="under narrow-only">${hasFailed(node) ? node.exit.cause : plain(node.last_line)}</span>` },
    { name: "state", title: "state", of: urgency, show: (node) => html`<${State} state=${stateOf(node)}/>` },
    { name: "attempt", title: "try", numeric: true, className: "mid-only", of: (node) => node.attempt, show: (node) => (node.attempt > 1 ? html`<span class="warn-text">${node.attempt}</span>` : node.attempt || "") },
    { name: "host", title: "host", className: "wide-only", of: (node) => node.host },
    { name: "pid", title: "pid", numeric: true, className: "wide-only dim", of: (node) => node.pid, show: (node) => node.pid ?? "" },
    { name: "up", title: "up", numeric: true, className: "mid-only", of: (node) => up(node, page.taken_at), show: (node) => duration(up(node, page.taken_at)) },
    ...(live ? [
      { name: "cpu", title: "CPU %", numeric: true, of: (node) => node.cpu_percent, show: (node) => percent(node.cpu_percent) },
      { name: "memory", title: "memory", numeric: true, of: (node) => node.memory_bytes, show: (node) => size(node.memory_bytes) },
    ] : []),
    ...(some((node) => many(node.asked_gpus)) ? [{ name: "gpu", title: "GPU", className: "mid-only", of: (node) => many(node.asked_gpus), show: (node) => many(node.asked_gpus) ?? "" }] : []),
    ...(live ? [
      { name: "calls", title: "calls/s", numeric: true, of: (node) => node.calls_per_s, show: (node) => rate(node.calls_per_s) },
      { name: "queued", title: "queue", numeric: true, className: "mid-only", of: (node) => node.queued, show: (node) => (node.queued ? html`<span class="warn-text">${count(node.queued)}</span>` : node.queued === 0 ? "0" : UNKNOWN) },
    ] : []),
    ...(some((node) => metricsOf(node).length || null) ? [{ name: "metrics", title: "metrics", className: "line wide-only", of: (node) => node.metrics.step ?? null, show: (node) => html`<span>${metricsOf(node).map(([name, value]) => html`<span class="metric">${name} <b>${short(value)}</b></span>`)}</span>` }] : []),
    { name: "line", title: live ? "last line" : "last line, or how it ended", className: "line grow wide-only", of: (node) => node.last_line, show: (node) => (hasFailed(node) ? html`<span class="bad-text">${node.exit.cause}</span>` : html`<span class="dim">${plain(node.last_line)}</span>`) },
  ];
}

function Nodes({ page, onOpen, filter, setFilter, opened }) {
  const [state, setState] = useState("");
  const input = useRef(null);
  useEffect(() => {
    const keys = (event) => { if (event.key === "/" && !event.target.closest("input, dialog")) { event.preventDefault(); input.current?.focus(); } };
    addEventListener("keydown", keys);
    return () => removeEventListener("keydown", keys);
  }, []);
  const states = [...new Set(page.nodes.map(stateOf))];
  const rows = page.nodes.filter((node) => (!state || stateOf(node) === state) && (!filter || node.name.includes(filter) || node.host.includes(filter) || node.last_line.includes(filter)));
  const ordered = [...rows].sort((a, b) => urgency(a) - urgency(b));
  const shape = `${page.state} ${page.nodes.some((node) => metricsOf(node).length)}`;
  const columns = useMemo(() => nodeColumns(page), [page, shape]);
  return html`<${Section} title="Nodes" aside=${html`
      ${states.length > 1 ? html`<span class="chips" role="group" aria-label="States">${states.map((one) => html`<button class="chip" aria-pressed=${state === one} onClick=${() => setState(state === one ? "" : one)}>${one.toLowerCase()}</button>`)}</span>` : ""}
      <input ref=${input} type="search" placeholder="Filter  /" aria-label="Filter nodes by name, host or last line" value=${filter} onInput=${(event) => setFilter(event.target.value)}/>`}>
    ${rows.length ? html`<${Table} rows=${ordered} columns=${columns} keyOf=${(node) => node.name} onOpen=${(node) => onOpen(node.name)} selected=${opened}/>`
      : html`<${Empty}>${page.nodes.length ? "No node is like that." : "This run has no nodes."}<//>`}<//>`;
}

function NodePanel({ page, name, onClose }) {
  const node = page.nodes.find((one) => one.name === name);
  const [stacks, setStacks] = useState("");
  const [show, setShow] = useState("log");
  const { data } = usePolled(api("runs", page.run_id, "nodes", name), LIVE.has(page.state) ? 5 : 0);
  const dialog = usePanel();
  const live = LIVE.has(page.state) && tone(node.state) !== "dim" && node.state !== "FINISHED";
  const askStacks = async () => { setShow("stacks"); setStacks("Asking…"); setStacks((await post(`${api("runs", page.run_id, "stacks")}?node=${encodeURIComponent(name)}`)).stacks); };
  const inputs = data?.plan?.inputs || [];
  const exits = data?.exits || [];
  const given = [["CPUs", many(node.asked_cpus)], ["GPUs", many(node.asked_gpus)], ["memory limit", node.asked_memory_bytes ? size(node.asked_memory_bytes) : null]].filter(([, value]) => value);
  return html`<dialog ref=${dialog} class="panel" aria-label=${name} onKeyDown=${(event) => event.key === "Escape" && onClose()}>
    <header><button class="close" aria-label="Close" title="Close (Esc)" onClick=${onClose}>×</button><h2>${name}</h2><p class="dim">${node.kind}</p></header>
    <div class="buttons">${live ? html`<${Action} label="Restart" sure="Restart it now" ask=${() => post(`${api("runs", page.run_id, "restart")}?node=${encodeURIComponent(name)}`)}/>
        <${Action} label="Stacks" ask=${askStacks}/>` : ""}
      <span class="chips">${["log", ...(stacks ? ["stacks"] : []), ...(exits.length ? ["exits"] : [])].map((one) => html`<button class="chip" aria-pressed=${show === one} onClick=${() => setShow(one)}>${one}</button>`)}</span></div>
    <dl class="grid">
      <div><dt>state</dt><dd><${State} state=${stateOf(node)}/></dd></div>
      <div><dt>attempt</dt><dd>${node.attempt}</dd></div><div><dt>host</dt><dd>${node.host || UNKNOWN}</dd></div><div><dt>pid</dt><dd>${node.pid ?? UNKNOWN}</dd></div>
      <div><dt>up</dt><dd>${duration(up(node, page.taken_at))}</dd></div><div><dt>CPU %</dt><dd>${percent(node.cpu_percent)}</dd></div><div><dt>memory</dt><dd>${size(node.memory_bytes)}</dd></div>
      <div><dt>calls/s</dt><dd>${rate(node.calls_per_s)}</dd></div><div><dt>answered</dt><dd>${count(node.calls)}</dd></div>
      ${given.map(([title, value]) => html`<div><dt>${title}</dt><dd>${value}</dd></div>`)}
      ${metricsOf(node).map(([metric, value]) => html`<div><dt>${metric}</dt><dd>${short(value)}</dd></div>`)}
    </dl>
    ${inputs.length ? html`<p class="dim">calls ${inputs.join(", ")}</p>` : ""}
    ${hasFailed(node) ? html`<p class="failure">${node.exit.cause}</p>` : ""}
    ${node.details.length ? html`<ul class="details">${node.details.map((line) => html`<li>${line}</li>`)}</ul>` : ""}
    ${show === "stacks" ? html`<pre>${stacks}</pre>` : show === "exits" ? [...exits].reverse().map((exit) => html`<article class="exit"><p><b>attempt ${exit.attempt}</b> ${exit.cause} <small>${clock(exit.time)}, after ${duration(exit.uptime_s)}, on ${exit.host}</small></p>
        ${exit.traceback || exit.last_lines.length ? html`<pre>${exit.traceback || plain(exit.last_lines.join("\n"))}</pre>` : ""}</article>`)
      : html`<${Logs} page=${page} node=${name} bare/>`}
  </dialog>`;
}

const MOST_LINES = 3000;

function Logs({ page, node, bare }) {
  const [lines, setLines] = useState([]);
  const [text, setText] = useState("");
  const [word, setWord] = useState(node);
  const [stays, setStays] = useState(true);
  const end = useRef(null);
  const add = useCallback((more) => setLines((before) => [...before, ...more].slice(-MOST_LINES)), []);
  const url = `${api("runs", page.run_id, "logs")}/events${word ? `?node=${encodeURIComponent(word)}` : ""}`;
  useEffect(() => setLines([]), [url]);
  const connection = useEvents(url, add);
  useEffect(() => { if (stays && end.current) end.current.scrollTop = end.current.scrollHeight; }, [lines, stays]);
  const shown = text ? lines.filter((line) => line.text.toLowerCase().includes(text.toLowerCase())) : lines;
  const labels = [...new Set(page.nodes.map((one) => one.label))];
  const body = html`<pre class="log" ref=${end} tabindex="0" onScroll=${(event) => { const at = event.target; setStays(at.scrollHeight - at.scrollTop - at.clientHeight < 30); }}>${shown.map((line) =>
    html`<div><time>${line.time.slice(11, 23)}</time>${node === line.node ? "" : html`<b>${line.node}</b>`}<span>${plain(line.text)}</span></div>`)}</pre>
    ${shown.length ? "" : html`<${Empty}>${connection === "connecting" ? "Reading…" : `Nothing ${text ? "like that " : ""}was printed${node ? ` by ${node}` : ""}${connection === "live" ? " yet" : ""}.`}<//>`}`;
  if (bare) return body;
  return html`<${Section} title="Logs" aside=${html`<select aria-label="Nodes" value=${word} onChange=${(event) => setWord(event.target.value)}><option value="">all nodes</option>${labels.map((label) => html`<option value=${label}>${label}</option>`)}</select>
    <input type="search" placeholder="Filter lines" aria-label="Filter lines" value=${text} onInput=${(event) => setText(event.target.value)}/>`}>${body}<//>`;
}

const MOST_CURVES = 20;

function Metrics({ page }) {
  const { data, error } = usePolled(api("runs", page.run_id, "curves"), LIVE.has(page.state) ? 3 : 0);
  const [weight, setWeight] = useState(0);
  const [text, setText] = useState("");
  const groups = useMemo(() => {
    const names = [...new Set((data?.curves || []).map((curve) => curve.node))];
    const colors = new Map(names.map((name, place) => [name, place]));
    const found = new Map();
    for (const curve of data?.curves || []) {
      const place = colors.get(curve.node);
      const line = { name: curve.node, color: COLORS[place % COLORS.length], dashed: Math.floor(place / COLORS.length) % 2 === 1, steps: curve.steps, values: smooth(curve.values, weight) };
      found.set(curve.metric, [...(found.get(curve.metric) || []), line]);
    }
    return [...found].map(([metric, lines]) => ({ metric, lines: lines.slice(0, MOST_CURVES), more: lines.length - MOST_CURVES }));
  }, [data, weight]);
  if (error) return html`<${Failure}>${error}<//>`;
  if (!data) return html`<${Empty}>Reading what was logged…<//>`;
  if (!groups.length) return html`<${Empty}>Nothing was logged ${LIVE.has(page.state) ? "yet" : ""}. A line in any node does it: <code>lp.log(step, loss=loss)</code><//>`;
  const shown = groups.filter((group) => group.metric.includes(text));
  return html`<${Section} title="Metrics" aside=${html`<label>smoothing <input type="range" min="0" max="0.99" step="0.01" value=${weight} onInput=${(event) => setWeight(Number(event.target.value))}/></label>
      <input type="search" placeholder="Filter metrics" aria-label="Filter metrics" value=${text} onInput=${(event) => setText(event.target.value)}/>`}>
    <div class="charts">${shown.map((group) => html`<figure key=${group.metric}><figcaption>${group.metric}</figcaption><${Chart} lines=${group.lines}/><${Legend} lines=${group.lines}/>
      ${group.more > 0 ? html`<p class="dim">and ${group.more} more nodes</p>` : ""}</figure>`)}</div><//>
    ${Object.keys(data.config).length ? html`<${Section} title="Settings"><dl class="grid">${Object.entries(data.config).map(([name, value]) => html`<div><dt>${name}</dt><dd>${typeof value === "object" ? JSON.stringify(value) : short(value)}</dd></div>`)}</dl><//>` : ""}`;
}

const TABLE_COLUMNS = [
  { name: "table", title: "table", of: (row) => row.name, show: (row) => html`<b>${row.name}</b> <small>${row.node}</small>` },
  { name: "size", title: "items", numeric: true, of: (row) => row.current_size, show: (row) => html`${count(row.current_size)} <small>of ${count(row.max_size)}</small>` },
  { name: "full", title: "full", className: "mid-only", numeric: true, of: (row) => row.current_size / row.max_size, show: (row) => html`<meter min="0" max="1" value=${row.max_size ? row.current_size / row.max_size : 0}></meter>` },
  { name: "bytes", title: "memory", className: "mid-only", numeric: true, of: (row) => row.current_bytes, show: (row) => size(row.current_bytes) },
  { name: "in", title: "inserts/s", numeric: true, of: (row) => row.inserts_per_s, show: (row) => rate(row.inserts_per_s) },
  { name: "out", title: "samples/s", numeric: true, of: (row) => row.samples_per_s, show: (row) => rate(row.samples_per_s) },
  { name: "inserts", title: "inserts", className: "wide-only", numeric: true, of: (row) => row.inserts, show: (row) => count(row.inserts) },
  { name: "samples", title: "samples", className: "wide-only", numeric: true, of: (row) => row.samples, show: (row) => count(row.samples) },
  { name: "waiting", title: "held back", className: "line", of: (row) => row.waiting_inserts + row.waiting_samples, show: (row) => (row.blocked_on ? html`<span class="warn-text">${row.waiting_inserts ? plural(row.waiting_inserts, "insert") : plural(row.waiting_samples, "sample")}, ${duration(row.waits_s)}</span> <small>${row.blocked_on}</small>` : html`<span class="dim">nobody</span>`) },
];

const READER_COLUMNS = [
  { name: "reader", title: "reader", of: (row) => row.reader, show: (row) => html`<b>${row.reader}</b>${row.host ? html` <small>${row.host}</small>` : ""}` },
  { name: "pid", title: "pid", numeric: true, className: "mid-only dim", of: (row) => row.pid, show: (row) => row.pid },
  { name: "version", title: "version", numeric: true, of: (row) => row.version, show: (row) => count(row.version) },
  { name: "lag", title: "behind", numeric: true, of: (row) => row.lag, show: (row) => (row.lag ? html`<span class=${row.too_old ? "bad-text" : ""}>${count(row.lag)}</span>` : "0") },
  { name: "age", title: "age", numeric: true, of: (row) => row.age_s, show: (row) => duration(row.age_s) },
  { name: "why", title: "", className: "line grow", of: (row) => row.too_old, show: (row) => html`<span class="bad-text">${row.too_old}</span>` },
];

function Data({ page, onOpen }) {
  const tables = page.tables;
  const replay = new Set(tables.map((table) => table.node));
  const weights = page.nodes.flatMap((node) => node.weights.map((one) => ({ node: node.name, ...one })));
  const telling = page.nodes.filter((node) => node.details.length && !replay.has(node.name) && !node.weights.length);
  if (!tables.length && !weights.length && !telling.length) return html`<${Empty}>${LIVE.has(page.state) ? "No node of this run holds replay tables or weights." : "The run has ended, and its replay tables and weights with it."}<//>`;
  return html`${tables.length ? html`<${Section} title="Replay tables"><${Table} rows=${tables} columns=${TABLE_COLUMNS} keyOf=${(row) => `${row.node} ${row.name}`} onOpen=${(row) => onOpen(row.node)}/><//>` : ""}
    ${weights.map((one) => html`<${Section} title="Weights: ${one.name}" aside=${html`<small>${one.version === null ? "nothing was published" : `version ${one.version}, ${duration(one.age_s)} old, by ${one.publisher}`}</small>`}>
      ${one.readers.length ? html`<${Table} rows=${one.readers} columns=${READER_COLUMNS} keyOf=${(row) => `${row.host} ${row.reader} ${row.pid}`} sortedBy=${{ name: "lag", down: true }}/>` : html`<${Empty}>Nobody has read them.<//>`}<//>`)}
    ${telling.map((node) => html`<${Section} title=${node.name} aside=${html`<small>${node.kind}</small>`}><ul class="details">${node.details.map((line) => html`<li>${line}</li>`)}</ul><//>`)}`;
}

const HOST_COLUMNS = [
  { name: "host", title: "host", of: (row) => row.host, show: (row) => html`<b>${row.host}</b>` },
  { name: "nodes", title: "nodes", numeric: true, of: (row) => row.nodes, show: (row) => count(row.nodes) },
  { name: "states", title: "states", of: (row) => row.nodes, show: (row) => html`<span class="states">${Object.entries(row.states).map(([state, n]) => html`<${State} state=${state} note=${count(n)}/>`)}</span>` },
  { name: "cpu", title: "CPU %", numeric: true, of: (row) => row.cpu_percent, show: (row) => percent(row.cpu_percent) },
  { name: "memory", title: "memory", numeric: true, of: (row) => row.memory_bytes, show: (row) => size(row.memory_bytes) },
  { name: "cpus", title: "CPUs given", numeric: true, className: "mid-only", of: (row) => row.cpus, show: (row) => (row.cpus ? short(row.cpus) : UNKNOWN) },
  { name: "gpus", title: "GPUs given", numeric: true, className: "mid-only", of: (row) => row.gpus, show: (row) => (row.gpus ? short(row.gpus) : UNKNOWN) },
];

function Hosts({ page, onOpen }) {
  const given = page.hosts.flatMap((host) => host.given.map((one) => ({ host: host.host, ...one })));
  return html`<${Section} title="Hosts"><${Table} rows=${page.hosts} columns=${HOST_COLUMNS} keyOf=${(row) => row.host}/><//>
    <${Section} title="Allocation">${given.length ? html`<${Table} rows=${given} keyOf=${(row) => row.node} onOpen=${(row) => onOpen(row.node)} columns=${[
      { name: "node", title: "node", of: (row) => row.node, show: (row) => html`<b>${row.node}</b>` },
      { name: "host", title: "host", of: (row) => row.host },
      { name: "cpus", title: "CPUs", of: (row) => many(row.cpus), show: (row) => many(row.cpus) ?? UNKNOWN },
      { name: "gpus", title: "GPUs", of: (row) => many(row.gpus), show: (row) => many(row.gpus) ?? UNKNOWN },
      { name: "memory", title: "memory limit", numeric: true, of: (row) => row.memory_bytes, show: (row) => size(row.memory_bytes) },
    ]}/>` : html`<${Empty}>No node asked for CPUs, GPUs or memory of its own: all share what their hosts have.<//>`}<//>`;
}
