"""Write src/kourou/proto from the files under proto/, or check that it is what they would give.

Run by ``make proto`` and ``make proto-check`` with the generator that requirements/proto.txt pins.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from grpc_tools import protoc

SOURCES = Path(__file__).resolve().parent
PACKAGE_ROOT = SOURCES.parent / "src"
PATTERNS = ("*_pb2.py", "*_pb2.pyi")


def generate(out: Path) -> None:
    """Run the generator on every source; ``out`` becomes what ``src`` is."""
    sources = sorted(str(path.relative_to(SOURCES)) for path in SOURCES.rglob("*.proto"))
    if not sources:
        sys.exit(f"no .proto file under {SOURCES}")
    if protoc.main(["protoc", f"--proto_path={SOURCES}", f"--python_out={out}", f"--pyi_out={out}", *sources]):
        sys.exit("the generator failed; its message is above")


def generated(root: Path) -> dict[Path, str]:
    """Every generated file below ``root`` with its text."""
    found = (path for pattern in PATTERNS for path in root.glob(f"kourou/proto/**/{pattern}"))
    return {path.relative_to(root): path.read_text(encoding="utf-8") for path in found}


def main() -> None:
    """Write or check, as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--check", action="store_true", help="write nothing; fail on a missing, stale or left-over file"
    )
    check = parser.parse_args().check
    with tempfile.TemporaryDirectory() as folder:
        generate(Path(folder))
        wanted = generated(Path(folder))
    there = generated(PACKAGE_ROOT)
    differing = sorted(path for path in wanted.keys() | there.keys() if wanted.get(path) != there.get(path))
    if check and differing:
        names = "\n".join(f"  src/{path}" for path in differing)
        sys.exit(f"not what proto/ gives, run `make proto` and commit:\n{names}")
    for path in differing:
        target = PACKAGE_ROOT / path
        if path in wanted:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(wanted[path], encoding="utf-8")
        else:
            target.unlink()
    print(f"{len(wanted)} generated files, {'all current' if not differing else f'{len(differing)} changed'}")


if __name__ == "__main__":
    main()
