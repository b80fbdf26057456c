"""What holds for a folder that several hosts see: which file system it is on, and whether that gives locks."""

from __future__ import annotations

import errno
import fcntl
from pathlib import Path

import psutil

from kourou.experiments.failures import SweepError

# All others, NFS, Lustre, GPFS, CephFS, SMB and FUSE's among them, may be seen by several hosts.
_LOCAL = {"apfs", "bcachefs", "btrfs", "exfat", "ext2", "ext3", "ext4", "f2fs", "hfs", "jfs", "overlay", "ramfs"}
_LOCAL |= {"reiserfs", "tmpfs", "ufs", "vfat", "xfs", "zfs"}
_HELD = {errno.EAGAIN, errno.EACCES}


def file_system(folder: Path) -> str:
    """The type of the file system that a folder is on, such as ``ext4`` or ``nfs4``; empty: nothing tells."""
    place = folder.resolve()
    mounts = [mount for mount in psutil.disk_partitions(all=True) if place.is_relative_to(mount.mountpoint)]
    # Of those mounted one over the other, the last counts.
    return max(reversed(mounts), key=lambda mount: len(mount.mountpoint)).fstype if mounts else ""


def is_shared(folder: Path) -> bool:
    """Whether other hosts may see a folder."""
    return file_system(folder) not in {"", *_LOCAL}


def try_lock(descriptor: int, path: Path, kind: int = fcntl.LOCK_EX) -> bool:
    """Lock a file, if no other process has locked it; whether that worked.

    Raises:
        SweepError: its file system gives no locks.
    """
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _HELD:
            return False
        raise SweepError(
            f"{path} cannot be locked: {error.strerror}. Its file system ({file_system(path.parent) or 'unknown'}) "
            "gives no locks, without which two launchers could run one sweep: mount it with them (NFS: rpc.statd and "
            "lockd, or version 4; Lustre: -o flock), or keep the sweep's folder elsewhere, with --sweep-dir"
        ) from error
    return True
