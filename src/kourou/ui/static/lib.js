// What all pages share: numbers in words, fetching, events, navigation.
import { html, render, Component, createContext, useState, useEffect, useRef, useMemo, useCallback, useContext } from "./vendor/preact-htm.js";

export { html, render, Component, createContext, useState, useEffect, useRef, useMemo, useCallback, useContext };

export const UNKNOWN = "–";
const number = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });

export function duration(seconds) {
  if (seconds === null || seconds === undefined) return UNKNOWN;
  if (seconds < 10) return `${Math.max(0, seconds).toFixed(1)}s`;
  const whole = Math.floor(seconds);
  for (const [unit, big, smaller, small] of [["d", 86400, "h", 3600], ["h", 3600, "m", 60], ["m", 60, "s", 1]]) {
    if (whole >= big) return `${Math.floor(whole / big)}${unit} ${String(Math.floor((whole % big) / small)).padStart(2, "0")}${smaller}`;
  }
  return `${whole}s`;
}

export function size(bytes) {
  if (bytes === null || bytes === undefined) return UNKNOWN;
  for (const unit of ["B", "KiB", "MiB"]) {
    if (bytes < 1024) return `${Math.round(bytes)} ${unit}`;
    bytes /= 1024;
  }
  return `${bytes.toFixed(1)} GiB`;
}

export function rate(perSecond) {
  if (perSecond === null || perSecond === undefined) return UNKNOWN;
  if (perSecond > 0 && perSecond < 9.95) return perSecond.toFixed(1);
  return perSecond < 99950 ? number.format(perSecond) : `${number.format(perSecond / 1000)}k`;
}

export const percent = (value) => (value === null || value === undefined ? UNKNOWN : `${Math.round(value)}`);
export const count = (value) => (value === null || value === undefined ? UNKNOWN : number.format(value));
export const plural = (n, word) => `${number.format(n)} ${word}${n === 1 ? "" : "s"}`;

export function short(value) {
  if (typeof value !== "number") return value === null || value === undefined ? UNKNOWN : String(value);
  if (Number.isInteger(value) && Math.abs(value) < 1e7) return number.format(value);
  const text = value.toPrecision(4);
  return text.includes("e") ? String(Number(text)) : String(Number(text));
}

// Colours of terminals are not shown; neither are the rest of their commands.
// eslint-disable-next-line no-control-regex
export const plain = (text) => text.replace(/\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|.)|[\x00-\x08\x0b-\x1f\x7f]/g, "");

export const clock = (unix) => new Date(unix * 1000).toLocaleTimeString("en-GB");
export const day = (unix) => new Date(unix * 1000).toLocaleString("en-GB", { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" });

export const LIVE = new Set(["running", "suspended", "stopping"]);

export async function fetchJson(url, options = {}) {
  const answer = await fetch(url, options);
  if (answer.status === 401) throw new Error("The dashboard was started anew: open it with the URL that it printed now.");
  const data = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Error(data.error || `${answer.status} ${answer.statusText}`);
  return data;
}

export const post = (url) => fetchJson(url, { method: "POST", headers: { "X-Kourou": "1" } });

export const api = (...parts) => "/api/" + parts.map((part) => part.split("/").map(encodeURIComponent).join("/")).join("/");

function useVisible() {
  const [visible, setVisible] = useState(!document.hidden);
  useEffect(() => {
    const look = () => setVisible(!document.hidden);
    document.addEventListener("visibilitychange", look);
    return () => document.removeEventListener("visibilitychange", look);
  }, []);
  return visible;
}

// Asked for again and again while the page is visible; the browser sends the mark of the answer that it has.
export function usePolled(url, everyS) {
  const [state, setState] = useState({ data: null, error: "" });
  const visible = useVisible();
  useEffect(() => {
    if (!visible || !url) return undefined;
    let timer = 0, gone = false, last = "";
    const ask = async () => {
      try {
        const answer = await fetch(url, { cache: "no-cache" });
        if (answer.status === 401) throw new Error("The dashboard was started anew: open it with the URL that it printed now.");
        const text = await answer.text();
        if (!answer.ok) throw new Error(JSON.parse(text).error || answer.statusText);
        if (!gone && text !== last) { last = text; setState({ data: JSON.parse(text), error: "" }); }
        else if (!gone) setState((before) => (before.error ? { ...before, error: "" } : before));
      } catch (error) {
        if (!gone) setState((before) => ({ ...before, error: unreachable(error) }));
      }
      if (!gone && everyS) timer = setTimeout(ask, everyS * 1000);
    };
    ask();
    return () => { gone = true; clearTimeout(timer); };
  }, [url, everyS, visible]);
  return state;
}

const unreachable = (error) =>
  error instanceof TypeError ? "The dashboard does not answer: kourou ui has ended, or the way to it is cut. Trying again." : error.message;

// Server-sent events while the page is visible: onData gets what each of them holds.
export function useEvents(url, onData) {
  const [state, setState] = useState("connecting");
  const visible = useVisible();
  useEffect(() => {
    if (!visible || !url) return undefined;
    const source = new EventSource(url);
    source.onopen = () => setState("live");
    source.onmessage = (event) => { setState("live"); onData(JSON.parse(event.data)); };
    source.addEventListener("end", () => { setState("ended"); source.close(); });
    source.onerror = () => {
      setState("lost");
      if (source.readyState === EventSource.CLOSED) fetchJson(url.replace(/\/events.*$/, "")).catch((error) => setState(unreachable(error)));
    };
    return () => source.close();
  }, [url, visible]);
  return state;
}

// -- navigation: real URLs, without loading the page again --

const listeners = new Set();
export function go(path) {
  history.pushState(null, "", path);
  listeners.forEach((listener) => listener());
  scrollTo(0, 0);
}
addEventListener("popstate", () => listeners.forEach((listener) => listener()));

export function usePlace() {
  const read = () => ({ path: location.pathname, tab: location.hash.slice(1) });
  const [place, setPlace] = useState(read());
  useEffect(() => {
    const look = () => setPlace(read());
    listeners.add(look);
    addEventListener("hashchange", look);
    return () => { listeners.delete(look); removeEventListener("hashchange", look); };
  }, []);
  return place;
}

export function Link({ to, children, ...rest }) {
  const click = (event) => {
    if (event.metaKey || event.ctrlKey || event.shiftKey || event.button) return;
    event.preventDefault();
    go(to);
  };
  return html`<a href=${to} onClick=${click} ...${rest}>${children}</a>`;
}

export const runPath = (run) => `/runs/${encodeURIComponent(run)}`;
export const sweepPath = (sweep) => `/sweeps/${sweep.split("/").map(encodeURIComponent).join("/")}`;

// -- small pieces --

const TONES = {
  running: "good", ready: "good", succeeded: "done", finished: "done", stopping: "warn", suspended: "warn", starting: "warn", queued: "warn", restarting: "warn",
  interrupted: "warn", "no answer": "warn", failed: "bad", dead: "bad", killed: "bad", timeout: "bad", lost: "bad", cancelled: "dim", pending: "dim", elsewhere: "dim",
};
export const tone = (state) => TONES[String(state).toLowerCase()] || "dim";

// Of a node, as it is shown: one that does not answer may be suspended or busy, and has not failed.
export const stateOf = (node) => (node.silent ? "no answer" : node.will_restart ? "restarting" : node.state);

export const State = ({ state, note }) =>
  html`<span class="state ${tone(state)}"><i></i>${String(state).toLowerCase()}${note ? html` <small>${note}</small>` : ""}</span>`;

export const Empty = ({ children }) => html`<p class="empty">${children}</p>`;
export const Failure = ({ children }) => html`<p class="failure" role="alert">${children}</p>`;

export function Section({ title, aside, children, id }) {
  return html`<section id=${id}><header class="section"><h2>${title}</h2>${aside ? html`<div class="aside">${aside}</div>` : ""}</header>${children}</section>`;
}

// What the dialog at the side of a page needs: it is opened without a backdrop, takes the focus, and gives it back.
export function usePanel() {
  const dialog = useRef(null);
  useEffect(() => {
    const before = document.activeElement;
    dialog.current.show();
    dialog.current.querySelector("button").focus();
    return () => before?.focus();
  }, []);
  return dialog;
}

// A table whose columns sort. Columns: {name, title, of, show, className, numeric}.
export function Table({ columns, rows, keyOf, onOpen, most = 200, sortedBy = null, selected }) {
  const [sort, setSort] = useState(sortedBy);
  const [all, setAll] = useState(false);
  const ordered = useMemo(() => {
    const column = sort && columns.find((one) => one.name === sort.name);
    if (!column) return rows;
    const value = (row) => column.of(row) ?? null;
    return [...rows].sort((a, b) => {
      const [x, y] = [value(a), value(b)];
      if (x === null || y === null) return (x === null) - (y === null);
      return (x < y ? -1 : x > y ? 1 : 0) * (sort.down ? -1 : 1);
    });
  }, [rows, sort, columns]);
  const shown = all ? ordered : ordered.slice(0, most);
  const by = (column) => setSort((before) =>
    before && before.name === column.name ? (before.down === Boolean(column.numeric) ? { name: column.name, down: !before.down } : null) : { name: column.name, down: Boolean(column.numeric) });
  const keys = (row) => (event) => {
    if (event.target !== event.currentTarget) return;
    if (event.key === "Enter" || event.key === " ") { event.preventDefault(); onOpen(row); }
    const step = { ArrowDown: "nextElementSibling", j: "nextElementSibling", ArrowUp: "previousElementSibling", k: "previousElementSibling" }[event.key];
    if (step) { event.preventDefault(); event.currentTarget[step]?.focus(); }
  };
  return html`<div class="scroll"><table>
    <thead><tr>${columns.map((column) => html`<th class=${column.className || ""} data-numeric=${column.numeric ? "" : null}
      aria-sort=${sort && sort.name === column.name ? (sort.down ? "descending" : "ascending") : null}>
      <button onClick=${() => by(column)}>${column.title}</button></th>`)}</tr></thead>
    <tbody>${shown.map((row) => html`<tr key=${keyOf(row)} class=${onOpen ? "opens" : ""} aria-selected=${selected === keyOf(row) ? "true" : null}
      tabindex=${onOpen ? "0" : null} onClick=${onOpen ? () => onOpen(row) : null} onKeyDown=${onOpen ? keys(row) : null}>
      ${columns.map((column) => html`<td class=${column.className || ""} data-numeric=${column.numeric ? "" : null}>${column.show ? column.show(row) : column.of(row) ?? UNKNOWN}</td>`)}</tr>`)}</tbody>
  </table>${ordered.length > shown.length ? html`<button class="more" onClick=${() => setAll(true)}>Show all ${count(ordered.length)}</button>` : ""}</div>`;
}
