"""``make bench``, second half: the state core; a table, and rows in ``docs/benchmarks.json``.

Each row is the best of a few short runs, because a busy moment of the machine makes any of them worse; a run has a
server of its own, with every write synced before it is answered. Peers: ``one command an update`` is a GEOADD for each
through pipelines of redis-py (its latency and processor time too); ``a hash a person`` is read by pipelines of HGETALL.
"""

import argparse
from collections.abc import Callable
from functools import partial

from loadtest import report
from loadtest.state import folding
from loadtest.state.updates import Load, Measured, lone_caller, lone_geoadd, measure, measure_lone, measure_peer
from loadtest.state.world import server

ONE_EACH, HASHES = "one command an update", "a hash a person"
FOLDED_S, MOST_OF_A_CORE = 50_000, 0.20
TAIL = 100_000


def best(runs: int, run: Callable[[Load], Measured], load: Load) -> Measured:
    """Each figure of its best run."""
    found = [run(load) for _ in range(runs)]
    return Measured(
        sent=min(one.sent for one in found),
        run=min(one.run for one in found),
        updates_s=max(one.updates_s for one in found),
        p50_ms=min(one.p50_ms for one in found),
        p99_ms=min(one.p99_ms for one in found),
        cpu_us=min(one.cpu_us for one in found),
    )


def named(load: Load) -> str:
    workers = "1 worker" if load.workers == 1 else f"{load.workers} workers"
    return f"{load.updates_s:,} updates/s, {workers}{', people walking' if load.walking else ''}"


def command_rows(load: Load, ours: Measured) -> list[report.Row]:
    row = partial(report.row, size=load.updates_s, peer_name=ONE_EACH, unit="commands", peer=1.0)
    return [
        row(f"commands sent an update, {named(load)}", ours=ours.sent, goal="ratio >= 20"),
        row(f"with those inside scripts, {named(load)}", ours=ours.run, goal="ratio >= 20"),
    ]


def latency_rows(load: Load, runs: int, peer: Measured) -> list[report.Row]:
    """The commands, and how long an update waits for its answer."""
    ours = best(runs, measure, load)
    row = partial(report.row, size=load.updates_s, peer_name=ONE_EACH)
    return [
        *command_rows(load, ours),
        row(f"answered, p50, {named(load)}", ours=ours.p50_ms, peer=peer.p50_ms, unit="ms", goal="ours <= 60"),
        row(f"answered, p99, {named(load)}", ours=ours.p99_ms, peer=peer.p99_ms, unit="ms", goal="ours <= 150"),
    ]


def lone_rows(runs: int) -> list[report.Row]:
    ours = min(next(measure_lone(lone_caller)) for _ in range(runs))
    peer = min(next(measure_lone(lone_geoadd)) for _ in range(runs))
    return [report.row("answered, p50, one caller after another", 1, ours, peer, ONE_EACH, "ms", "ours <= 3")]


def world_rows(people: int, seed: int, runs: int, peer_cpu_us: float) -> list[report.Row]:
    with server() as url:
        folding.build(url, people, TAIL, seed)
        started_s = folding.measure_restore(url, people, runs)
        peer_s = folding.measure_peer_restore(url, people)
        folded = folding.measure_fold(url, people, FOLDED_S, runs)
    cpu_us = folded.cpu_us if folded.reports_s >= 0.98 * FOLDED_S else float("inf")
    goal = f"ours <= {1e6 * MOST_OF_A_CORE / FOLDED_S:g}"
    return [
        report.row(f"CPU an update folded, at {FOLDED_S:,}/s", people, cpu_us, peer_cpu_us, ONE_EACH, "us", goal),
        report.row(f"people restored, {TAIL:,} updates behind", people, started_s, peer_s, HASHES, "s", "ours <= 5"),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--turns", type=int, default=3, help="runs of each row")
    parser.add_argument("--people", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=float, default=10.0, help="of each run")
    given = parser.parse_args()
    turns, seconds = given.turns, given.seconds
    peer = best(turns, measure_peer, Load(2_000, 1, seconds))
    rows = latency_rows(Load(2_000, 1, seconds), turns, peer)
    rows += latency_rows(Load(5_000, 1, seconds), turns, best(turns, measure_peer, Load(5_000, 1, seconds)))
    for load in (Load(2_000, 2, seconds), Load(5_000, 2, seconds), Load(2_000, 1, seconds, walking=True)):
        rows += command_rows(load, best(turns, measure, load))
    rows += lone_rows(turns)
    rows += world_rows(given.people, given.seed, turns, peer.cpu_us)
    report.show(rows)
    report.write(rows, given.seed)


if __name__ == "__main__":
    main()
