"""``kourou sweep init``: a first sweep file from what a command says of its own arguments."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kourou import errors
from kourou.cli.terminal.output import tell
from kourou.extras import load_extra
from kourou.runtime.launchers.engines.yaml_text import quoted

_HELP_TIMEOUT_S = 120.0  # scripts import torch and the like before they read their arguments
_FRAMES = str.maketrans(dict.fromkeys("│╭╮╰╯─┃", " "))
_OPTION = re.compile(r"^\s*(?:-\w(?:[ ,]+[A-Z_<{]\S*)?,?\s+)?--[\w.]")
_DEFAULT = re.compile(r"[(\[]default: (.*?)[)\]]")
_NOT_SWEPT = frozenset({"help", "version", "install-completion", "show-completion"})
_CHOICES = re.compile(r"\{([^}|]*)\}")
_HYDRA = "== Config =="
_BOTH = [True, False]


@dataclass(frozen=True, kw_only=True)
class CommandHelp:
    """What a command reads."""

    values: dict[str, list[Any]]
    """Each parameter with what it can be: its choices, or its default; nothing where it tells of neither."""
    form: str
    """How parameters are written, as in a sweep file's ``arguments``."""
    has_flags: bool
    """Whether truth values are written as ``--k`` and ``--no-k``."""

    @property
    def takes_seed(self) -> bool:
        """Whether repeats can have seeds of their own."""
        return "seed" in self.values


def write_first_file(words: Sequence[str], path: Path) -> None:
    """Ask a command for its help and write a file that sweeps one of its parameters, the others at hand as comments.

    Raises:
        PlanError: the file is there, or the command said nothing that could be read.
    """
    if path.exists():
        raise errors.PlanError(f"{path} is there already: move it away, or name another with --output")
    command = ["python", *words] if len(words) == 1 and words[0].endswith(".py") else list(words)
    found = read_help(_ask(command))
    if not found.values:
        raise errors.PlanError(f"{shlex.join([*command, '--help'])} tells of no options: write the file by hand")
    path.write_text(_file(command, found), encoding="utf-8")
    tell(f"wrote {path}; edit the values, then: kourou sweep run {shlex.quote(str(path))}")


def read_help(text: str) -> CommandHelp:
    """Read a help text as argparse, typer, click, tyro and Hydra print it."""
    if _HYDRA in text:
        config = load_extra("yaml").safe_load(text.partition(_HYDRA)[2].partition("\n\n")[2].partition("\n\n\n")[0])
        flat = _flattened(config or {})
        values = {name: _BOTH if isinstance(value, bool) else _listed(value) for name, value in flat.items()}
        return CommandHelp(values=values, form="key=value", has_flags=False)
    values = {}
    has_flags = False
    for entry in _entries(text):
        head = entry.partition("  ")[0]
        names = re.findall(r"--([\w.-]+)", entry.partition("[default")[0].partition("(default")[0])
        name = next((name for name in names if not name.startswith("no-")), None)
        if name is None or name in _NOT_SWEPT:
            continue
        told, choices = _DEFAULT.search(entry), _CHOICES.search(head)
        if f"no-{name}" in names:
            has_flags = True
            values[name] = _BOTH
        elif choices:
            values[name] = [_value(choice.strip()) for choice in choices[1].split(",")]
        elif "<" in entry or re.search(rf"--{re.escape(name)}[ =]+[A-Z_\[]", head):
            values[name] = _listed(_value(told[1]) if told else None)
    return CommandHelp(values=values, form="--key=value", has_flags=has_flags)


def _ask(command: Sequence[str]) -> str:
    words = [sys.executable, *command[1:]] if command[0] in {"python", "python3"} else list(command)
    env = {**os.environ, "COLUMNS": "200", "TERM": "dumb", "NO_COLOR": "1"}  # a line for each option, without colours
    try:
        done = subprocess.run(
            [*words, "--help"], capture_output=True, text=True, check=False, env=env, timeout=_HELP_TIMEOUT_S
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise errors.PlanError(f"{shlex.join([*command, '--help'])} could not be asked: {error}") from error
    if done.returncode:
        last = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:]
        raise errors.PlanError(
            f"{shlex.join([*command, '--help'])} exited with {done.returncode}" + (f": {last[0]}" if last else "")
        )
    return done.stdout


def _entries(text: str) -> list[str]:
    """One text for each option, with the lines that go on with it."""
    entries: list[str] = []
    is_option = False
    for line in text.translate(_FRAMES).splitlines():
        if _OPTION.match(line):
            entries.append(line.strip())
            is_option = True
        elif is_option and line.startswith("    ") and line.strip():
            entries[-1] += f"  {line.strip()}"
        else:
            is_option = False
    return entries


def _flattened(config: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, dict):
            flat |= _flattened(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _value(text: str) -> Any:
    if text in {"True", "False"}:
        return text == "True"
    try:
        return json.loads(text)
    except ValueError:
        return None if text in {"None", "required"} else text


def _file(command: Sequence[str], found: CommandHelp) -> str:
    name = Path(next((word for word in reversed(command) if not word.startswith("-")), "sweep")).stem
    swept = {param: values for param, values in found.values.items() if param != "seed"}
    known = [param for param, values in swept.items() if values]
    first = next((param for param in known if isinstance(swept[param][0], float)), next(iter(known), None))
    lines = [
        "# `kourou sweep schema` prints the schema by which editors complete and check this file; see docs/sweeps.md",
        f"name: {quoted(name)}",
        "train_dir: sweeps",
        "repeats: 3   # runs of each setting, each with a seed of its own" if found.takes_seed else "seed_param: null",
        *([f"arguments: {found.form}"] if found.form != "--key=value" else []),
        *(["value_style: flags"] if found.has_flags else []),
        "experiments:",
        f"  - name: {quoted(name)}",
        f"    command: {json.dumps(shlex.join(command))}",
        "    params:",
        "      grid:   # all combinations; or list, random, sobol",
    ]
    for param, values in swept.items():
        lines.append(f"        {'' if param == first else '# '}{quoted(param)}: {json.dumps(values)}")
    return "\n".join(lines) + "\n"


def _listed(value: Any) -> list[Any]:
    return [] if value is None else [value]
