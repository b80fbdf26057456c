"""Scripts that pack what their nodes would get, and processes that open it."""

from __future__ import annotations

import tempfile
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from nursery import Nursery

PACK = """
import pickle, sys
from kourou.script.packed import pack
with open({file!r}, "wb") as file:
    pickle.dump(pack({{"value": VALUE}}, "a test", setup=tuple(globals().get("SETUP", ()))), file, 5)
"""

OPEN = """
import pickle, sys
with open({file!r}, "rb") as file:
    packed = pickle.load(file)
(VALUE,) = packed.open()
import __main__
"""


@pytest.fixture
def shared(nursery: Nursery) -> Callable[[Path, str, str], str]:
    """Run a script that sets VALUE, then in another process the receiver, which has VALUE; what that printed."""

    def share(folder: Path, script: str, receiver: str) -> str:
        file = str(folder / "packed")
        run(nursery, folder / "script.py", textwrap.dedent(script) + PACK.format(file=file))
        return run(nursery, folder / "receiver.py", OPEN.format(file=file) + textwrap.dedent(receiver))

    return share


def run(nursery: Nursery, file: Path, code: str) -> str:
    file.write_text(code)
    with tempfile.TemporaryFile("w+") as complaints:
        script = nursery.start(code, file=file, stderr=complaints)
        printed = script.communicate(timeout=50)
        complaints.seek(0)
        assert script.returncode == 0, f"{file.name}: {complaints.read()}"
    return printed
