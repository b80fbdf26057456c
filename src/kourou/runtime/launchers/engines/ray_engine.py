"""Ray: a placement group holds the hosts, an actor in each of its bundles starts an agent there and ends with it.

Ray's driver is a process of its own (``ray_driver``): Ray's threads, signal handlers and connections are not the
launcher's, and all that the driver owns ends with the pipe that the launcher holds.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import json
import os
import select
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from kourou import errors
from kourou.runtime.interpreter.startup import python_command
from kourou.runtime.launchers.engines.base import AgentCommand, Engine
from kourou.runtime.launchers.engines.children import await_end, words_in
from kourou.runtime.launchers.engines.ray_driver import Wanted
from kourou.runtime.model.engine_options import Ray
from kourou.runtime.model.engines import Shape
from kourou.runtime.node_environment import matching_variables

_END_S = 20.0  # Ray's own end takes seconds


class RayEngine(Engine):
    """A placement group of Ray's."""

    loopback, port, patient = False, 0, False

    def __init__(self, options: Ray, *, name: str, folder: Path) -> None:
        del name
        self._options = options
        self._folder = folder
        self._driver: subprocess.Popen[bytes] | None = None
        self._told = b""
        self._granted = False
        self._pending = ""

    def allocate(self, shape: Shape) -> None:
        if importlib.util.find_spec("ray") is None:
            raise errors.MissingExtra("ray", "ray")
        wanted = Wanted(
            address=self._options.address,
            group=self._folder.parent.name,
            bundle=self._options.bundle(shape),
            hosts=shape.hosts,
            strategy=self._options.strategy,
            folder=str(self._folder),
            env=matching_variables(os.environ, self._options.copy_env_vars),
        )
        with (self._folder / "ray.log").open("wb") as said:
            self._driver = subprocess.Popen(
                python_command("from kourou.runtime.launchers.engines.ray_driver import main; main()"),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=said,
                start_new_session=True,  # Ctrl-C is the launcher's to hear
            )
        self._tell(dataclasses.asdict(wanted))

    def granted(self, timeout_s: float) -> bool:
        assert self._driver is not None  # noqa: S101 - it was asked
        assert self._driver.stdout is not None  # noqa: S101 - a pipe
        if not self._granted and select.select([self._driver.stdout], [], [], timeout_s)[0]:
            piece = os.read(self._driver.stdout.fileno(), 1 << 16)
            if not piece:
                raise errors.LaunchError(f"Ray gives no hosts:\n{self.words()}")
            *lines, self._told = (self._told + piece).split(b"\n")
            for line in lines:
                self._pending = json.loads(line)
                self._granted = not self._pending
        return self._granted

    def why_pending(self) -> str:
        return self._pending

    def start_agents(self, command: AgentCommand, places: Sequence[int]) -> None:
        for place in places:
            self._tell([place, command(str(place))])

    def words(self) -> str:
        return words_in(self._folder)

    def release(self) -> None:
        driver, self._driver = self._driver, None
        if driver is None:
            return
        assert driver.stdin is not None  # noqa: S101 - a pipe
        assert driver.stdout is not None  # noqa: S101 - a pipe
        with contextlib.suppress(OSError):
            driver.stdin.close()
        await_end(driver, time.monotonic() + _END_S)
        driver.stdout.close()

    def _tell(self, what: object) -> None:
        assert self._driver is not None  # noqa: S101 - it was asked
        assert self._driver.stdin is not None  # noqa: S101 - a pipe
        try:
            self._driver.stdin.write(json.dumps(what).encode() + b"\n")
            self._driver.stdin.flush()
        except OSError as error:
            raise errors.LaunchError(f"Ray's driver has ended:\n{self.words()}") from error
