"""The screen of ``kourou top``, driven by keys as a person would."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING

from cli.commands import LiveRun
from cli.folders import failed_run
from cli.test_status_table import sample
from kourou.runtime.model.records import NodeState
from optional import is_there, optional, pytest
from polling import WAIT_S

if TYPE_CHECKING:
    from textual import widgets
    from textual.pilot import Pilot

    from kourou.cli.top import app as top, nodes, panes, screens
else:
    widgets = optional("textual.widgets")
    top, nodes, panes, screens = (optional(f"kourou.cli.top.{name}") for name in ("app", "nodes", "panes", "screens"))

pytestmark = pytest.mark.skipif(not is_there("textual"), reason="Textual is not installed")


def shown(app: top.TopApp, name: str) -> str:
    return str(app.query_one(f"#{name}", widgets.Static).render())


def drive(folder: Path, size: tuple[int, int], act: Callable[[top.TopApp, Pilot[None]], Awaitable[None]]) -> None:
    """Let the app run on a terminal of so many columns and lines, until it has looked at the run."""

    async def work() -> None:
        app = top.TopApp(failed_run(folder / "run-x"))
        async with app.run_test(size=size) as pilot:
            while not shown(app, "events") or not shown(app, "waits"):
                await pilot.pause(0.01)
            await act(app, pilot)

    asyncio.run(work())


@pytest.mark.parametrize("size", [(80, 24), (150, 40)])
def test_a_run_that_has_ended_stays_and_tells_how(tmp_path: Path, size: tuple[int, int]) -> None:
    async def act(app: top.TopApp, pilot: Pilot[None]) -> None:
        assert "run-x" in shown(app, "heading")
        assert "failed after 11s" in shown(app, "heading")
        rows = [[str(cell) for cell in app.nodes.get_row_at(row)] for row in range(app.nodes.row_count)]
        assert [row[0].strip() for row in rows] == ["learner/0", "actor/0"]
        assert sum(len(cell) for cell in rows[0]) <= size[0]
        assert "actor/0 failed first, 2 times" in shown(app, "waits")
        assert "actor/0 raised ValueError: no such env" in shown(app, "events")
        assert "loss" in shown(app, "numbers")
        assert [pane.display for pane in app.query("#panes > *")] == [True, size[0] > 100, size[0] > 100]
        await pilot.press("tab")
        assert [pane.display for pane in app.query("#panes > *")] == [size[0] > 100, True, size[0] > 100]
        await pilot.press("q")
        assert not app.is_running

    drive(tmp_path, size, act)


def test_keys_sort_filter_and_show_a_log(tmp_path: Path) -> None:
    async def act(app: top.TopApp, pilot: Pilot[None]) -> None:
        def names() -> list[str]:
            return [str(app.nodes.get_row_at(row)[0]).strip() for row in range(app.nodes.row_count)]

        await pilot.press("down")
        assert app.nodes.chosen == "actor/0"
        await pilot.press("s")
        assert names() == ["actor/0", "learner/0"]  # by state: what failed comes first
        await pilot.pause()
        assert (app.nodes.chosen, app.nodes.cursor_row) == ("actor/0", 0)
        await pilot.press("slash", *"lear", "enter")
        assert names() == ["learner/0"]
        await pilot.press("l")
        await pilot.pause()
        assert isinstance(app.screen, screens.LogScreen)
        assert "no such env" in "\n".join(line.text for line in app.screen.query_one(widgets.RichLog).lines)
        await pilot.press("escape", "question_mark")
        await pilot.pause()
        assert isinstance(app.screen, screens.TextScreen)
        await pilot.press("escape", "ctrl+c")
        assert not app.is_running

    drive(tmp_path, (100, 30), act)


def test_what_cannot_be_done_is_told(tmp_path: Path) -> None:
    async def act(app: top.TopApp, pilot: Pilot[None]) -> None:
        await pilot.press("r")
        await pilot.pause()
        (told,) = app._notifications
        assert told.message == "the run has ended"

    drive(tmp_path, (100, 30), act)


def test_nodes_are_arranged_as_a_view_says() -> None:
    seen = sample([NodeState.READY, NodeState.FAILED, NodeState.READY])
    first, second, third = (node.name for node in seen.status.nodes)
    busy = {**seen.nodes, third: dataclasses.replace(seen.nodes[third], cpu_percent=9999.0)}
    seen = dataclasses.replace(seen, nodes=busy)

    def names(**view: object) -> list[str]:
        return [node.name for node in nodes.arranged(seen, nodes.View(**view))]  # type: ignore[arg-type] # what each line says

    assert names() == [first, second, third]
    assert names(backwards=True) == [third, second, first]
    assert names(order="state") == [second, first, third]
    assert names(order="cpu %") == [third, first, second]
    assert names(order="cpu %", backwards=True) == [first, second, third]
    assert names(pattern="fail") == [second]
    assert names(pattern="*/2") == [third]
    assert names(pattern="LABEL/0") == [first]


def test_bars_are_of_any_numbers() -> None:
    assert panes.spark([0, 1, 2, 7]) == "▁▂▃█"
    assert panes.spark([3, 3]) == "▅▅"
    assert panes.spark([-1e308, float("nan"), 1e308]) == "▁ █"
    assert panes.spark([]) == ""


@pytest.mark.soak
def test_a_node_is_restarted_and_the_run_stopped_once_somebody_says_yes(launched: Callable[..., LiveRun]) -> None:
    live = launched("make_endless", "--launch-type", "local_mp")

    async def work() -> None:
        app = top.TopApp(live.found, interval_s=0.1)
        async with app.run_test() as pilot:

            async def until_there_is(text: str, name: str = "events") -> None:
                deadline = time.monotonic() + WAIT_S
                while text not in shown(app, name):
                    assert time.monotonic() < deadline, (text, app.nodes.chosen, app.screen, shown(app, name))
                    await pilot.pause(0.02)

            await until_there_is("client/1 ready")
            await pilot.press("down", "down", "r", "n", "r", "y")
            await until_there_is("client/1 ready, attempt 2")
            assert "client/1 was ended to be started again: kourou top" in shown(app, "events")
            await pilot.press("x", "n", "x", "y")
            await until_there_is("finished after", "heading")

    asyncio.run(work())
    assert live.launcher.wait(WAIT_S) == 0
    assert "stopped because: kourou top, by" in live.kourou("status").out
