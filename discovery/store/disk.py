"""How full the file system of a directory is, and when a server that must not lose a write stops taking writes."""

import errno
import os
from dataclasses import dataclass
from pathlib import Path

RESERVE_BYTES = 8 << 20  # below it no more writes are taken: what is on its way still fits
ENOUGH_BYTES = 64 << 20  # so much must be free before writes are taken again, or they would flap
NO_SPACE = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True, slots=True)
class Space:
    """Bytes that an ordinary user may still write, of so many in all. Both limits shrink with a small file system."""

    free_bytes: int
    total_bytes: int

    @classmethod
    def of(cls, path: Path) -> "Space":
        """Of the file system that holds ``path``."""
        status = os.statvfs(path)
        return cls(status.f_bavail * status.f_frsize, status.f_blocks * status.f_frsize)

    @property
    def enough_bytes(self) -> int:
        """Free bytes from which on writes are taken again: 64 MB, or a quarter of a smaller file system."""
        return min(ENOUGH_BYTES, self.total_bytes // 4)

    @property
    def enough(self) -> bool:
        return self.free_bytes >= self.enough_bytes

    @property
    def low(self) -> bool:
        """Below the reserve: 8 MB, or a sixteenth of a smaller file system."""
        return self.free_bytes < min(RESERVE_BYTES, self.total_bytes // 16)


def is_full(error: OSError) -> bool:
    """Whether a write failed for lack of space or quota, and may succeed later."""
    return error.errno in NO_SPACE


def sync_directory(path: Path) -> None:
    """Put the names in a directory on disk: a new file is there after a loss of power only then. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
