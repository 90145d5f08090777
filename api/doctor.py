"""What ``nearhive doctor`` makes of the service's status report."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

_EDGES = 3
_LAG_S = 2.0
_NAME_WIDTH = 14

Status = dict[str, Any]
Row = dict[str, Any]

_FOOTINGS = {"embedded": "embedded server", "one server": "one server, of NEARHIVE_STATE_URL", "cluster": "Cluster"}
_DURABILITY = {
    "always": "each write is on disk before it is answered",
    "waitaof": "each write waits until the server's next sync to disk, up to 1 s",
    "always+wait1": "each write is on its master's disk and in the memory of a replica before it is answered",
    "waitaof1+1": "each write is on the disks of its master and of a replica before it is answered",
    "weak": "WEAK: the last second of answered writes may be lost",
}


def healthy(status: Status) -> bool:
    """Everything that should be there is, and workers that folded the same edge hold the same world."""
    return not problems(status)


def common_edges(status: Status) -> list[tuple[int, dict[str, str]]]:
    """The last three edges (ms) of which two workers, or the only one, have a digest, newest first: digest by worker.

    A worker that has just started has few, and one that hangs has old ones: the others are compared all the same.
    """
    found: dict[int, dict[str, str]] = {}
    for row in status["workers"]:
        for edge, digest in row["digests"].items():
            found.setdefault(int(edge), {})[row["worker"]] = digest
    least = min(2, len(status["workers"]))
    return sorted(((edge, by) for edge, by in found.items() if len(by) >= least), reverse=True)[:_EDGES]


def report(url: str, status: Status) -> str:
    """The report for people."""
    lines = list(_lines(url, status))
    width = max(_NAME_WIDTH, *(len(name) + 2 for name, _ in lines))
    return "\n".join(f"{name:{width}}{text}" for name, text in lines)


# --- what is there ---


def _lines(url: str, status: Status) -> Iterator[tuple[str, str]]:
    state, workers = status["state"], status["workers"]
    hosts = len({row["host"] for row in workers})
    of_hosts = f" on {hosts} hosts" if hosts > 1 else ""
    yield "service", f"Nearhive {status['version']} at {url}, {_counted(len(workers), 'worker')}{of_hosts}"
    yield (
        "footing",
        f"{_FOOTINGS[state['footing']]}, {_counted(state['shards'], 'shard')}, data format {state['format']}",
    )
    for node in state["nodes"]:
        yield f"node {node['name']}".strip(), _node(node)
    yield "durability", f"{state['durability']}: {_DURABILITY[state['durability']]}"
    yield "data", status["data_dir"] or "in the state; secrets of this service in its data directory"
    yield "epoch", f"{status['epoch_s']:g} s"
    if workers:
        # Gauges of people move at edges only, to two digits, so that nobody's coming or going can be read from them.
        yield "people", f"about {max(row['people'] for row in workers):,} with a live position"
    for stream in status["streams"]:
        yield f"stream {stream['stream']}", _stream(stream)
    for row in workers:
        yield f"worker {row['worker']}", _worker(row)
    yield from _verdict(status)


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'s' * (count != 1)}"


def _node(node: Row) -> str:
    if node["away"]:
        return f"{node['role']}, AWAY"
    copies = f", {_counted(node['replicas_in_sync'], 'replica')} in sync" if node["name"] and _leads(node) else ""
    synced = f"appendfsync {node['appendfsync'] or 'not readable'}" if node["appendonly"] else "NO append-only file"
    memory = f"{node['memory_bytes'] / 1e6:.1f} MB"
    where = node["binary"] or "binary not told"
    server = f"{node['server']} {node['version']}, process {node['pid']}"
    return f"{node['role']}, {server}, {memory}, {synced}{copies}, {where}"


def _leads(node: Row) -> bool:
    return bool(node["role"] == "master")


def _stream(stream: Row) -> str:
    if stream["entries"] is None:
        return "AWAY"
    leader = f"led by worker {stream['leader']}" if stream["leader"] else "WITHOUT A LEADER"
    found = stream["checkpoint"]
    kept = f", checkpoint of {int(found['bytes']):,} bytes at {found['offset']}" if found else ", no checkpoint yet"
    return f"{stream['entries']:,} entries{kept if stream['stream'] != 'shake' else ''}, {leader}"


def _worker(row: Row) -> str:
    edge = max(map(int, row["digests"]), default=None)
    digest = "no edge yet" if edge is None else f"digest {row['digests'][str(edge)]} at {_time(edge)}"
    lease = (
        f"LEASE NOT HELD on {_counted(len(row['without_lease']), 'shard')}" if row["without_lease"] else "lease held"
    )
    lag = "nothing folded yet" if row["lag_s"] is None else f"lag {_shown(row['lag_s'])}"
    where = f"{row['host']}, " if row["host"] else ""
    return (
        f"{where}process {row['pid']}, {lease}, {lag}, feed offset {_offsets(row['offsets'])}, "
        f"shake offset {row['shake_offset']}, {digest}"
    )


def _shown(lag_s: float) -> str:
    return f"{lag_s:g} s" if lag_s else "below 0.5 s"


def _offsets(offsets: list[str]) -> str:
    """One shard's as it is; of many the oldest and the newest (all are in ``--json``)."""
    if len(offsets) <= 1:
        return "".join(offsets)
    ordered = sorted(offsets, key=lambda offset: tuple(map(int, offset.split("-"))))
    return f"{ordered[0]} to {ordered[-1]}"


def _time(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


# --- whether it is well ---


def _verdict(status: Status) -> Iterator[tuple[str, str]]:
    edges = common_edges(status)
    for edge, found in edges:
        digests = next(iter(found.values())) if _equal(found) else ", ".join(f"{w}: {d}" for w, d in found.items())
        of_all = f" ({len(found)} of {_counted(len(status['workers']), 'worker')})"
        yield f"edge {_time(edge)[11:19]}", f"{'equal' if _equal(found) else 'NOT EQUAL'}: {digests}{of_all}"
    if not edges and status["workers"]:
        yield "edges", "none yet that workers have passed; ask again after the next one"
    for problem in problems(status):
        yield "NOT WELL", problem
    if healthy(status):
        yield "verdict", "well; all workers agree"


def _equal(found: dict[str, str]) -> bool:
    return len(set(found.values())) == 1


def problems(status: Status) -> list[str]:
    """What is not as it should be, in words; empty when all is well."""
    state = status["state"]
    found = [*_of_state(state), *_of_workers(status)]
    for node in state["nodes"]:
        found += (f"node {node['name']}: {text}".replace("node :", "state server:") for text in _of_node(node, state))
    for stream in status["streams"]:
        if stream["entries"] is None:
            found.append(f"stream {stream['stream']}: the node that owns it does not answer")
        elif not stream["leader"]:
            found.append(f"stream {stream['stream']}: no worker that reports leads it, so its time stands still")
    if not all(_equal(digests) for _, digests in common_edges(status)):
        found.append("workers hold different worlds")
    return found


def _of_state(state: Row) -> Iterator[str]:
    if state["away"]:
        yield "the state does not answer"
    if state["moved_to"]:
        yield f"the state was copied to {state['moved_to']}, or is being copied: nothing is served from here"
    if state["unfinished"]:
        yield f"a {state['unfinished']} into this state has not ended: repeat it"
    if state["read_only"]:
        yield "the disk of the state is full: writes and people reads answer 503"


def _of_node(node: Row, state: Row) -> Iterator[str]:
    if node["away"]:
        yield "does not answer"
        return
    if node["writes_fail"]:
        yield "its last write to disk failed"
    if node["link_down"]:
        yield "it is not connected to its master"
    synced = node["appendonly"] and node["appendfsync"] in ("", "always")
    if state["durability"].startswith("always") and not synced and not state["read_only"]:
        yield "it does not sync to disk before it answers (appendonly yes, appendfsync always)"
    if state["footing"] == "cluster" and _leads(node) and not node["replicas_in_sync"]:
        yield "no replica in sync: writes of class A and B and shakes are answered 'outcome unknown'; reads go on"


def _of_workers(status: Status) -> Iterator[str]:
    workers = status["workers"]
    here = sum(row["host"] in ("", status["host"]) for row in workers)
    if not workers:
        yield "no worker has reported in the last 5 s"
    elif here < status["workers_here"]:
        yield f"{here} of {_counted(status['workers_here'], 'worker')} of host {status['host']} report"
    for row in workers:
        if row["not_ready"]:
            yield f"worker {row['worker']} does not answer people: {row['not_ready']}"
        if row["lag_s"] is not None and row["lag_s"] > _LAG_S:
            yield f"worker {row['worker']} is {row['lag_s']:g} s behind the feed"
