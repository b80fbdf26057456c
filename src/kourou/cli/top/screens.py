"""What lies above the nodes for a while: a question, a text, a node's log."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Footer, RichLog, Static

from kourou.runtime.files.log_file import LogFile
from kourou.runtime.monitoring.found_run import FoundRun
from kourou.runtime.output.node_logs import MERGED_LOG

_FIRST_LINES = 500
_MOST_LINES = 5_000
_POLL_S = 0.3


class Question(ModalScreen[bool]):
    """Asks before something is done that cannot be taken back."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "dismiss(True)", "yes"),
        Binding("n,escape,q", "dismiss(False)", "no", key_display="n"),
    ]

    def __init__(self, text: str) -> None:
        super().__init__()
        self._text = text

    def compose(self) -> ComposeResult:
        with Vertical(id="question"):
            yield Static(Text(self._text))
            yield Static(Text.assemble("\n", ("y", "bold"), " yes    ", ("n", "bold"), " no"))


class TextScreen(ModalScreen[None]):
    """A text that may be longer than the screen."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,q,enter", "dismiss", "back", key_display="esc")]

    def __init__(self, title: str, text: Text) -> None:
        super().__init__()
        self._title = title
        self._text = text

    def compose(self) -> ComposeResult:
        yield Static(Text(self._title, "bold"))
        with VerticalScroll():
            yield Static(self._text)
        yield Footer(compact=True)


class LogScreen(ModalScreen[None]):
    """What a node prints: its last lines, and those that come."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,q,enter", "dismiss", "back", key_display="esc")]

    def __init__(self, found: FoundRun, node: str, is_live: Callable[[], bool]) -> None:
        super().__init__()
        self._node = node
        self._is_live = is_live
        self._file = LogFile(found.path / MERGED_LOG, lambda line: line.node == node)
        self._lines = RichLog(max_lines=_MOST_LINES, wrap=True)
        self._count = 0

    def compose(self) -> ComposeResult:
        yield Static(id="log-title")
        yield self._lines
        yield Footer(compact=True)

    def on_mount(self) -> None:
        """Show what there is, and look again and again."""
        self._file.skip_to_last(_FIRST_LINES)
        self._read()
        self.set_interval(_POLL_S, self._read)
        self._lines.focus()

    def _read(self) -> None:
        for line in self._file.read():
            self._count += 1
            # The node's own colours; what would move the cursor is left out.
            before = f"{line.time[11:19]} " + ("" if line.node == self._node else f"[{line.node}] ")
            self._lines.write(Text.assemble((before, "bright_black"), Text.from_ansi(line.text)))
        follows = "it goes on" if self._is_live() else "the run has ended"
        told = f"{self._count} lines; {follows}" if self._count else f"it has printed nothing; {follows}"
        self.query_one("#log-title", Static).update(Text.assemble((self._node, "bold"), f"  ·  {told}"))
