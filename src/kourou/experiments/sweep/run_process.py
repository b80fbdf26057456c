"""The process of a run that is a function or a program: unpickle it, call it, exit with what came of it."""

from __future__ import annotations

import hashlib
import os
import pickle
import signal
import sys
from pathlib import Path
from typing import Any

from kourou import errors
from kourou.experiments.failures import SweepError
from kourou.experiments.journal.returned import keep_result
from kourou.ownership import read_own
from kourou.runtime.interpreter import startup
from kourou.runtime.interpreter.user_code import run_user_code
from kourou.runtime.node_process.outcomes import outcome_of_exit
from kourou.runtime.stopping import exit_signals

_INTERRUPTED = 130


def run(boot: dict[str, Any]) -> int:
    """Execute the run that ``boot`` describes, in a process forked for it; its exit code."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    no_terminal = f"{boot['name']} has no terminal: call what it runs outside of the sweep"
    startup.prepare(boot["argv"], boot["path"], no_terminal=no_terminal)
    code = _call(Path(boot["payload_file"]), boot["payload_sha256"])
    if code:
        exit_signals.end_with(f"{boot['name']}, which launched it, has failed")
    exit_signals.wait_for_runs()
    with startup.leaving(boot["name"], code):
        startup.finish()
    return code


def read_payload(file: Path, sha256: str | None = None) -> tuple[str, Any, dict[str, Any]]:
    """What a run is: its kind, what it calls, and with which arguments.

    Raises:
        NotOwned: others could have written the file.
        SweepError: it is not what the launcher wrote.
    """
    data = read_own(file)
    if sha256 is not None and hashlib.sha256(data).hexdigest() != sha256:
        raise SweepError(f"{file} is not what its launcher wrote: somebody changed it, or the disk is broken")
    kind, names, packed = pickle.loads(data)
    target, *values = packed.open()
    return kind, target, dict(zip(names, values, strict=True))


def _call(payload_file: Path, sha256: str | None = None) -> int:
    try:
        kind, target, arguments = read_payload(payload_file, sha256)
        if kind == "function":
            why_not = keep_result(payload_file.parent, run_user_code(target, **arguments))
            if why_not:
                print(f"kourou: {why_not}; it is not kept", file=sys.stderr)  # noqa: T201 - the run's log
        else:
            _run_program(target, arguments)
    except (SystemExit, errors.Interrupted) as error:
        return outcome_of_exit(error).code
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)  # noqa: T201 - the run's log
        return _INTERRUPTED
    except errors.ProgramFailed as failure:
        print(f"kourou: {failure}", file=sys.stderr)  # noqa: T201 - the run's log
        return 1
    except BaseException as error:  # noqa: BLE001 - whatever a run raises is its failure
        startup.print_failure(error)
        return 1
    return 0


def _run_program(target: Any, arguments: dict[str, Any]) -> None:
    from kourou.runtime.graph.program import Program  # noqa: PLC0415 - functions need none of it
    from kourou.runtime.launch.launch import launch  # noqa: PLC0415 - functions need none of it

    made = target if isinstance(target, Program) else target(**arguments)
    program, options = made if isinstance(made, tuple) else (made, {})
    launch_type = os.environ.get("KOUROU_LAUNCH_TYPE") or "local_mp"
    launch(program, **{"launch_type": launch_type, "run_dir": os.environ["KOUROU_RUN_DIR"], **options}).wait()


if __name__ == "__main__":
    sys.exit(_call(Path(sys.argv[1])))
