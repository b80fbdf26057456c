"""PyTorch Lightning in a run: ``Trainer(plugins=[SpmdEnvironment()], devices=…, num_nodes=…)``.

Imported on its own, since it needs Lightning.
"""

from __future__ import annotations

import os
from typing import Any

try:
    from lightning.fabric.plugins.environments import ClusterEnvironment  # pyright: ignore[reportPrivateImportUsage]
except ImportError:  # the older package, which is complete by itself
    from lightning_fabric.plugins.environments import ClusterEnvironment  # pyright: ignore[reportPrivateImportUsage]


class SpmdEnvironment(ClusterEnvironment):  # type: ignore[misc]  # Lightning need not be installed where this is checked
    """Tells Lightning that the ranks are there already, and which one this is."""

    @staticmethod
    def detect() -> bool:
        """True in a worker of a run."""
        return {"RANK", "LOCAL_RANK", "GROUP_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"} <= os.environ.keys()

    @property
    def creates_processes_externally(self) -> bool:
        """True: Lightning starts none."""
        return True

    @property
    def main_address(self) -> str:
        """Where rank 0 listens."""
        return os.environ["MASTER_ADDR"]

    @property
    def main_port(self) -> int:
        """On which port."""
        return int(os.environ["MASTER_PORT"])

    def world_size(self) -> int:
        """How many ranks there are."""
        return int(os.environ["WORLD_SIZE"])

    def set_world_size(self, size: int) -> None:
        """It is as it is: Lightning sets what it computes from its own arguments."""

    def global_rank(self) -> int:
        """The rank."""
        return int(os.environ["RANK"])

    def set_global_rank(self, rank: int) -> None:
        """It is as it is."""

    def local_rank(self) -> int:
        """The rank on this host."""
        return int(os.environ["LOCAL_RANK"])

    def node_rank(self) -> int:
        """The host's number."""
        return int(os.environ["GROUP_RANK"])

    def validate_settings(self, num_devices: int, num_nodes: int) -> None:
        """Check that Lightning was told what the Launcher was told.

        Raises:
            ValueError: it was not.
        """
        per_host = int(os.environ["LOCAL_WORLD_SIZE"])
        hosts: Any = os.environ["GROUP_WORLD_SIZE"]
        if (num_devices, num_nodes) != (per_host, int(hosts)):
            raise ValueError(
                f"the Launcher started {per_host} workers on each of {hosts} host(s): "
                f"use Trainer(devices={per_host}, num_nodes={hosts}), not devices={num_devices}, num_nodes={num_nodes}"
            )
