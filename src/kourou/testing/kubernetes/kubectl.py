"""The fake's ``kubectl``: a command that asks the cluster over a socket; and what the cluster answers."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

import yaml

from kourou.testing.kubernetes.controllers import Controllers

COMMAND = """#!{python} -S
import json, os, socket, subprocess, sys, time

def ask(what):
    with socket.socket(socket.AF_UNIX) as there:
        there.connect({socket!r})
        with there.makefile("rw", encoding="utf-8") as file:
            file.write(json.dumps(what) + "\\\\n")
            file.flush()
            return json.loads(file.readline())

def follow(path, pod):
    with open(path, "rb") as log:
        while True:
            over = ask({{"over": pod}})["over"]
            while piece := log.read(65536):
                sys.stdout.buffer.write(piece)
                sys.stdout.buffer.flush()
            if over:
                return 0
            time.sleep(0.1)

given = "" if "-f-" not in sys.argv and "--filename=-" not in sys.argv and "-" not in sys.argv else sys.stdin.read()
told = ask({{"argv": sys.argv[1:], "given": given, "environ": dict(os.environ)}})
sys.stdout.write(told.get("out", ""))
sys.stderr.write(told.get("err", ""))
sys.stdout.flush()
if "follow" in told:
    sys.exit(follow(*told["follow"]))
if "run" in told:
    code = subprocess.call(told["run"], env=told["environ"])
    sys.exit(code if code >= 0 else 128 - code)
sys.exit(told["code"])
"""

_KINDS = {
    "JobSet": "jobset",
    "Secret": "secret",
    "NetworkPolicy": "networkpolicy",
    "pods": "pod",
    "pod": "pod",
    "jobset": "jobset",
    "jobsets": "jobset",
    "secrets": "secret",
    "networkpolicies": "networkpolicy",
    "workloads.kueue.x-k8s.io": "workload",
}


class Refused(Exception):
    """What the cluster says instead of doing what it was asked."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise Refused(f"error: {message}")


def answer(
    asked: Mapping[str, Any],
    controllers: Controllers,
    *,
    validate: Callable[[Mapping[str, Any]], object],
    log_of: Callable[[str], str],
) -> dict[str, Any]:
    """What the command is to do: print, exit, follow a file, run a process.

    Args:
        asked: what the command said.
        controllers: the cluster.
        validate: raises for an object that a cluster would refuse.
        log_of: the file that a pod's container prints to.
    """
    if "over" in asked:
        pod = controllers.objects["pod"].get(asked["over"])
        return {"over": pod is None or pod["status"]["phase"] not in {"Pending", "Running"}}
    argv = list(asked["argv"])
    there = argv.index("--") if "--" in argv else len(argv)
    try:
        options = _parser().parse_args(argv[:there])
        verbs: dict[str, Callable[[], dict[str, Any]]] = {
            "apply": lambda: _apply(asked["given"], controllers, validate),
            "get": lambda: _get(options, controllers),
            "delete": lambda: _delete(options, controllers),
            "logs": lambda: _logs(options, controllers, log_of),
            "exec": lambda: _exec(options, argv[there + 1 :], controllers),
        }
        return verbs[options.verb]()
    except Refused as error:
        return {"err": f"{error}\n", "code": 1}


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="kubectl", allow_abbrev=False)
    parser.add_argument("--namespace", "-n", default="default")
    parser.add_argument("--context")
    verbs = parser.add_subparsers(dest="verb", required=True, parser_class=_Parser)
    apply = verbs.add_parser("apply")
    apply.add_argument("--server-side", action="store_true")
    apply.add_argument("--filename", "-f", required=True)
    get, delete = verbs.add_parser("get"), verbs.add_parser("delete")
    for each in (get, delete):
        each.add_argument("kind")
        each.add_argument("name", nargs="?")
    for each in (apply, get):
        each.add_argument("--output", "-o", choices=["json"])
    delete.add_argument("--ignore-not-found", action="store_true")
    delete.add_argument("--wait", choices=["true", "false"])
    logs = verbs.add_parser("logs")
    logs.add_argument("name", nargs="?")
    logs.add_argument("--follow", "-f", action="store_true")
    logs.add_argument("--tail", type=int, default=-1)
    for each in (get, logs):
        each.add_argument("--selector", "-l", default="")
    execute = verbs.add_parser("exec")
    execute.add_argument("name")
    execute.add_argument("--container", "-c")
    execute.add_argument("--stdin", "-i", action="store_true")
    execute.add_argument("--tty", "-t", action="store_true")
    return parser


def _apply(text: str, controllers: Controllers, validate: Callable[[Mapping[str, Any]], object]) -> dict[str, Any]:
    documents = [document for document in yaml.safe_load_all(text) if document is not None]
    for document in documents:
        try:
            validate(document)
        except Exception as error:
            raise Refused(f"The {document.get('kind')} is invalid: {error}") from error
    made = [controllers.add(_KINDS[document["kind"]], document) for document in documents]
    return _printed(made[0] if len(made) == 1 else {"kind": "List", "items": made})


def _get(options: argparse.Namespace, controllers: Controllers) -> dict[str, Any]:
    there = controllers.objects[_KINDS[options.kind]]
    if options.name is None:
        return _printed({"kind": "List", "items": _selected(there.values(), options.selector)})
    if options.name not in there:
        raise Refused(f'Error from server (NotFound): {options.kind} "{options.name}" not found')
    return _printed(there[options.name])


def _delete(options: argparse.Namespace, controllers: Controllers) -> dict[str, Any]:
    kind = _KINDS[options.kind]
    if options.name in controllers.objects[kind]:
        controllers.delete(kind, options.name)
    elif not options.ignore_not_found:
        raise Refused(f'Error from server (NotFound): {options.kind} "{options.name}" not found')
    return {"out": f'{options.kind} "{options.name}" deleted\n', "code": 0}


def _logs(options: argparse.Namespace, controllers: Controllers, log_of: Callable[[str], str]) -> dict[str, Any]:
    pods = controllers.objects["pod"]
    names = [pod["metadata"]["name"] for pod in _selected(pods.values(), options.selector)]
    if options.name is not None:
        names = [options.name] if options.name in pods else []
    if not names:
        raise Refused(f'Error from server (NotFound): pods "{options.name}" not found')
    if options.follow:
        return {"follow": [log_of(names[-1]), names[-1]], "code": 0}
    lines: list[str] = []
    for name in names:
        with open(log_of(name), encoding="utf-8", errors="replace") as log:  # noqa: PTH123 - a name, from a callback
            lines += log.readlines()
    return {"out": "".join(lines[-options.tail :] if options.tail >= 0 else lines), "code": 0}


def _exec(options: argparse.Namespace, words: Sequence[str], controllers: Controllers) -> dict[str, Any]:
    sandbox = controllers.sandboxes.get(options.name)
    first = sandbox.first_process if sandbox is not None else None
    if sandbox is None or first is None:
        raise Refused(f"error: cannot exec into a container in a completed pod: {options.name}")
    enter = ["nsenter", f"--target={first}", "--mount", "--net", "--uts", "--pid", "--wd=/", "--"]
    return {"run": [*enter, *sandbox.user_words(), *words], "environ": sandbox.environ, "code": 0}


def _selected(things: Any, selector: str) -> list[Any]:
    wanted = dict(each.split("=", 1) for each in selector.split(",") if each)
    return [thing for thing in things if wanted.items() <= thing["metadata"].get("labels", {}).items()]


def _printed(what: Any) -> dict[str, Any]:
    return {"out": json.dumps(what, indent=2) + "\n", "code": 0}
