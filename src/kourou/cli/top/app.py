"""``kourou top``."""

from __future__ import annotations

import contextlib
import dataclasses
import getpass
import sys
import threading
from collections.abc import Callable
from typing import ClassVar

from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container, VerticalScroll
from textual.events import Resize
from textual.message import Message
from textual.theme import BUILTIN_THEMES
from textual.widgets import DataTable, Footer, Input, Static

from kourou import errors, threads
from kourou.cli.status.table import run_heading
from kourou.cli.top.follow import Follower, Seen, Sight
from kourou.cli.top.nodes import ORDERS, NodesTable, View
from kourou.cli.top.panes import EventsPane, numbers_text, waits_text
from kourou.cli.top.screens import LogScreen, Question, TextScreen
from kourou.runtime.diagnosis.finding import Diagnosis, Severity
from kourou.runtime.model.status import RunState
from kourou.runtime.monitoring.found_run import FoundRun
from kourou.runtime.monitoring.remote_run import RemoteRun
from kourou.runtime.monitoring.stacks import stacks_of

_PANES = {"waits": "who waits for whom", "events": "events", "numbers": "replay, weights, metrics"}
_WIDE_COLUMNS = 120  # in which all panes are beside each other
_HELP = """\
↑ ↓ PgUp PgDn     choose a node; a click does so, too
l or enter        the node's log, as it comes
t                 the stacks of the node's threads
r                 end the node's process and start it again; asks first
x                 stop the run; asks first
s, S              sort by the next column; the other way round. A click on a heading sorts by it
/                 show some nodes only: a part of a name, a pattern (act*/1), a state (failed); empty: all
tab               the next of the panes below: who waits for whom, events, numbers
J, K or shift ↓ ↑ scroll that pane
q or ctrl-c       leave; the run goes on

The colours are those of your terminal."""

_ANSI = BUILTIN_THEMES["ansi-dark"]
_SHADES = {
    "ansi-background": "ansi_default",
    "ansi-foreground": "ansi_default",
    "border-blurred": "ansi_bright_black",
    "scrollbar": "ansi_bright_black",
    "scrollbar-background": "ansi_default",
}
_THEME = dataclasses.replace(_ANSI, name="terminal", variables={**_ANSI.variables, **_SHADES})
"""The terminal's own colours, which can be read on its own background, be that dark or light."""


def show_top(found: FoundRun, *, interval_s: float) -> None:
    """Show a run until somebody leaves.

    Raises:
        PlanError: this is no terminal.
    """
    if not all(stream.isatty() for stream in (sys.stdin, sys.stdout, sys.stderr)):  # Textual draws on the last
        raise errors.PlanError("kourou top draws on a terminal, and this is none: kourou status --watch prints lines")
    TopApp(found, interval_s=interval_s).run()


class TopApp(App[None]):
    """The screen.

    Args:
        found: the run.
        interval_s: between two looks at it.
    """

    TITLE = "kourou top"
    ENABLE_COMMAND_PALETTE = False
    CSS_PATH = "top.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("l", "log", "log"),
        Binding("t", "stacks", "stacks"),
        Binding("r", "restart", "restart"),
        Binding("x", "stop", "stop"),
        Binding("s", "sort", "sort"),
        Binding("S", "turn", "turn", show=False),
        Binding("slash", "filter", "filter", key_display="/"),
        Binding("tab", "pane", "pane", key_display="⇥", priority=True),
        Binding("shift+down,J", "scroll(3)", "scroll", show=False),
        Binding("shift+up,K", "scroll(-3)", "scroll", show=False),
        Binding("question_mark", "help", "help", key_display="?"),
        Binding("q", "quit", "quit"),
        Binding("ctrl+c", "quit", "quit", show=False, priority=True),
    ]

    class Told(Message):
        """Something that another thread has found out."""

        def __init__(self, take: Callable[[], None]) -> None:
            super().__init__()
            self.take = take

    def __init__(self, found: FoundRun, *, interval_s: float = 1.0) -> None:
        super().__init__(ansi_color=True)
        self._found = found
        self._follower = Follower(found, self._hear, interval_s)
        self._view = View()
        self._seen: Seen | None = None
        self._events = EventsPane()
        self._pane = 0
        self._width = 80
        self.nodes = NodesTable()

    def compose(self) -> ComposeResult:
        yield Static(Text(f"{self._found.run_id}: looking …"), id="heading")
        yield self.nodes
        yield Input(placeholder="part of a name, pattern, or state", id="filter")
        with Container(id="panes"):
            for name in _PANES:
                with VerticalScroll(id=f"pane-{name}", can_focus=False):
                    yield Static(id=name)
        yield Footer(compact=True)

    def on_mount(self) -> None:
        """Begin to look."""
        self.register_theme(_THEME)
        self.theme = _THEME.name
        self.query_one("#filter").display = False
        self._choose_pane()
        self.nodes.focus()
        self._follower.start()

    def on_unmount(self) -> None:
        """Look no more."""
        self._follower.close()

    # --- What is seen

    def _hear(self, sight: Sight) -> None:
        self._pass(lambda: self._take(sight))

    def _pass(self, take: Callable[[], None]) -> None:
        """Let the app's own thread do something; not once it is gone."""
        with contextlib.suppress(RuntimeError):
            self.post_message(self.Told(take))

    def on_top_app_told(self, told: Told) -> None:
        """In the app's thread."""
        told.take()

    def _take(self, sight: Sight) -> None:
        if isinstance(sight, str):
            self.query_one("#heading", Static).update(Text(sight, "red"))
        elif isinstance(sight, Diagnosis):
            self.query_one("#waits", Static).update(waits_text(sight))
            bad = {Severity.NOTE: "", Severity.WARNING: "-warning", Severity.ERROR: "-error"}[sight.severity]
            self.query_one("#pane-waits").set_classes(bad)
            self._choose_pane()
        else:
            self._seen = sight
            self._events.add(sight.events)
            self._draw()

    def _draw(self) -> None:
        if self._seen is None:
            return
        sample, width = self._seen.sample, self._width
        self._choose_pane()
        self.screen_stack[0].query_one("#heading", Static).update(run_heading(sample, width))
        self.nodes.show(sample, self._view, width)
        word = f" {self._view.pattern!r}" if self._view.pattern else ""
        self.nodes.border_title = f"{self.nodes.row_count} of {len(sample.status.nodes)} nodes{word}"
        self.query_one("#events", Static).update(self._events.text())
        self.query_one("#numbers", Static).update(numbers_text(self._seen))

    def on_resize(self, event: Resize) -> None:
        """The columns have another width."""
        self._width = event.size.width
        self.screen_stack[0].set_class(self._width < _WIDE_COLUMNS, "-narrow")
        self._draw()

    # --- What is chosen

    def on_data_table_row_selected(self) -> None:
        """Enter, or a click on the chosen node."""
        self.action_log()

    def on_data_table_header_selected(self, event: DataTable.HeaderSelected) -> None:
        """A click on a heading."""
        name = str(event.column_key.value)
        if name in ORDERS:
            self._look(View(order=name, backwards=self._view.backwards, pattern=self._view.pattern))

    def action_sort(self) -> None:
        """By the next column."""
        following = ORDERS[(ORDERS.index(self._view.order) + 1) % len(ORDERS)]
        self._look(View(order=following, pattern=self._view.pattern))

    def action_turn(self) -> None:
        """The other way round."""
        self._look(View(order=self._view.order, backwards=not self._view.backwards, pattern=self._view.pattern))

    def _look(self, view: View) -> None:
        self._view = view
        self._draw()

    def action_filter(self) -> None:
        """Ask for a word."""
        line = self.query_one("#filter", Input)
        line.display = True
        line.focus()

    def on_input_changed(self, event: Input.Changed) -> None:
        """Each letter counts at once."""
        self._look(View(order=self._view.order, backwards=self._view.backwards, pattern=event.value))

    def on_input_submitted(self) -> None:
        """Back to the nodes."""
        self.query_one("#filter").display = False
        self.nodes.focus()

    def action_pane(self) -> None:
        """The next pane; where there is room for all, which one scrolls."""
        self._pane = (self._pane + 1) % len(_PANES)
        self._choose_pane()

    def _choose_pane(self) -> None:
        for place, name in enumerate(_PANES):
            pane = self.query_one(f"#pane-{name}").set_class(place == self._pane, "-chosen")
            following = list(_PANES.values())[(place + 1) % len(_PANES)]
            title = _PANES[name] if name != "waits" or self._goes_on() else "how it ended"
            pane.border_title = f"{title}  ⇥ {following}" if self._width < _WIDE_COLUMNS else title

    def action_scroll(self, lines: int) -> None:
        """Scroll the chosen pane."""
        pane = self.query_one(f"#pane-{list(_PANES)[self._pane]}", VerticalScroll)
        pane.scroll_relative(y=lines, animate=False)

    # --- What is done

    def action_log(self) -> None:
        """Show the log of the chosen node."""
        if self.nodes.chosen:
            self.push_screen(LogScreen(self._found, self.nodes.chosen, self._goes_on))

    def action_help(self) -> None:
        """Show the keys."""
        self.push_screen(TextScreen("keys", Text(_HELP)))

    def action_stacks(self) -> None:
        """Show where the threads of the chosen node are."""
        name = self.nodes.chosen

        def ask(remote: RemoteRun) -> Callable[[], None]:
            stacks = stacks_of(remote, name, {node.name: node for node in remote.status().nodes})
            return lambda: self._show(f"{name}: its threads", stacks)

        if name and self._may_ask():
            self._ask(ask)

    def action_restart(self) -> None:
        """Start the chosen node again."""
        name = self.nodes.chosen

        def ask(remote: RemoteRun) -> Callable[[], None]:
            records = {node.name: node for node in remote.status().nodes}
            remote.request_restarts([name], records, f"kourou top, by {getpass.getuser()}")
            return lambda: self._notify(f"{name} is ended, and starts again")

        text = f"Start {name} again? Its process is killed, and its callers get NodeRestarted."
        if name and self._may_ask():
            self.push_screen(Question(text), lambda yes: self._ask(ask) if yes else None)

    def action_stop(self) -> None:
        """Stop the run."""
        if self._found.state is RunState.PENDING:
            text, act = f"Cancel the job of {self._found.run_id}?", self._found.cancel
            self.push_screen(Question(text), lambda yes: act() if yes else None)
            return

        def ask(remote: RemoteRun) -> Callable[[], None]:
            remote.request_stop(f"kourou top, by {getpass.getuser()}")
            return lambda: self._notify("the run was asked to end")

        text = f"Stop {self._found.run_id}? All its nodes end."
        if self._may_ask():
            self.push_screen(Question(text), lambda yes: self._ask(ask) if yes else None)

    def _ask(self, ask: Callable[[RemoteRun], Callable[[], None]]) -> None:
        """Ask the run for something, from a thread: it may take its time. What comes back is done here."""

        def work() -> None:
            try:
                with RemoteRun(self._found) as remote:
                    done = ask(remote)
            except (errors.KourouError, OSError) as error:
                text = str(error)
                self._pass(lambda: self._notify(text, bad=True))
            else:
                self._pass(done)

        threads.start(threading.Thread(target=work, name="kourou-top-ask", daemon=True))

    def _may_ask(self) -> bool:
        if not self._goes_on():
            self._notify("the run has ended", bad=True)
        return self._goes_on()

    def _goes_on(self) -> bool:
        return self._seen is None or not self._seen.sample.status.state.over

    def _show(self, title: str, text: str) -> None:
        self.push_screen(TextScreen(title, Text(text)))

    def _notify(self, text: str, *, bad: bool = False) -> None:
        self.notify(text, severity="error" if bad else "information", markup=False)
