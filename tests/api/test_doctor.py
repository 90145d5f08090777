"""``nearhive doctor``: what it makes of a report, and what it says on each footing given by URL."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from api import doctor
from api.routes.status import StatusOut
from discovery.store.client import State
from tests.footings import empty, footing_of
from tests.service import NEARHIVE, Service, serving

CHECKPOINT = {"version": "7-1", "bytes": 1234, "offset": "5-0"}
NODE = {
    "name": "",
    "role": "master",
    "away": False,
    "server": "valkey",
    "version": "9.1.2",
    "binary": "/bin/valkey-server",
    "pid": 7,
    "memory_bytes": 1_250_000,
    "appendonly": True,
    "appendfsync": "always",
}
STATE = {
    "footing": "one server",
    "durability": "always",
    "away": False,
    "read_only": False,
    "format": 2,
    "shards": 1,
    "moved_to": "",
    "unfinished": "",
    "nodes": [NODE],
}


def _row(number: int, digests: dict[str, str], **more: Any) -> dict[str, Any]:
    row = {"worker": str(number), "id": f"id{number}", "host": "a", "pid": number, "at_ms": 1, "digests": digests}
    offsets = {"offsets": ["1-0"], "shake_offset": "0-0", "shake_digest": "", "hive_ms": 1, "epoch_ms": 30_000}
    return row | offsets | {"people": 2, "lag_s": 0.0} | more


def _status(*digests: dict[str, str], **more: Any) -> doctor.Status:
    """A report of one worker for each of ``digests``, in the form of the route."""
    streams = [
        {"stream": "s00", "entries": 12, "leader": "0", "checkpoint": CHECKPOINT},
        {"stream": "shake", "entries": 3, "leader": "1", "checkpoint": None},
    ]
    found = {"version": "1", "host": "a", "workers_here": len(digests), "data_dir": "", "epoch_s": 30.0}
    rows = [_row(number, one) for number, one in enumerate(digests)]
    report = found | {"state": STATE, "streams": streams, "workers": rows} | more
    return StatusOut.model_validate(report).model_dump()


def test_the_last_three_edges_that_two_workers_passed_are_compared() -> None:
    a = {str(1000 * edge): f"{edge}" for edge in range(6)}
    b = {edge: digest for edge, digest in a.items() if edge != "5000"}
    assert [edge for edge, _ in doctor.common_edges(_status(a, b))] == [4000, 3000, 2000]
    assert doctor.healthy(_status(a, b))
    assert doctor.healthy(_status(a, b | {"1000": "other"}))
    assert not doctor.healthy(_status(a, b | {"3000": "other"}))
    assert "NOT EQUAL: 0: 3, 1: other" in doctor.report("url", _status(a, b | {"3000": "other"}))


def test_a_worker_that_just_started_or_hangs_hides_no_difference() -> None:
    a = {"1000": "1", "2000": "2"}
    found = _status(a, a | {"2000": "other"}, {}, {"0": "long ago"})
    assert [edge for edge, _ in doctor.common_edges(found)] == [2000, 1000]
    assert doctor.problems(found) == ["workers hold different worlds"]
    assert [edge for edge, _ in doctor.common_edges(_status(a))] == [2000, 1000]


def _with(**changes: Any) -> doctor.Status:
    """A report that is well but for the changes of its state, node, second worker or first stream."""
    found = _status({"1000": "1"}, {"1000": "1"})
    parts = {
        "state": found["state"],
        "node": found["state"]["nodes"][0],
        "worker": found["workers"][1],
        "stream": found["streams"][0],
    }
    for part, change in changes.items():
        parts[part].update(change)
    return found


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"state": {"away": True}}, "the state does not answer"),
        ({"state": {"moved_to": "redis://b"}}, "the state was copied to redis://b"),
        ({"state": {"unfinished": "restore"}}, "a restore into this state has not ended"),
        ({"state": {"read_only": True}}, "the disk of the state is full"),
        ({"node": {"away": True}}, "state server: does not answer"),
        ({"node": {"writes_fail": True}}, "state server: its last write to disk failed"),
        ({"node": {"appendfsync": "everysec"}}, "it does not sync to disk before it answers"),
        ({"node": {"appendonly": False, "appendfsync": ""}}, "it does not sync to disk before it answers"),
        ({"node": {"name": "h:1", "role": "replica", "link_down": True}}, "node h:1: it is not connected"),
        ({"state": {"footing": "cluster"}, "node": {"name": "h:1"}}, "node h:1: no replica in sync"),
        ({"worker": {"not_ready": "why"}}, "worker 1 does not answer people: why"),
        ({"worker": {"lag_s": 2.5}}, "worker 1 is 2.5 s behind"),
        ({"worker": {"digests": {"1000": "other"}}}, "workers hold different worlds"),
        ({"worker": {"host": "b"}}, "1 of 2 workers of host a report"),
        ({"stream": {"leader": ""}}, "stream s00: no worker that reports leads it"),
        ({"stream": {"entries": None}}, "stream s00: the node that owns it does not answer"),
    ],
)
def test_each_thing_that_is_not_well_is_said(changes: dict[str, Any], said: str) -> None:
    found = _with(**changes)
    assert [said in problem for problem in doctor.problems(found)] == [True]
    assert not doctor.healthy(found)
    assert said in doctor.report("url", found)


def test_nothing_is_wrong_without_a_cause() -> None:
    fine: list[dict[str, Any]] = [
        {"node": {"appendfsync": ""}},  # a hosted server that does not tell
        {"state": {"footing": "cluster"}, "node": {"name": "h:1", "replicas_in_sync": 1}},
        {"state": {"footing": "cluster"}, "node": {"name": "h:1", "role": "replica"}},
        {"state": {"durability": "waitaof"}, "node": {"appendfsync": "everysec"}},
        {"state": {"durability": "weak"}, "node": {"appendonly": False}},
        {"worker": {"lag_s": None}},
    ]
    assert [doctor.problems(_with(**changes)) for changes in fine] == [[]] * len(fine)
    assert doctor.problems(_status()) == ["no worker has reported in the last 5 s"]


def test_sixteen_offsets_are_shown_as_their_ends() -> None:
    offsets = [f"{number}-0" for number in (9, 100, 10)]
    assert "feed offset 9-0 to 100-0," in doctor.report("url", _with(worker={"offsets": offsets}))


# --- on servers given by URL ---


def _doctor(service: Service, *options: str) -> subprocess.CompletedProcess[str]:
    command = [str(NEARHIVE), "doctor", "--url", service.url, *options]
    return subprocess.run(command, env=service.environment, capture_output=True, text=True, timeout=30)


def _until(service: Service, said: str) -> subprocess.CompletedProcess[str]:
    ends_s = time.monotonic() + 20
    while said not in (done := _doctor(service)).stdout:
        assert time.monotonic() < ends_s, done.stdout + done.stderr
        time.sleep(0.3)
    return done


@pytest.mark.parametrize(
    ("name", "shards", "texts"),
    [
        ("redis-7.0", 1, ("one server", "redis 7.0", "redis-server", "always: each write")),
        ("valkey-waitaof", 1, ("one server", "valkey 9.", "waitaof: each write", "appendfsync everysec")),
        ("cluster", 16, ("Cluster, 16 shards", "always+wait1: each write", "replica, valkey", "1 replica in sync")),
    ],
)
async def test_doctor_on_servers_given_by_url(
    request: pytest.FixtureRequest, tmp_path: Path, name: str, shards: int, texts: tuple[str, ...]
) -> None:
    footing = footing_of(name, request.getfixturevalue)
    state = State(footing.url)
    await state.open()
    try:
        await empty(state)
        with serving(tmp_path, state_url=footing.url, epoch_s="1", log_level="warning") as service:
            well = _until(service, "all workers agree")
            assert well.returncode == 0
            assert [
                text for text in (*texts, "2 workers", "data format 2", "lease held") if text not in well.stdout
            ] == []
            report = json.loads(_doctor(service, "--json").stdout)
            assert (report["state"]["durability"], report["state"]["shards"]) == (footing.durability, shards)
            assert len(report["streams"]) == shards + 1
            assert sorted(tag for row in report["workers"] for tag in row["led"]) == sorted(
                stream["stream"] for stream in report["streams"]
            )
            roles = [node["role"] for node in report["state"]["nodes"]]
            assert (roles.count("master"), roles.count("replica")) == ((3, 3) if name == "cluster" else (1, 0))
            ill = _with_a_stopped_server(service, footing.server_of("{s00}:feed").pid)
            assert ill.returncode == 1
            assert "does not answer" in ill.stdout
            _until(service, "all workers agree")
    finally:
        await empty(state)
        await state.close()


def _with_a_stopped_server(service: Service, pid: int | None) -> subprocess.CompletedProcess[str]:
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        return _doctor(service)
    finally:
        os.kill(pid, signal.SIGCONT)
