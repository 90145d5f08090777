"""What is running, for `nearhive doctor`: the state and its nodes, where data is, and what each worker has folded."""

import asyncio
import socket

from fastapi import APIRouter, Request
from pydantic import BaseModel

from api import state_report
from api.access import StoreHive
from api.auth import OperatorOnly
from api.settings import Settings
from api.strict_json import StrictRoute
from discovery.hive import Hive

router = APIRouter(prefix="/v1/app/status", tags=["app backend"], route_class=StrictRoute)

_HOST = socket.gethostname()


class NodeOut(BaseModel):
    """One server of the state; ``name`` is host:port on Cluster, else empty. Only ``away`` counts of one that is."""

    name: str
    role: str
    away: bool
    server: str = ""
    version: str = ""
    binary: str = ""
    pid: int = 0
    memory_bytes: int = 0
    appendonly: bool = False
    appendfsync: str = ""
    writes_fail: bool = False
    replicas_in_sync: int = 0
    link_down: bool = False


class StateOut(BaseModel):
    """The state. ``footing``: embedded, one server or cluster; ``durability``: as it was found, not as it was set."""

    footing: str
    durability: str
    away: bool
    read_only: bool
    format: int
    shards: int
    moved_to: str
    unfinished: str
    nodes: list[NodeOut]


class WorkerOut(BaseModel):
    """One worker's row, written every second; digests by epoch edge (ms). Earlier versions say less."""

    worker: str
    pid: int
    at_ms: int
    id: str = ""
    host: str = ""
    not_ready: str = ""
    lag_s: float | None = None
    without_lease: list[int] = []
    led: list[str] = []
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
    """A shard of the people feed (``s00`` ...) or the shakes; its ``leader`` ticks, checkpoints and trims it.

    ``leader`` is a worker, empty when the one that led last does not report. ``entries``: null when its node is away.
    """

    stream: str
    entries: int | None
    leader: str
    checkpoint: CheckpointOut | None


class StatusOut(BaseModel):
    """The whole report. ``host`` is the one that answered, which should have ``workers_here`` workers."""

    version: str
    host: str
    workers_here: int
    data_dir: str
    epoch_s: float
    state: StateOut
    workers: list[WorkerOut]
    streams: list[StreamOut]


@router.get("")
async def get_status(request: Request, _operator: OperatorOnly, hive: StoreHive) -> StatusOut:
    """What is running. People are counted at epoch edges, to two significant digits."""
    settings: Settings = request.app.state.settings
    state, streams, workers = await asyncio.gather(
        _state(hive, settings, request.app.state.read_only()),
        state_report.streams(hive),
        state_report.workers(hive.state, _HOST),
    )
    name_of = {row.get("id", ""): row["worker"] for row in workers}
    for stream in streams:
        stream["leader"] = name_of.get(stream["leader"], "")
    return StatusOut.model_validate(
        {
            "version": request.app.version,
            "host": _HOST,
            "workers_here": settings.workers,
            "data_dir": "" if settings.state_url else str(settings.data_dir.absolute()),
            "epoch_s": hive.feeds.epoch_ms / 1000,
            "state": state,
            "workers": workers,
            "streams": streams,
        }
    )


async def _state(hive: Hive, settings: Settings, read_only: bool) -> dict[str, object]:
    world, nodes = await asyncio.gather(state_report.world(hive.state), state_report.nodes(hive.state))
    found = world or {}
    url_footing = "cluster" if hive.state.is_cluster else "one server"
    return {
        "footing": url_footing if settings.state_url else "embedded",
        "durability": hive.state.durability,
        "away": world is None,
        "read_only": read_only,
        "format": int(found.get("format", 0)),
        "shards": hive.shards.count,
        "moved_to": found.get("moved_to", ""),
        "unfinished": found.get("unfinished", ""),
        "nodes": nodes,
    }
