"""A state server whose disk calls fail, and whose wall clock moves, when a test says so (``ldfault.c``)."""

import mmap
import shutil
import struct
import subprocess
import sys
import time
from enum import IntFlag
from pathlib import Path

SOURCE = Path(__file__).with_name("ldfault.c")
_FIELDS = ("kinds", "after", "times", "error", "writes", "syncs", "failed", "ahead_us", "frozen_us")
_WORD = struct.Struct("q")


class Calls(IntFlag):
    """Which calls are meant."""

    WRITE = 1
    SYNC = 2


def available() -> bool:
    """Whether the library can be built here: Linux with gcc."""
    return sys.platform == "linux" and shutil.which("gcc") is not None


class FaultyServer:
    """A server binary with switches. Its files under ``directory`` are those whose calls may fail."""

    def __init__(self, folder: Path, server: Path, directory: Path) -> None:
        """``folder`` gets the library, the switches and :attr:`binary`, for NEARHIVE_VALKEY_BIN."""
        library, control = folder / "ldfault.so", folder / "ldfault.control"
        subprocess.run(["gcc", "-shared", "-fPIC", "-O1", "-Wall", "-o", library, SOURCE, "-ldl"], check=True)
        control.write_bytes(bytes(_WORD.size * len(_FIELDS)))
        with control.open("r+b") as file:
            self._mapped = mmap.mmap(file.fileno(), 0)
        self.binary = folder / "faulty-server"
        environment = {"LD_PRELOAD": library, "LDFAULT_DIR": directory, "LDFAULT_CONTROL": control}
        exports = [f"export {name}='{value}'" for name, value in environment.items()]
        self.binary.write_text("\n".join(["#!/bin/sh", *exports, f"exec '{server}' \"$@\"", ""]))
        self.binary.chmod(0o700)

    # --- disk ---

    def fail(self, calls: Calls, error: int, *, after: int = 0, times: int = -1) -> None:
        """After ``after`` more of these calls fail with errno ``error``: ``times`` of them, or all (-1)."""
        self.disk_is_good()
        for field, value in (("after", after), ("times", times), ("error", error), ("kinds", int(calls))):
            self._set(field, value)

    def disk_is_good(self) -> None:
        """No call fails."""
        self._set("kinds", 0)

    def count(self, field: str) -> int:
        """``writes`` and ``syncs`` on those files so far, or how many ``failed``."""
        at = _WORD.size * _FIELDS.index(field)
        return int(_WORD.unpack_from(self._mapped, at)[0])

    # --- clock ---

    def clock_ahead(self, seconds: float) -> None:
        """The wall clock runs so far ahead of the true one."""
        self._set("ahead_us", round(seconds * 1e6))
        self._set("frozen_us", 0)

    def freeze_clock(self) -> None:
        """The wall clock stands still where it is."""
        self._set("frozen_us", time.time_ns() // 1000 + self.count("ahead_us"))

    def _set(self, field: str, value: int) -> None:
        _WORD.pack_into(self._mapped, _WORD.size * _FIELDS.index(field), value)
