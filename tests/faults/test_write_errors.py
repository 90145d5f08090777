"""Q3: fsync and write of the state server's file fail: nothing is acknowledged from then on, and nothing is lost."""

import asyncio
import errno
import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from discovery.store.embedded import find_binary
from tests.faults import ldfault
from tests.faults.ldfault import Calls, FaultyServer
from tests.faults.ledger import OK, Ledger
from tests.faults.patience import within
from tests.faults.report import reported
from tests.faults.subject import Subject, subject
from tests.faults.writers import Writers

FAULTS = [(Calls.SYNC, errno.EIO), (Calls.WRITE, errno.ENOSPC), (Calls.WRITE, errno.EIO)]
ROUNDS, ROUNDS_NIGHTLY = 1, 20  # of all three
PEOPLE = 16
_GOOD_S = 0.7
_BAD_S = 0.5
_LONGEST_BAD_S = 10.0  # acts under way when it began may take their whole deadline, 3 s
_BACK_S = within(5.0)
_ACTS = {"block": 3, "show": 2, "friend": 2}


@pytest.mark.skipif(not ldfault.available(), reason="needs Linux and gcc")
async def test_nothing_is_acknowledged_after_a_failed_write_or_sync(tmp_path: Path, seed: int, scale: int) -> None:
    rounds = ROUNDS if scale == 1 else ROUNDS_NIGHTLY
    faulty = FaultyServer(tmp_path, find_binary(), tmp_path / "data" / "appendonlydir")
    draws = random.Random(seed)
    with (
        reported("q3_write_errors", seed, "embedded", faults=rounds * len(FAULTS), writers=PEOPLE) as run,
        subject(tmp_path, valkey_bin=str(faulty.binary)) as service,
    ):
        ledger = run.ledger
        writers = Writers(service, ledger, seed, PEOPLE, _ACTS)
        await writers.prepare()
        running = asyncio.create_task(writers.run())
        back_s = []
        try:
            for calls, error in FAULTS * rounds:
                await asyncio.sleep(_GOOD_S)
                back_s.append(await _go_through(service, faulty, ledger, calls, error, draws.randrange(40)))
        finally:
            writers.stop()
            await running
            writers.close()
        await service.ready(_BACK_S)
        await writers.verify()
        os.kill(service.server_pid, signal.SIGKILL)  # now from the file alone
        await asyncio.sleep(0.1)
        await service.ready(_BACK_S)
        await writers.verify()
        run.counts = ledger.counts() | {"failed_calls": faulty.count("failed"), "back_s": max(back_s)}
        ledger.require_clean()


async def _go_through(
    service: Subject, faulty: FaultyServer, ledger: Ledger, calls: Calls, error: int, after: int
) -> float:
    """One fault from its beginning to its end; the seconds until a write is acknowledged again."""
    failed = faulty.count("failed")
    faulty.fail(calls, error, after=after)
    await _until(lambda: faulty.count("failed") > failed, 3.0, "the fault never met a call")
    # Earlier acts may be on disk and be answered late, once the worker reads their entry from the server's next life.
    begun = len(ledger.acts)
    await _until(lambda: len(ledger.acts) >= begun + PEOPLE, _LONGEST_BAD_S, "nobody tries to write")
    await asyncio.sleep(_BAD_S)
    assert _acknowledged(ledger, begun) == 0, f"acknowledged while {calls!r} failed"
    assert await asyncio.to_thread(service.status_of, "/healthz") == 200
    faulty.disk_is_good()
    healed_s = time.monotonic()
    await _until(lambda: _acknowledged(ledger, begun) > 0, _BACK_S, "nothing is acknowledged on a good disk")
    return round(time.monotonic() - healed_s, 2)


def _acknowledged(ledger: Ledger, begun: int) -> int:
    return sum(act.outcome == OK for act in ledger.acts[begun:])


async def _until(condition: Callable[[], bool], within_s: float, failure: str) -> None:
    ends_s = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < ends_s, failure
        await asyncio.sleep(0.01)
