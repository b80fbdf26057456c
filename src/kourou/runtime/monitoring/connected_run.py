"""A live run as scripts and notebooks of the same user call it, which have not launched it."""

from __future__ import annotations

import os
from typing import Any

from kourou import errors
from kourou.closing import ClosedAtExit
from kourou.runtime.monitoring.node_choice import choose_node
from kourou.runtime.monitoring.remote_run import RemoteRun
from kourou.runtime.monitoring.run_search import choose_run, find_runs


def connect(run: str | os.PathLike[str] = "last", *, runs_dir: str | os.PathLike[str] | None = None) -> ConnectedRun:
    """Call the nodes of a run that another process has launched, as ``kourou call`` does.

    Example::

        with lp.connect("train") as run:
            counter = run.client("counter")
            print(counter.total())

    Objects of classes that modules define arrive as they are; of those of the run's script, where this script has them
    under their names.

    Args:
        run: its name, the beginning of that (of all runs, or of those that are live), or its folder; "last": the one
            that was started last.
        runs_dir: where to look for its folder; None: where runs are by default, or KOUROU_RUNS_DIR.

    Raises:
        NotFound: none is meant, or several are.
        NotOwned: it is one that others could have written.
        RunUnavailable: it has ended, has not begun, or its launcher is suspended.
        ServerUnavailable: its launcher cannot be reached on another host.
    """
    word = os.fspath(run)
    try:
        found = choose_run(word, runs_dir)
    except errors.NotFound:
        live = [one for one in find_runs(runs_dir, word) if one.state.live]  # of several, the others have ended
        if len(live) != 1:
            raise
        found = live[0]
    return ConnectedRun(RemoteRun(found))


class ConnectedRun(ClosedAtExit):
    """What :func:`connect` returns. The end of a ``with``, or :meth:`close`, closes it and its clients."""

    def __init__(self, remote: RemoteRun) -> None:
        self._remote = remote

    @property
    def run_id(self) -> str:
        """The run's name."""
        return self._remote.found.run_id

    def client(self, node: str) -> Any:
        """A client of a node, as nodes have that are given its handle.

        Args:
            node: ``label/index``, or a label of which one node has not ended.

        Raises:
            NotFound: there is none of that name, or several.
            ServerUnavailable: the run has just ended.
        """
        nodes = {record.name: record for record in self._remote.status().nodes}
        return self._remote.client(choose_node(nodes, node))

    def close(self) -> None:
        """Close all connections; the run goes on."""
        self._remote.close()

    def __repr__(self) -> str:
        return f"<connected to run {self.run_id}>"
