"""abseil's flags in nodes' processes: what was given to the launcher holds there too, and FLAGS can be read.

abseil refuses to pickle its flags, and a process that did not parse a command line may not read them. A script written
for Launchpad has ``FLAGS`` among its globals, so its nodes could neither be sent nor run. abseil itself is never
imported here: who has flags has imported it.
"""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Sequence
from typing import Any

from kourou.cpython import imported

LAUNCH_TYPE = "lp_launch_type"
"""Launchpad's flag, which scripts that were written for it are given."""
_OF_THE_LAUNCHER = {"flagfile", "undefok", "tryfromenv", "fromenv", LAUNCH_TYPE}  # they have done their work by then


def define_launch_type(default: str) -> None:
    """Where abseil's flags are imported: define Launchpad's, before the script parses its command line."""
    flags = _flags()
    if flags is not None and LAUNCH_TYPE not in flags:
        text = "how lp.launch runs a program, where it is not told: local_mt, local_mp, test_mt, test_mp or ssh"
        sys.modules["absl.flags"].DEFINE_string(LAUNCH_TYPE, default, text)


def given_launch_type() -> str | None:
    """What ``--lp_launch_type`` says; None: it was not given."""
    flags = _flags()
    if flags is None or not flags.is_parsed() or LAUNCH_TYPE not in flags or flags[LAUNCH_TYPE].using_default_value:
        return None
    return str(flags[LAUNCH_TYPE].value)


def given() -> tuple[str, ...]:
    """The flags that the launcher was given, as arguments of a command line; none unless it has parsed them."""
    flags = _flags()
    if flags is None or not flags.is_parsed():
        return ()
    named = {flags[name].name: flags[name] for name in flags}  # one with a short name is there twice
    return tuple(
        word
        for name, flag in named.items()
        if not flag.using_default_value and name not in _OF_THE_LAUNCHER
        for word in _words(name, flag)
    )


def parse(argv: Sequence[str], launch_type: str) -> None:
    """In a node's process, once its modules are imported: give flags the values of its command line."""
    define_launch_type(launch_type)
    flags = _flags()
    if flags is None or flags.is_parsed():
        return
    if len(argv) > 1:
        flags(list(argv), known_only=True)
    else:
        flags.mark_as_parsed()


def reduced(value: Any) -> tuple[Any, ...] | None:
    """For a pickler: how to pickle FLAGS; None: it is something else.

    They become those of the process that unpickles, with the script's own among them: flags of modules are defined
    wherever their module is imported, but the script is not imported by nodes.
    """
    flags = _flags()
    if flags is None or value is not flags:
        return None
    by_module = flags.flags_by_module_dict()
    own = [*by_module.get(sys.argv[0], []), *by_module.get("__main__", [])]
    return _restore, ([(type(flag), {**vars(flag), "present": 0, "validators": []}) for flag in own],)


def _words(name: str, flag: Any) -> list[str]:
    if flag.value is None or (flag.serializer is None and not flag.boolean):
        return []  # no command line can say it; if the script defines it, it travels with what uses it
    return re.split(rf"\n(?=--{re.escape(name)}=)", flag.serialize())  # a flag that may be repeated says all at once


def _restore(own: list[tuple[type, dict[str, Any]]]) -> Any:
    flags = importlib.import_module("absl.flags").FLAGS
    for kind, attributes in own:
        if attributes["name"] not in flags:
            flag: Any = object.__new__(kind)
            vars(flag).update(attributes)
            flags[attributes["name"]] = flag
    return flags


def _flags() -> Any:
    module = imported("absl.flags")
    return getattr(module, "FLAGS", None)
