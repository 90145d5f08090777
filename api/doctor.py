"""What ``nearhive doctor`` makes of the service's status report."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

_EDGES = 3

Status = dict[str, Any]


def healthy(status: Status) -> bool:
    """Workers are there, and those that folded the same edge hold the same world."""
    return bool(status["workers"]) and all(len(set(found.values())) == 1 for _, found in common_edges(status))


def common_edges(status: Status) -> list[tuple[int, dict[str, str]]]:
    """The last three edges (ms) that all workers have a digest of, newest first: digest by worker."""
    digests = {row["worker"]: row["digests"] for row in status["workers"]}
    common = set.intersection(*(set(found) for found in digests.values())) if digests else set()
    newest = sorted(map(int, common), reverse=True)[:_EDGES]
    return [(edge, {worker: found[str(edge)] for worker, found in digests.items()}) for edge in newest]


def report(url: str, status: Status) -> str:
    """The report for people."""
    return "\n".join(f"{name:14}{text}" for name, text in _lines(url, status))


def _lines(url: str, status: Status) -> Iterator[tuple[str, str]]:
    server, workers = status["server"], status["workers"]
    yield "service", f"Nearhive {status['version']} at {url}, {len(workers)} worker{'s' * (len(workers) != 1)}"
    yield "state server", f"{server['name']} {server['version']}, {_where(server)}"
    yield "binary", server.get("binary") or "not told by the server"
    yield "durability", _DURABILITY.get(server["durability"], server["durability"])
    yield "data", status["data_dir"] or "in that server; secrets of this service in its data directory"
    yield "epoch", f"{status['epoch_s']:g} s"
    if workers:
        # Gauges of people move at edges only, to two digits, so that nobody's coming or going can be read from them.
        yield "people", f"about {max(row['people'] for row in workers):,} with a live position"
    for stream in status["streams"]:
        yield f"stream {stream['stream']}", _stream(stream)
    for row in workers:
        yield f"worker {row['worker']}", _worker(row)
    yield from _verdict(status)


_DURABILITY = {
    "strict": "strict: what was answered is on disk",
    "weak": "WEAK: the last second of answered writes may be lost",
}


def _where(server: dict[str, Any]) -> str:
    if server["kind"] == "embedded":
        return f"embedded, process {server.get('pid')}"
    return "given by NEARHIVE_STATE_URL"


def _stream(stream: dict[str, Any]) -> str:
    leader = f"led by worker {stream['leader']}" if stream["leader"] else "WITHOUT A LEADER: time stands still"
    found = stream["checkpoint"]
    kept = f", checkpoint of {found['bytes']:,} bytes at {found['offset']}" if found else ", kept whole"
    return f"{stream['entries']:,} entries{kept if stream['stream'] != 'shake' else ''}, {leader}"


def _worker(row: dict[str, Any]) -> str:
    edge = max(map(int, row["digests"]), default=None)
    digest = "no edge yet" if edge is None else f"digest {row['digests'][str(edge)]} at {_time(edge)}"
    return f"process {row['pid']}, feed offset {' '.join(row['offsets'])}, {digest}; shake offset {row['shake_offset']}"


def _verdict(status: Status) -> Iterator[tuple[str, str]]:
    if not status["workers"]:
        yield "NOT WELL", "no worker has reported in the last 5 s"
        return
    edges = common_edges(status)
    for edge, found in edges:
        equal = len(set(found.values())) == 1
        digests = next(iter(found.values())) if equal else ", ".join(f"{w}: {d}" for w, d in found.items())
        yield f"edge {_time(edge)[11:19]}", f"{'equal' if equal else 'NOT EQUAL'}: {digests}"
    if not edges:
        yield "edges", "none yet that all workers have passed; ask again after the next one"
    yield "verdict", "all workers agree" if healthy(status) else "NOT WELL: workers hold different worlds"


def _time(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
