"""What the function of a run returned: ``result.pkl`` in the run's folder."""

from __future__ import annotations

import contextlib
import os
import pickle
from pathlib import Path
from typing import Any

from kourou import errors
from kourou.courier.wire import codec
from kourou.experiments.failures import ResultsError
from kourou.experiments.journal.run_folder import EXIT_FILE, read_json, write_whole
from kourou.experiments.journal.run_records import RunRecord, RunState
from kourou.limits import with_remedy
from kourou.ownership import read_own

_FILE = "result.pkl"


def keep_result(folder: Path, value: Any) -> str:
    """Write down what a run's function returned, in place of what an earlier attempt left.

    Returns:
        Why it cannot be kept; empty where it is.
    """
    file = folder / _FILE
    try:
        file.unlink(missing_ok=True)
        body, buffers = codec.encode(value, "the")
        stream = b"".join(body) if isinstance(body, tuple) else bytes(body)
        write_whole(file, pickle.dumps((stream, [bytearray(buffer) for buffer in buffers])))
    except errors.SerializationError as error:
        why_not = str(error)
    except OSError as error:
        why_not = f"the result cannot be written: {with_remedy(error)}"
    else:
        return ""
    with contextlib.suppress(OSError):  # no room for that either
        write_whole(file, pickle.dumps(why_not))
    return why_not


def run_result(run: RunRecord | str | os.PathLike[str]) -> Any:
    """What the function of a run returned: of this launch, an earlier one, or in another process.

    Objects of classes of the script are of those that the reader's own script has under their names.

    Args:
        run: one of :attr:`SweepOutcome.records`, or the run's folder.

    Raises:
        ResultsError: it has not succeeded (the message says how it ended), or is no function's, or what it returned
            could not be kept, or cannot be read here.
        NotOwned: others could have written what is there.
    """
    folder = Path(run.folder if isinstance(run, RunRecord) else run)
    end = read_json(folder / EXIT_FILE)
    if end is None:
        raise ResultsError(f"{folder}: no run has ended there")
    if end["state"] != RunState.SUCCEEDED:
        said = next((line.strip() for line in reversed(end["last_lines"]) if line.strip()), "")
        how = f"{end['cause']}: {said}" if said else end["cause"]
        raise ResultsError(f"{folder}: the run has no result, it is {end['state']}: {how}")
    try:
        found = pickle.loads(read_own(folder / _FILE))
    except FileNotFoundError:
        why = "only what a function returns is kept; this run is none, or had no room for it (see its stderr.log)"
        raise ResultsError(f"{folder}: {why}") from None
    if isinstance(found, str):
        raise ResultsError(f"{folder}: {found}")
    try:
        return codec.decode(*found)
    except errors.SerializationError as error:
        raise ResultsError(f"{folder}: {error}") from error
