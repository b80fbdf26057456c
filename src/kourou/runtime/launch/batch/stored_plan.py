"""The plan of a run that was submitted, as it waits in the run's folder for its launcher.

What starts the agents comes first in the file, and this module imports little: agents begin while their launcher still
imports what directs a run.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import TYPE_CHECKING

from kourou import errors
from kourou.ownership import open_own, write_own
from kourou.runtime.files.run_folder import ORDER_FILE, PICKLED_PLAN_FILE
from kourou.runtime.host_agent.dial_order import DialOrder
from kourou.runtime.launchers.engines.allocation import Allocation

if TYPE_CHECKING:
    from kourou.runtime.plan.plan import LaunchPlan


class StoredPlan:
    """Opened, it has told what starts the agents.

    Args:
        folder: the run's.

    Raises:
        NotOwned: others could have written it.
        OSError: it cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with open_own(folder / PICKLED_PLAN_FILE) as file:
            self._engine, self._shape, self._name, self._idle = pickle.load(file)
            self._rest = file.read()

    @staticmethod
    def write(plan: LaunchPlan, folder: Path) -> None:
        """Store one, readable by its owner only.

        Raises:
            OSError: it cannot be written.
        """
        first = plan.engine, plan.shape, plan.program, plan.idle_places
        write_own(folder / PICKLED_PLAN_FILE, pickle.dumps(first) + pickle.dumps(plan))

    def start_agents(self) -> Allocation | None:
        """Start the agents on the hosts of the allocation that this process is in. They wait for their launcher.

        None: it could not be; who asks the engine once more learns why.
        """
        order = self.folder / ORDER_FILE
        silence_s, run_id = self._engine.lost_after_s, self.folder.name
        DialOrder(silence_s=silence_s, run_id=run_id, idle=self._idle).write(order)
        allocation = Allocation(self._engine, self._shape, name=self._name, folder=self.folder, order=order)
        try:
            allocation.begin()
        except errors.LaunchError:
            allocation.release()
            return None
        return allocation

    def load(self) -> LaunchPlan:
        """All of it."""
        plan: LaunchPlan = pickle.loads(self._rest)
        return plan

    def remove(self) -> None:
        """The run has ended."""
        (self.folder / PICKLED_PLAN_FILE).unlink(missing_ok=True)
