"""What a host's servers prove themselves with: nodes on different hosts speak TLS."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ssl

_DESCRIPTORS = "/proc/self/fd" if sys.platform == "linux" else "/dev/fd"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Certificate:
    """Signed by the run's authority, which clients trust. Both in PEM format."""

    certificate: bytes
    key: bytes = dataclasses.field(repr=False)

    def make_context(self) -> ssl.SSLContext:
        """For servers."""
        import ssl  # noqa: PLC0415 - only for programs on several hosts

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        with _readable(self.certificate) as certificate, _readable(self.key) as key:
            context.load_cert_chain(certificate, key)
        return context


@contextlib.contextmanager
def _readable(content: bytes) -> Iterator[str]:
    """A path where this can be read once, for a function that takes paths only: no disk shall have it.

    It has to fit into a pipe (16 KiB on all systems).
    """
    reading, writing = os.pipe()
    try:
        with os.fdopen(writing, "wb") as pipe:
            pipe.write(content)
        yield f"{_DESCRIPTORS}/{reading}"
    finally:
        os.close(reading)
