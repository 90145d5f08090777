"""What is running, for `nearhive doctor`: the state server, where data is, and what each worker has folded."""

import asyncio
import time
from typing import Any

import orjson
from fastapi import APIRouter, Request
from pydantic import BaseModel

from api.access import StoreHive
from api.auth import OperatorOnly
from api.settings import Settings
from api.strict_json import StrictRoute
from discovery.hive import Hive
from discovery.store import keys

router = APIRouter(prefix="/v1/app/status", tags=["app backend"], route_class=StrictRoute)

_FRESH_MS = 5000


class ServerOut(BaseModel):
    """The state server."""

    kind: str
    name: str
    version: str
    binary: str
    pid: int
    durability: str


class WorkerOut(BaseModel):
    """One worker's row, written every second; digests by epoch edge (ms)."""

    worker: str
    pid: int
    at_ms: int
    offsets: list[str]
    hive_ms: int
    epoch_ms: int
    people: int
    digests: dict[str, str]
    shake_offset: str
    shake_digest: str


class CheckpointOut(BaseModel):
    """The current checkpoint of a shard: from here on the feed is needed."""

    version: str
    bytes: int
    offset: str


class StreamOut(BaseModel):
    """A shard of the people feed (``s00`` ...) or the shakes; its ``leader`` ticks, checkpoints and trims it."""

    stream: str
    entries: int
    leader: str
    checkpoint: CheckpointOut | None


class StatusOut(BaseModel):
    """The whole report."""

    version: str
    data_dir: str
    epoch_s: float
    server: ServerOut
    workers: list[WorkerOut]
    streams: list[StreamOut]


@router.get("")
async def get_status(request: Request, _operator: OperatorOnly, hive: StoreHive) -> StatusOut:
    """What is running. People are counted at epoch edges, to two significant digits."""
    settings: Settings = request.app.state.settings
    return StatusOut.model_validate(
        {
            "version": request.app.version,
            "data_dir": "" if settings.state_url else str(settings.data_dir.absolute()),
            "epoch_s": hive.feeds.epoch_ms / 1000,
            "server": await _server(hive, settings),
            "workers": await _workers(hive),
            "streams": await _streams(hive),
        }
    )


async def _server(hive: Hive, settings: Settings) -> dict[str, Any]:
    lines = (await hive.state.call("INFO", "server")).decode().splitlines()
    info = dict(line.split(":", 1) for line in lines if ":" in line)
    name = info.get("server_name", "redis")
    return {
        "kind": "url" if settings.state_url else "embedded",
        "name": name,
        "version": info.get(f"{name}_version", info.get("redis_version", "")),
        "binary": info.get("executable", ""),
        "pid": info.get("process_id", 0),
        "durability": settings.durability,
    }


async def _streams(hive: Hive) -> list[dict[str, Any]]:
    tags = [*map(keys.shard_tag, hive.shards.all()), keys.SHAKE_TAG]
    return await asyncio.gather(*(_stream(hive, tag) for tag in tags))


async def _stream(hive: Hive, tag: str) -> dict[str, Any]:
    entries, leader, flat = await asyncio.gather(
        hive.state.call("XLEN", keys.feed(tag)),
        hive.state.call("GET", keys.leader(tag)),
        hive.state.call("HGETALL", keys.checkpoint(tag)),
    )
    found = {name.decode(): value.decode() for name, value in zip(flat[::2], flat[1::2], strict=True)}
    return {
        "stream": tag,
        "entries": entries,
        "leader": (leader or b"").partition(b"|")[0][:4].decode(),
        "checkpoint": found or None,
    }


async def _workers(hive: Hive) -> list[dict[str, Any]]:
    flat = await hive.state.call("HGETALL", keys.workers())
    rows = [{"worker": name.decode(), **orjson.loads(row)} for name, row in zip(flat[::2], flat[1::2], strict=True)]
    oldest_ms = time.time_ns() // 1_000_000 - _FRESH_MS
    return sorted((row for row in rows if row["at_ms"] >= oldest_ms), key=lambda row: str(row["worker"]))
