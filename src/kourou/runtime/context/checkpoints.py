"""Where a node keeps what shall outlive it: its attempts, and the jobs that its run is put into."""

from __future__ import annotations

from pathlib import Path

from kourou.runtime.context.context import get_context
from kourou.runtime.files.run_folder import node_checkpoints


def checkpoint_dir() -> Path:
    """This node's folder for checkpoints: the same for all its attempts, and in every incarnation of its run.

    It is in the run's folder, which has to be on a file system that the node's host shares with the launcher's.

    Raises:
        NotInProgram: this code does not run in a node.
    """
    node = get_context()
    folder = node_checkpoints(Path(node.checkpoints), node.name)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return folder
