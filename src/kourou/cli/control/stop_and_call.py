"""``kourou stop`` and ``kourou call``."""

from __future__ import annotations

import dataclasses
import getpass
import json
import re
import sys
import time
from collections.abc import Iterator
from typing import Any

import typer

from kourou import courier, errors
from kourou.cli.control.script_classes import script_classes_of
from kourou.cli.terminal.formats import duration
from kourou.cli.terminal.output import BAD_USAGE, FAILED, print_json, print_text, tell
from kourou.runtime.model.status import RunState, RunStatus
from kourou.runtime.monitoring.found_run import FoundRun
from kourou.runtime.monitoring.node_choice import choose_node
from kourou.runtime.monitoring.remote_run import RemoteRun
from kourou.runtime.process import process_table
from kourou.shown import listed, shown

_POLL_S = 0.05
_NAME_NODES_AFTER_S = 1.5  # most programs have ended by then; the nodes that have not are named
_EXTRA_S = 15.0  # waited beyond the run's stop timeline, at whose end every node has been killed
_BARE_WORD = re.compile(r"[A-Za-z_][\w./:@+-]*")


def stop_run(found: FoundRun, *, timeout_s: float | None, as_json: bool) -> None:
    """Ask a run to end, wait until it has, and say how."""
    if found.state is RunState.ELSEWHERE:
        raise errors.RunUnavailable(f"run {found.run_id} was launched on {found.info.host}: stop it there")
    if found.state is RunState.PENDING:
        found.cancel()
        print_text(f"run {found.run_id} had not begun: its job {found.info.job} was cancelled")
        return
    asked_at = time.monotonic()
    asked = found.state.live and _stop(found, found.info.stop_s + _EXTRA_S if timeout_s is None else timeout_s)
    status = found.status()
    if as_json:
        print_json({"asked": asked, **status.to_dict()})
    elif status.state is RunState.DEAD:
        print_text(_describe_dead_run(found))
    elif asked:
        print_text(
            f"run {found.run_id} {status.state} {duration(time.monotonic() - asked_at)} after it was asked to end"
        )
        print_text(f"  {_how_nodes_ended(status)}")
    else:
        print_text(f"run {found.run_id} had already ended: {status.state}, {_how_nodes_ended(status)}")


def _stop(found: FoundRun, limit_s: float) -> bool:
    """Ask, and wait for the end; False if it had ended before it could be asked."""
    try:
        with RemoteRun(found) as remote:
            remote.request_stop(f"kourou stop, by {getpass.getuser()}")
            _wait(remote, limit_s)
    except errors.ServerUnavailable:
        if found.state.live:
            raise
        return False
    return True


def _wait(remote: RemoteRun, limit_s: float) -> None:
    found, begun, told = remote.found, time.monotonic(), ""
    while found.state.live:
        waited = time.monotonic() - begun
        if waited >= limit_s:
            raise errors.DeadlineExceeded(
                f"run {found.run_id} was asked to stop and had not ended after {limit_s:g} s; "
                f"its launcher is process {found.info.pid}, see: kourou status {found.run_id}"
            )
        if waited > _NAME_NODES_AFTER_S and (left := _running_nodes(remote)) not in {"", told}:
            tell(f"waiting for {left}; all are killed {duration(found.info.stop_s)} after the request")
            told = left
        time.sleep(_POLL_S)


def _running_nodes(remote: RemoteRun) -> str:
    """The nodes that have not ended, as far as they fit in a line."""
    try:
        return listed(node.name for node in remote.status().nodes if not node.gone)
    except errors.ServerUnavailable:
        return ""


def _how_nodes_ended(status: RunStatus) -> str:
    states = [str(node.state).lower() for node in status.nodes]
    return ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))


def _describe_dead_run(found: FoundRun) -> str:
    """What a dead launcher left: nodes end with their launcher, and this says whether all of them did."""
    text = f"run {found.run_id} cannot be asked: its launcher (process {found.info.pid}) is dead"
    left = process_table.escaped_from(f"{found.run_id}:")
    if left:
        return f"{text}, and left processes behind; end them with: kill -9 {' '.join(map(str, left))}"
    return f"{text}, and nothing of it is left"


def call_method(
    found: FoundRun, node: str, method: str, words: list[str], *, kwargs: str, timeout_s: float, as_json: bool
) -> None:
    """Call a node's method and print what it returned; of a generator, each item."""
    args = [_argument(word) for word in words]
    named = _keywords(kwargs)
    name = choose_node({record.name: record for record in found.status().nodes}, node)
    # A result may be of a class in a module beside the run's script; this process's own modules come first.
    sys.path.extend(entry for entry in found.info.path if entry not in sys.path)
    with script_classes_of(found), RemoteRun(found) as remote:
        client = courier.with_options(remote.client(name), timeout_s=timeout_s)
        try:
            result = getattr(client, method)(*args, **named) if method != "__call__" else client(*args, **named)
            for value in result if isinstance(result, Iterator) else [result]:
                _print_value(value, as_json=as_json)
        except errors.RemoteError as error:
            tell(f"{name}.{method} raised {error.remote_type}: {error}")
            if error.remote_traceback:
                sys.stderr.write(error.remote_traceback.rstrip("\n") + "\n")
            raise typer.Exit(FAILED) from None
        except AttributeError as error:  # UnknownMethod, or a name that a client does not let through
            tell(str(error))
            raise typer.Exit(BAD_USAGE) from None


def _argument(word: str) -> Any:
    """JSON; a bare word is a string, so that no quotes have to be quoted."""
    try:
        return json.loads(word)
    except ValueError:
        if _BARE_WORD.fullmatch(word):
            return word
        raise errors.PlanError(f"the argument {word!r} is not JSON; a string is written as '\"…\"'") from None


def _keywords(text: str) -> dict[str, Any]:
    try:
        named = json.loads(text)
    except ValueError:
        named = None
    if not isinstance(named, dict):
        raise errors.PlanError(f"--kwargs takes a JSON object such as '{{\"rate\": 0.1}}', not {text!r}")
    return named


def _print_value(value: Any, *, as_json: bool) -> None:
    if as_json:
        print_json(as_json_value(value))
    else:
        print_text(value if isinstance(value, str) else shown(value, sys.maxsize))


_PLAIN = (str, int, float, bool, type(None))


def as_json_value(value: Any) -> Any:
    """Arrays and tensors become lists; dataclasses and named tuples objects; what has no form in JSON its repr."""
    if type(value) in _PLAIN:
        return value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = dataclasses.fields(value)
        return {field.name: as_json_value(getattr(value, field.name)) for field in fields}
    convert = getattr(value, "_asdict", None) or getattr(value, "tolist", None)  # named tuples'; NumPy's and torch's
    if convert is not None:
        value = convert()
    if isinstance(value, dict):
        return {str(key): as_json_value(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [as_json_value(item) for item in value]
    return value if isinstance(value, _PLAIN) else shown(value, sys.maxsize)
