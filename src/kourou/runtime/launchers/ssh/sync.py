"""How a program's host is reached; and copying the working folder to it, where there is no shared file system."""

from __future__ import annotations

import dataclasses
import hashlib
import re
import shlex
import subprocess
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from kourou import errors
from kourou.runtime.host_agent.addresses import is_this_machine
from kourou.runtime.launchers.ssh.connection import SshOptions, kill_session, ssh_arguments
from kourou.runtime.model.hosts import Host, Hosts
from kourou.runtime.waiting import long_waits
from kourou.waits import PATIENCE_S
from kourou.working_folder import working_folder

_TREES = ".cache/kourou/trees"
_COPY_S = 600.0
_LOOK_S = 0.05  # how often to see whether rsync has ended, or is not wanted any more
_WORDS = 5  # lines of what rsync said


def options_of(host: Host, hosts: Hosts, given_up: threading.Event) -> SshOptions:
    """How a host is reached, once its files are there.

    Raises:
        LaunchError: they could not be copied, or ``given_up`` was set meanwhile.
    """
    options = SshOptions(
        config_file=None if hosts.ssh_config is None else str(hosts.ssh_config),
        timeout_s=hosts.connect_timeout_s,
        max_silence_s=hosts.lost_after_s,
        cwd=str(working_folder()),
        python=host.python,
        sync=hosts.sync is not None,
        local=is_this_machine(host.name),
    )
    return with_files(host.name, options, given_up)


def with_files(host: str, options: SshOptions, given_up: threading.Event) -> SshOptions:
    """Copy ``options.cwd`` to a host if that is asked for, as the folder is now; the options that use the copy.

    What ``.gitignore`` files name stays behind, and so does ``.git``. The copy is this user's and this folder's, below
    ``~/.cache``, so nothing else there is touched.

    Raises:
        LaunchError: rsync is missing here or there, or failed, with its own words; or ``given_up`` was set meanwhile.
    """
    if not options.sync or options.local:
        return options
    folder = Path(options.cwd)
    readable = re.sub(r"[^A-Za-z0-9_.]+", "-", folder.name).strip("-.") or "tree"
    there = f"{_TREES}/{readable}-{hashlib.sha256(options.cwd.encode(errors='surrogateescape')).hexdigest()[:12]}"
    command = ["rsync", "--archive", "--delete", "--filter=:- .gitignore", "--exclude=.git"]
    command += [f"--rsync-path=mkdir -p {there} && rsync", "-e", shlex.join(["ssh", *ssh_arguments(options)])]
    command += ["--", f"{folder}/", f"{host}:{there}/"]
    what = f"copying {folder} to {host}"
    still = "still %s after %g s, which the start of its nodes waits for: .gitignore names what can stay behind"
    with tempfile.TemporaryFile() as said, long_waits.warn_if_long(still, what, PATIENCE_S):
        if _run(command, said, what, given_up) != 0:
            said.seek(0)
            words = said.read().decode(errors="replace").strip().splitlines()[-_WORDS:]
            hint = " (is rsync installed there?)" if any("not found" in word for word in words) else ""
            told = "\n".join(f"    {word}" for word in words)
            raise errors.LaunchError(f"rsync could not copy {folder} to {host}{hint}:\n{told}")
    return dataclasses.replace(options, cwd=there, tree=options.cwd, sync=False)


def _run(command: Sequence[str], said: IO[bytes], what: str, given_up: threading.Event) -> int:
    """Run rsync; its exit code."""
    deadline = time.monotonic() + _COPY_S
    try:
        # A session of its own: Ctrl-C is the launcher's to hear.
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=said, stderr=said, start_new_session=True)
    except FileNotFoundError:
        raise errors.LaunchError(f"{what} takes rsync, which is not installed here") from None
    try:
        while (code := process.poll()) is None:
            if given_up.wait(_LOOK_S):
                raise errors.LaunchError(f"{what} was given up")
            if time.monotonic() > deadline:
                raise errors.LaunchError(f"{what} took longer than {_COPY_S:g} s")
    finally:
        kill_session(process)
        process.wait()
    return code
