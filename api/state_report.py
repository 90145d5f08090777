"""What the state says of itself, its streams and the workers on it, for the status report.

Each part is asked apart: where a node is away, what the others say is still shown.
"""

import asyncio
import time
from collections.abc import Awaitable
from typing import Any, TypeVar

import orjson

from discovery.errors import StateAway
from discovery.hive import Hive
from discovery.store import keys
from discovery.store.client import State, StateFault

_WITHIN_S = 1.0
_FRESH_MS = 5000  # a worker of this host that has written no row for so long is gone: both go by one clock
_LOOK_S = 0.1
_LOOKS_S = 1.6  # rows are written every second

_T = TypeVar("_T")
Row = dict[str, Any]


async def _or_none(asked: Awaitable[_T]) -> _T | None:
    try:
        return await asked
    except (StateAway, StateFault):
        return None


# --- world ---


async def world(state: State) -> dict[str, str] | None:
    """The record of the world: format, shards, and where it was moved to. None when the state is away."""
    flat = await _or_none(state.call("HGETALL", keys.world(), within_s=_WITHIN_S))
    return None if flat is None else _texts(flat)


# --- nodes ---


async def nodes(state: State) -> list[Row]:
    """Every node of the state: a row with ``away`` only when it does not answer."""
    try:
        roles = state.nodes()
    except StateAway:
        return []
    return await asyncio.gather(
        *(_node(state, name, role) for name, role in sorted(roles.items(), key=lambda pair: (pair[1], pair[0])))
    )


async def _node(state: State, name: str, role: str) -> Row:
    info, synced = await asyncio.gather(
        _or_none(state.call_node(name, "INFO", within_s=_WITHIN_S)),
        _or_none(state.call_node(name, "CONFIG", "GET", "appendfsync", within_s=_WITHIN_S)),
    )
    row: Row = {"name": name, "role": role, "away": info is None}
    return (
        row if info is None else row | _of_info(_fields(info)) | {"appendfsync": synced[1].decode() if synced else ""}
    )


def _of_info(info: dict[str, str]) -> Row:
    server = info.get("server_name", "redis")
    return {
        "server": server,
        "version": info.get(f"{server}_version", info.get("redis_version", "")),
        "binary": info.get("executable", ""),
        "pid": int(info.get("process_id", 0)),
        "memory_bytes": int(info.get("used_memory", 0)),
        "appendonly": info.get("aof_enabled") == "1",
        "writes_fail": info.get("aof_last_write_status", "ok") != "ok",
        "replicas_in_sync": sum("state=online" in value for name, value in info.items() if name.startswith("slave")),
        "link_down": info.get("role") == "slave" and info.get("master_link_status") != "up",
    }


def _fields(info: bytes) -> dict[str, str]:
    lines = info.decode("utf-8", "replace").splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line)


# --- streams ---


async def streams(hive: Hive) -> list[Row]:
    """Every stream: how long it is, who leads it, and its checkpoint."""
    tags = [*map(keys.shard_tag, hive.shards.all()), keys.SHAKE_TAG]
    return await asyncio.gather(*(_stream(hive.state, tag) for tag in tags))


async def _stream(state: State, tag: str) -> Row:
    asked = (("XLEN", keys.feed(tag)), ("GET", keys.leader(tag)), ("HGETALL", keys.checkpoint(tag)))
    entries, leader, flat = await asyncio.gather(
        *(_or_none(state.call(*command, within_s=_WITHIN_S)) for command in asked)
    )
    return {
        "stream": tag,
        "entries": entries,
        "leader": (leader or b"").partition(b"|")[0].decode(),
        "checkpoint": _texts(flat) if flat else None,
    }


def _texts(flat: list[bytes]) -> dict[str, str]:
    return {name.decode(): value.decode() for name, value in zip(flat[::2], flat[1::2], strict=True)}


# --- workers ---


async def workers(state: State, host: str) -> list[Row]:
    """The rows of the workers that live, of every host.

    Clocks of other hosts may be set otherwise, so their rows count when they change while we look.
    """
    first = await _rows(state)
    rows, ends_s = first, time.monotonic() + _LOOKS_S
    while any(_unclear(row, first, host) for row in rows.values()) and time.monotonic() < ends_s:
        await asyncio.sleep(_LOOK_S)
        rows = await _rows(state) or rows
    oldest_ms = time.time_ns() // 1_000_000 - _FRESH_MS
    living = (
        row
        for row in rows.values()
        if not _unclear(row, first, host) and (row.get("host") != host or row["at_ms"] >= oldest_ms)
    )
    return sorted(living, key=lambda row: str(row["worker"]))


def _unclear(row: Row, first: dict[str, Row], host: str) -> bool:
    before = first.get(row["worker"])
    return row.get("host") != host and before is not None and before["at_ms"] == row["at_ms"]


async def _rows(state: State) -> dict[str, Row]:
    flat = await _or_none(state.call("HGETALL", keys.workers(), within_s=_WITHIN_S)) or []
    rows = ({"worker": name.decode(), **orjson.loads(row)} for name, row in zip(flat[::2], flat[1::2], strict=True))
    return {row["worker"]: row for row in rows}
