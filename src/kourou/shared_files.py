"""Files without names (memfd) that processes of one host and user share: one has it open, the others open it there."""

from __future__ import annotations

import dataclasses
import errno
import io
import os


class OpenedFile(io.FileIO):
    """A file that is closed with the last reference: a thread may be interrupted as soon as it has opened one."""

    def __del__(self) -> None:
        self.close()


@dataclasses.dataclass(frozen=True, kw_only=True)
class SharedFile:
    """A file that a process has open.

    Attributes:
        pid, descriptor: whose, and which of its file descriptors.
        inode: of the file, so that another one under that number is not taken for it.
    """

    pid: int
    descriptor: int
    inode: int

    @classmethod
    def of(cls, descriptor: int) -> SharedFile:
        """One of this process's."""
        return cls(pid=os.getpid(), descriptor=descriptor, inode=os.fstat(descriptor).st_ino)

    @property
    def path(self) -> str:
        """Where it can be opened for as long as its process has it open."""
        return f"/proc/{self.pid}/fd/{self.descriptor}"

    def open(self, mode: str = "r+") -> OpenedFile:
        """Open it once more, with locks of one's own.

        Args:
            mode: ``r`` to read, ``r+`` to write, too.

        Raises:
            FileNotFoundError: its process has ended or closed it, or the system does not let it be opened (another
                process table, a policy; it also says so of a process that has ended and was not yet waited for).
            OSError: this process has too many files open, and the like.
        """
        try:
            opened = OpenedFile(self.path, mode)
        except (PermissionError, ProcessLookupError) as error:
            raise FileNotFoundError(errno.ENOENT, f"shared memory cannot be opened: {error}", self.path) from error
        if os.fstat(opened.fileno()).st_ino != self.inode:
            raise FileNotFoundError(errno.ENOENT, "the shared memory is gone: its owner has ended", self.path)
        return opened

    def is_there(self) -> bool:
        """Whether its process still has it open."""
        try:
            return os.stat(self.path).st_ino == self.inode  # noqa: PTH116 - asked for often, and Path takes its time
        except OSError:
            return False
