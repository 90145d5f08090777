"""Q22: a state that is copied from footing to footing, backed up and restored, all under people who write.

The ledger goes along: what the old place acknowledged is looked for in the new one, and whoever got no answer there
asks again here, under the same Idempotency-Key.
"""

import asyncio
import contextlib
import os
import re
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from discovery.store import backup, keys, transfer
from discovery.store.client import State
from tests.cluster_servers import ClusterServers
from tests.faults.ledger import FAIL, OK, UNKNOWN, Ledger, Register
from tests.faults.on_cluster import agreed, opened
from tests.faults.patience import within
from tests.faults.report import reported
from tests.faults.subject import Subject, subject
from tests.faults.writers import Writers
from tests.footings import empty
from tests.servers import Server
from tests.service import NEARHIVE

_STOPPED = "the service is told to stop"  # what a copy says when it has marked its source
_STOPS_S = within(1.0)  # a worker renews its leases four times a second, and looks for the mark twice
_STAY_BACK_S = within(5.0)
_COMMAND_S = 120.0
_PAUSE_S = 0.05  # the commands under test should have some of the processors, too
_SETTINGS = {"epoch_s": "1"}
_PEOPLE_READS = ("/v1/me/settings", "/v1/me/blocks", "/v1/me/friends", "/v1/nearby", "/v1/radar", "/v1/me/bottles")


async def test_a_live_state_moves_from_footing_to_footing(
    tmp_path: Path, redis_server: Server, cluster_servers: ClusterServers, seed: int, scale: int
) -> None:
    count, write_s = (16, 1.5) if scale == 1 else (64, 20.0)
    for url in (redis_server.url, cluster_servers.url):
        async with opened(url) as state:
            await empty(state)
    with (
        reported("q22_copy", seed, "embedded to one server to Cluster", writers=count) as run,
        contextlib.ExitStack() as services,
    ):
        here = first = services.enter_context(subject(tmp_path, **_SETTINGS))
        writers = Writers(here, run.ledger, seed, count)
        writers.pause_s = _PAUSE_S if scale == 1 else 0.0
        await writers.prepare()
        counts: dict[str, Any] = {}
        async with writing(writers):
            for name, url in (("redis-7.0", redis_server.url), ("cluster", cluster_servers.url)):
                await asyncio.sleep(write_s)
                counts[name] = await move(here, writers, url)
                here = services.enter_context(new_service(here, tmp_path / name, url))
                writers.service = here
            await asyncio.sleep(write_s)
        async with opened(cluster_servers.url) as state:
            assert int(await state.call("HGET", keys.world(), "shards")) == keys.CLUSTER_SHARDS
        await writers.verify()
        await agreed(here)
        run.counts = run.ledger.counts() | counts | {"statuses": dict(writers.statuses)}
        run.ledger.require_clean()
        assert f"this state was copied to {redis_server.url}" in await refused_start(first)


async def move(old: Subject, writers: Writers, url: str) -> dict[str, Any]:
    """Copy the state of ``old`` to ``url`` while people write, and end ``old``, which has refused everybody since."""
    source = state_place(old)
    acked = writers.acknowledged()
    done = await command(old, "copy", source, url)
    assert done.returncode == 0, done.stderr
    since = writers.acknowledged()
    assert since > acked + 20, "the first pass must meet people who write"
    tried = Counter(writers.statuses)
    told = re.fullmatch(
        r"[\d,]+ keys, [\d,]+ feed entries; checksum of both sides (\w{32}); the service had stopped for ([\d.]+) s\n",
        done.stdout,
    )
    assert told, done.stdout
    await refuses_everybody(old, writers)
    assert writers.acknowledged() == since
    assert set(writers.statuses - tried) == {503}
    async with opened(old.state_url if old.embedded else source) as before, opened(url) as after:
        if not after.is_cluster:
            assert await checksum(before) == await checksum(after)
    old.end()
    return {"stopped_s": float(told[2]), "moved_acks": since}


async def refuses_everybody(service: Subject, writers: Writers) -> None:
    """Both workers answer people 503, reads and writes; they are well all the same."""
    person = writers.people[0]
    operator = service.operator
    async with service.by_worker() as groups:
        for (connection,) in groups:
            for path in _PEOPLE_READS:
                answer = await connection.ask("GET", path, None, person.headers)
                assert (answer.status, "retry-after" in answer.headers) == (503, True), (path, answer)
            answer = await connection.ask("PUT", "/v1/brands/late", {"name": "Late"}, operator)
            assert answer.status == 503, answer
            assert (await connection.ask("GET", "/healthz")).status == 200
            assert (await connection.ask("GET", "/readyz")).status == 503
    await asyncio.sleep(1.0)  # people go on asking


async def refused_start(service: Subject) -> str:
    """What ``nearhive serve`` says to a state that lives elsewhere."""
    service.launch()
    assert service._process is not None
    status = await asyncio.to_thread(service._process.wait, _COMMAND_S)
    service.end()
    assert status == 2, service.log_end()
    return service.log_end()


def new_service(old: Subject, folder: Path, url: str = "") -> "contextlib.AbstractContextManager[Subject]":
    """A service with the same secrets, on ``url`` or on the data directory that stands in ``folder``."""
    (folder / "data").mkdir(mode=0o700, parents=True, exist_ok=True)
    shutil.copytree(old.data_dir / "secrets", folder / "data" / "secrets")
    settings = _SETTINGS | ({"state_url": url} if url else {})
    return subject(folder, **settings)


# --- backups and broken copies ---


async def test_a_backup_holds_what_was_acknowledged_and_a_broken_copy_lets_the_service_go_on(
    tmp_path: Path, redis_server: Server, seed: int, scale: int
) -> None:
    count, write_s = (16, 1.5) if scale == 1 else (64, 20.0)
    async with opened(redis_server.url) as state:
        await empty(state)
    with (
        reported("q22_backup", seed, "embedded", writers=count) as run,
        subject(tmp_path, **_SETTINGS) as here,
    ):
        writers = Writers(here, run.ledger, seed, count)
        writers.pause_s = _PAUSE_S if scale == 1 else 0.0
        await writers.prepare()
        async with writing(writers):
            await asyncio.sleep(write_s)
            then = await back_up(here, writers, tmp_path / "b")
            back_s = await break_off(here, writers, redis_server.url)
            await asyncio.sleep(write_s)
        await here.ready(_STAY_BACK_S)
        await writers.verify()
        await agreed(here)
        run.counts = run.ledger.counts() | {"back_s": round(back_s, 2), "statuses": dict(writers.statuses)}
        run.ledger.require_clean()
        here.end()
        done = await command(here, "restore", tmp_path / "b", "--to", tmp_path / "there" / "data")
        assert done.returncode == 0, done.stderr
        with new_service(here, tmp_path / "there") as there:
            found = then.writers_on(there)
            await found.verify()
            await agreed(there)
        run.counts |= {f"restored_{name}": number for name, number in found.ledger.counts().items()}
        found.ledger.require_clean()


async def back_up(service: Subject, writers: Writers, path: Path) -> "AsOf":
    """Write the backup ``path``; what it must hold."""
    then = AsOf.now(writers)
    done = await command(service, "backup", path)
    assert done.returncode == 0, done.stderr
    then.ends(writers)
    assert len(then.sure) > 50, "the backup must meet people who have written"
    assert then.begun > len(then.sure) + len(writers.people), "and who go on"
    return then


async def break_off(service: Subject, writers: Writers, url: str) -> float:
    """kill -9 of a copy that has stopped the service, then ``stay``: in how many seconds people write again."""
    copying = await asyncio.create_subprocess_exec(
        *arguments("copy", state_place(service), url), env=service.environment, stderr=subprocess.PIPE
    )
    assert copying.stderr is not None
    async with asyncio.timeout(_COMMAND_S):
        while _STOPPED not in (line := (await copying.stderr.readline()).decode()):
            assert line, "the copy ended"
    copying.kill()
    await copying.wait()
    await asyncio.sleep(_STOPS_S)
    await refuses_everybody(service, writers)
    os.kill(service.worker_pids()[0], signal.SIGKILL)  # the next one has to wait for the state
    done = await command(service, "stay", "--from", state_place(service))
    assert done.returncode == 0, done.stderr
    began_s, acked = time.monotonic(), writers.acknowledged()
    back_s = await service.ready(_STAY_BACK_S)
    while writers.acknowledged() < acked + len(writers.people):
        assert time.monotonic() - began_s < _STAY_BACK_S, f"nobody writes again: {service.log_end()}"
        await asyncio.sleep(0.02)
    return back_s


@dataclass(slots=True)
class AsOf:
    """What had been acknowledged when something began, and what had been sent when it ended."""

    writers: Writers
    sure: set[int]
    held: dict[str, set[str]]
    begun: int = 0

    @classmethod
    def now(cls, writers: Writers) -> "AsOf":
        sure = {act.number for act in writers.ledger.acts if act.outcome == OK}
        return cls(writers, sure, {person.user: set(person.held) for person in writers.people})

    def ends(self, writers: Writers) -> None:
        """What begins from now on is not in it. Who has let go of a bottle meanwhile may have it, or not."""
        self.begun = len(writers.ledger.acts)
        self.held = {person.user: self.held[person.user].intersection(person.held) for person in writers.people}

    def writers_on(self, service: Subject) -> Writers:
        """The same people, with a ledger of that time, to verify what ``service`` holds."""
        found = Writers(service, self._ledger(), 0, 0)
        found.people = [
            replace(person, held=sorted(self.held[person.user]), answered=sorted(set(person.answered)), connection=None)
            for person in self.writers.people
        ]
        return found

    def _ledger(self) -> Ledger:
        """Acts that were not acknowledged by then may have happened, but for those that were refused."""
        ledger = Ledger(None)
        for key, register in self.writers.ledger.registers.items():
            ledger.registers[key] = Register(initial=register.initial)
        for act in self.writers.ledger.acts[: self.begun]:
            was = ledger.begin(act.key, act.value, weak=act.weak)
            outcome = UNKNOWN if act.outcome == OK and act.number not in self.sure else act.outcome
            ledger.end(was, outcome, act.detail if outcome in (OK, FAIL) else "")
        return ledger


# --- what both use ---


@contextlib.asynccontextmanager
async def writing(writers: Writers) -> AsyncIterator[None]:
    """They write while the body runs."""
    running = asyncio.create_task(writers.run())
    try:
        yield
        assert not running.done()
    finally:
        writers.stop()
        await running
        writers.close()


def state_place(service: Subject) -> str:
    """As the command line names it."""
    return str(service.data_dir) if service.embedded else service.environment["NEARHIVE_STATE_URL"]


def arguments(*words: object) -> list[str]:
    return [str(NEARHIVE), "state", *map(str, words)]


async def command(service: Subject, *words: object) -> "subprocess.CompletedProcess[str]":
    """One ``nearhive state`` with the settings of ``service``."""
    return await asyncio.to_thread(
        subprocess.run,
        arguments(*words),
        env=service.environment,
        capture_output=True,
        text=True,
        timeout=_COMMAND_S,
        check=False,
    )


async def checksum(state: State) -> str:
    return (await backup.checksum_of(state)).after(await transfer.now_ms(state))
