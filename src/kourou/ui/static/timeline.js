// The lives of nodes: starts, exits and restarts, with their causes.
import { html, useState, api, usePolled, duration, clock, Empty, Failure, Section, tone, count, LIVE } from "./lib.js";

const MOST_ROWS = 150;

function Life({ life, begin, span, now }) {
  const at = (time) => `${(100 * (time - begin)) / span}%`;
  const end = life.ended_at ?? now;
  const ready = life.ready_at ?? end;
  const words = `${life.node}, attempt ${life.attempt}: started ${clock(life.started_at)}` +
    (life.ready_at ? `, ready after ${duration(life.ready_at - life.started_at)}` : "") +
    (life.ended_at ? `, ${life.cause || life.state.toLowerCase()} after ${duration(life.ended_at - life.started_at)}` : "");
  return html`<span class="life ${life.ended_at ? `ended ${tone(life.state)}` : ""}" title=${words} style=${{ left: at(life.started_at), width: `${(100 * Math.max(end - life.started_at, 0)) / span}%` }}>
    <i style=${{ width: `${(100 * (ready - life.started_at)) / Math.max(end - life.started_at, 1e-6)}%` }}></i></span>`;
}

export function Timeline({ page, onOpen }) {
  const live = LIVE.has(page.state);
  const { data, error } = usePolled(api("runs", page.run_id, "lives"), live ? 3 : 0);
  const [text, setText] = useState("");
  if (error) return html`<${Failure}>${error}<//>`;
  if (!data) return html`<${Empty}>Reading what has happened…<//>`;
  if (!data.lives.length) return html`<${Empty}>No node has been started yet.<//>`;
  const now = page.ended_at ?? page.taken_at;
  const begin = Math.min(page.started_at, data.lives[0].started_at);
  const span = Math.max(now - begin, 1);
  const nodes = new Map();
  for (const life of data.lives) nodes.set(life.node, [...(nodes.get(life.node) || []), life]);
  const rows = [...nodes].filter(([name]) => name.includes(text));
  const bad = data.lives.filter((life) => life.ended_at && tone(life.state) === "bad").slice(-40).reverse();
  const marks = data.marks.filter((mark) => ["stop", "restart"].includes(mark.event));
  const ticks = [0, 0.25, 0.5, 0.75, 1];
  return html`<${Section} title="Timeline" aside=${html`<input type="search" placeholder="Filter nodes" aria-label="Filter nodes" value=${text} onInput=${(event) => setText(event.target.value)}/>`}>
      <div class="timeline">
        <div class="ticks"><span></span><div>${ticks.map((tick) => html`<span style=${{ left: `${tick * 100}%` }}>${duration(tick * span)}</span>`)}</div></div>
        ${rows.slice(0, MOST_ROWS).map(([name, lives]) => html`<div class="row" key=${name}><button class="name" onClick=${() => onOpen(name)}>${name}</button>
          <div>${lives.map((life) => html`<${Life} key=${life.attempt} life=${life} begin=${begin} span=${span} now=${now}/>`)}
            ${marks.filter((mark) => !mark.node || mark.node === name).map((mark) => html`<em class=${mark.event} style=${{ left: `${(100 * (mark.time - begin)) / span}%` }}></em>`)}</div></div>`)}
      </div>
      ${rows.length > MOST_ROWS ? html`<${Empty}>${count(rows.length - MOST_ROWS)} more nodes: filter by name to see them.<//>` : ""}
    <//>
    <${Section} title="What happened">
      ${marks.length || bad.length ? html`<ul class="events">
        ${[...marks.map((mark) => ({ at: mark.time, tone: "warn", who: mark.node || "the run", what: mark.event === "stop" ? `stop: ${mark.reason}` : "is started again" })),
          ...bad.map((life) => ({ at: life.ended_at, tone: "bad", who: life.node, what: `${life.cause}, attempt ${life.attempt}, after ${duration(life.ended_at - life.started_at)}` }))]
          .sort((a, b) => b.at - a.at).map((one) => html`<li class=${one.tone}><time>${clock(one.at)}</time><b>${one.who}</b> <span>${one.what}</span></li>`)}</ul>`
        : html`<${Empty}>No node has failed, and nobody has asked for a stop or a restart.<//>`}
    <//>`;
}
