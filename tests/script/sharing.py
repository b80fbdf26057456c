"""A script that packs what its nodes would get, and a process that opens it."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

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


def shared(folder: Path, script: str, receiver: str) -> str:
    """Run a script that sets VALUE, then in another process the receiver, which has VALUE; what that printed."""
    file = str(folder / "packed")
    (folder / "script.py").write_text(textwrap.dedent(script) + PACK.format(file=file))
    (folder / "receiver.py").write_text(OPEN.format(file=file) + textwrap.dedent(receiver))
    _run(folder / "script.py")
    return _run(folder / "receiver.py")


def _run(file: Path) -> str:
    done = subprocess.run(
        [sys.executable, str(file)], cwd=file.parent, capture_output=True, text=True, timeout=50, check=False
    )
    assert done.returncode == 0, f"{file.name}: {done.stderr}"
    return done.stdout
