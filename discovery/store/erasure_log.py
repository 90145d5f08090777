"""The log of erasures: a small file beside the data, so that an older copy of the data does not bring anybody back.

One line an erasure: fingerprint of the secret, name of the tombstone, milliseconds since 1970. Of the person it has a
keyed hash alone. Lines are appended, each in one write, and synced before anything is answered.
"""

import os
import re
from collections.abc import Iterable
from pathlib import Path

import structlog

from discovery.store.disk import sync_directory

_LINE = re.compile(r"([0-9a-f]{32}) ([0-9a-f]{32}) (\d{1,15})")

log = structlog.get_logger("nearhive.erasures")


class ErasureLog:
    """``path`` lies outside of what is copied and put back; ``secret`` is the fingerprint of what tombstones are keyed
    with. Its directory must exist."""

    def __init__(self, path: Path, secret: str) -> None:
        self._path = path
        self._secret = secret

    def read(self) -> dict[str, int]:
        """Name of each tombstone and when, the latest. Empty when there is no file. Raises OSError."""
        try:
            lines = self._path.read_text("ascii", errors="replace").split("\n")
        except FileNotFoundError:
            return {}
        found: dict[str, int] = {}
        foreign = 0
        for line in lines:  # what a crash left half written is no line
            parts = _LINE.fullmatch(line)
            if parts is None:
                continue
            if parts[1] != self._secret:
                foreign += 1
            else:
                found[parts[2]] = max(int(parts[3]), found.get(parts[2], 0))
        if foreign:
            log.error("erasures_of_another_secret", path=str(self._path), lines=foreign)
        return found

    def append(self, erased: Iterable[tuple[str, int]]) -> None:
        """Add lines (name, ms); durable on return. Raises OSError."""
        text = "".join(f"{self._secret} {name} {at_ms}\n" for name, at_ms in erased)
        if not text:
            return
        made = not self._path.exists()
        descriptor = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            _write(descriptor, text.encode("ascii"))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        if made:
            sync_directory(self._path.parent)


def _write(descriptor: int, data: bytes) -> None:
    """Behind what a crash left half written begins a new line."""
    size = os.fstat(descriptor).st_size
    if size and os.pread(descriptor, 1, size - 1) != b"\n":
        data = b"\n" + data
    if os.write(descriptor, data) != len(data):
        raise OSError("the log of erasures could not be written whole")
