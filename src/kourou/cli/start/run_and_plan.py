"""``kourou run`` and ``kourou plan``."""

from __future__ import annotations

import os
import shlex
import time
from pathlib import Path
from typing import Any, NoReturn

import typer

from kourou import errors
from kourou.cli.start.drawing import plan_as_table
from kourou.cli.start.loading import load_program
from kourou.cli.start.notify import check_url, notifying
from kourou.cli.terminal.formats import duration
from kourou.cli.terminal.output import FAILED, console, print_json, print_text, tell
from kourou.runtime.files.run_folder import new_run_id, runs_dir
from kourou.runtime.launch.batch.submission import plan_submission
from kourou.runtime.launch.batch.submit import submit
from kourou.runtime.launch.launch import launch
from kourou.runtime.launch.launching import hosts_to_plan_for
from kourou.runtime.launch.resuming import RESUME_VARIABLE
from kourou.runtime.model.engines import EngineOptions
from kourou.runtime.model.hosts import Hosts
from kourou.runtime.monitoring.run_search import choose_run
from kourou.runtime.plan.compile import compile_program


def hosts_of(text: str | None, ssh_config: Path | None) -> Hosts | None:
    """What ``--hosts`` means: a file, where there is one of that name, else names; None when it was not given."""
    if text is None:
        return None
    if Path(text).is_file():
        return Hosts.from_file(text, ssh_config=ssh_config)
    return Hosts([name for name in text.split(",") if name], ssh_config=ssh_config)


def run_program(target: str, words: list[str], *, notify: str | None, **given: Any) -> None:
    """Launch a program and wait for its end.

    Args:
        target: which.
        words: its arguments.
        notify: a webhook that is told how it ended.
        given: arguments of ``lp.launch``, instead of the program's own; None: not given.
    """
    if notify is not None:
        check_url(notify)
    loaded = load_program(target, words)
    options = {**loaded.launch_kwargs, **{name: value for name, value in given.items() if value is not None}}
    begun = time.monotonic()
    run = launch(loaded.program, **options)
    verb = "goes on" if run.incarnation > 1 else "begins"
    tell(f"run {run.run_id} {verb}; from another shell: kourou status {run.run_id} --watch")
    try:
        with notifying(notify, run=run.run_id, program=loaded.program.name):
            run.wait()
    except errors.ProgramFailed as failure:
        tell(str(failure))
        raise typer.Exit(FAILED) from None
    except errors.Interrupted:
        tell(f"run {run.run_id} was interrupted after {duration(time.monotonic() - begun)}")
        raise
    tell(f"run {run.run_id} finished after {duration(time.monotonic() - begun)}")


def run_again(run: str | None, run_dir: Path | None) -> NoReturn:
    """Launch a run's program as it was launched, to go on from its checkpoints. This process becomes the launcher.

    Raises:
        PlanError: nobody said which, or it cannot be launched so.
    """
    if run is None:
        raise errors.PlanError("write MODULE:FUNCTION, a program to run; or --resume RUN, a run to go on with")
    found = choose_run(run, run_dir)
    python, *command = found.info.command or ("",)
    if not command or found.info.job or any("ipykernel" in word for word in command):
        remedy = f"name its MODULE:FUNCTION, or call lp.launch(program, resume={found.run_id!r})"
        raise errors.PlanError(f"run {found.run_id} was not launched by a command that can be given again: {remedy}")
    tell(f"in {found.info.cwd}: {shlex.join([Path(python).name, *command])}")
    os.chdir(found.info.cwd)
    os.environ[RESUME_VARIABLE] = str(found.path)
    os.execv(python, [python, *command])  # noqa: S606 - the user's own command, once more


def submit_program(
    target: str, words: list[str], *, engine: EngineOptions, run_dir: Path | None, as_json: bool
) -> None:
    """Hand a program to an engine, and say how it is called."""
    loaded = load_program(target, words, command="submit")
    known = ("local_resources", "placement", "setup", "stop_timeline", "run_dir")
    options = {name: value for name, value in loaded.launch_kwargs.items() if name in known}
    if run_dir is not None:
        options["run_dir"] = run_dir
    run_id = submit(loaded.program, engine, **options)
    found = choose_run(run_id, options.get("run_dir"))
    if as_json:
        print_json({"run": run_id, "engine": engine.launch_type, "job": found.info.job, "folder": str(found.path)})
        return
    print_text(run_id)
    tell(f"job {found.info.job} of {engine.launch_type}; kourou status {run_id} --watch, kourou logs -f {run_id}")


def show_plan(
    target: str, words: list[str], *, launch_type: EngineOptions | str | None, form: str, hosts: Hosts | None
) -> None:
    """Print what a launch would start."""
    loaded = load_program(target, words, command="plan")
    options: dict[str, Any] = dict(loaded.launch_kwargs)
    options.pop("run_dir", None)
    kind = launch_type or options.pop("launch_type", None)
    options.pop("launch_type", None)
    hosts = hosts or options.pop("hosts", None)
    options["hosts"] = hosts_to_plan_for(kind, hosts, loaded.program.resources(options.get("local_resources")))
    plan = compile_program(loaded.program, kind, stop=options.pop("stop_timeline", None), **options)
    if form == "json":
        print_text(plan.to_json())
    elif form == "mermaid":
        print_text(plan.to_mermaid())
    else:
        console().print(plan_as_table(plan))
        if plan.engine is not None and plan.engine.batch:
            submission = plan_submission(plan, runs_dir().absolute() / new_run_id(plan.program))
            print_text(f"# kourou submit writes {submission.path}:\n{submission.script}")
            print_text(f"# and hands it over with:\n{shlex.join(submission.command)}")
