"""``make bench``, third part: the store finder over HTTP; a table, and rows in ``docs/benchmarks.json``.

One worker, one connection, one request after another; the contenders take turns, and figures are medians. ``empty
endpoint`` takes the same request (key and JSON body, checked in the same way) and answers ``{}``.
"""

import argparse
import json
import random
import socket
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from loadtest import report
from loadtest.finder.served import EAST, NORTH, SERVICES, SOUTH, STORES, WEST, serve
from loadtest.state.world import Process, server

EMPTY = "empty endpoint + engine call"
BARE = "GET /healthz + engine call"
ONE_EACH = "a request a point"
OURS = "ours"
POINTS = 10_000
_ASKED = 300  # questions of a turn
_WANTED = {"limit": 5, "open": "now", "services": SERVICES[:2]}


class Kind(NamedTuple):
    """Requests of one contender."""

    name: str
    requests: Sequence[bytes]


class Caller:
    """One connection; requests are bytes that stand ready."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def seconds(self, request: bytes) -> tuple[float, bytes]:
        """How long the whole answer took, and its body. RuntimeError unless it is a 200."""
        started_s = time.perf_counter()
        self._socket.sendall(request)
        head, body = self._read()
        took_s = time.perf_counter() - started_s
        if not head.startswith(b"HTTP/1.1 200 "):
            raise RuntimeError(f"{head!r} {body[:500]!r}")
        return took_s, body

    def _read(self) -> tuple[bytes, bytes]:
        parts = [self._socket.recv(1 << 20)]
        head, _, rest = parts[0].partition(b"\r\n\r\n")
        lower = head.lower()
        if b"transfer-encoding: chunked" in lower:
            while not parts[-1].endswith(b"0\r\n\r\n"):
                parts.append(self._socket.recv(1 << 20))
            return head, b"".join(parts).partition(b"\r\n\r\n")[2]
        size = int(lower.partition(b"content-length: ")[2].partition(b"\r\n")[0])
        while len(rest) < size:
            rest += self._socket.recv(1 << 20)
        return head, rest


def request(method: str, path: str, key: str, body: object = None) -> bytes:
    content = b"" if body is None else json.dumps(body).encode()
    head = f"{method} {path} HTTP/1.1\r\nHost: bench\r\nX-API-Key: {key}\r\n"
    if body is not None:
        head += f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n"
    return head.encode() + b"\r\n" + content


def drawn(draw: random.Random) -> dict[str, float]:
    return {"lat": round(draw.uniform(SOUTH, NORTH), 5), "lon": round(draw.uniform(WEST, EAST), 5)}


class Taken(NamedTuple):
    """Median seconds until the answer, and the mean of the worker's processor seconds."""

    wall_s: float
    processor_s: float


def single(caller: Caller, process: Process, key: str, draw: random.Random, turns: int) -> dict[str, Taken]:
    """A request of each kind."""
    bodies = [drawn(draw) | _WANTED for _ in range(_ASKED)]
    kinds = [
        Kind(BARE, [request("GET", "/healthz", key)] * _ASKED),
        Kind(EMPTY, [request("POST", f"{STORES}/nothing", key, body) for body in bodies]),
        Kind(OURS, [request("POST", f"{STORES}/nearest", key, body) for body in bodies]),
    ]
    found: dict[str, list[Taken]] = {kind.name: [] for kind in kinds}
    for turn in range(turns + 1):
        for kind in kinds:
            taken = timed(caller, process, kind.requests)
            if turn:  # the first makes what is made once
                found[kind.name].append(taken)
    return {name: Taken(*map(statistics.median, zip(*turns_of, strict=True))) for name, turns_of in found.items()}


def timed(caller: Caller, process: Process, requests: Sequence[bytes]) -> Taken:
    before_s = process.ask("processor")
    seconds = [caller.seconds(one)[0] for one in requests]
    return Taken(statistics.median(seconds), (process.ask("processor") - before_s) / len(requests))


def batch(caller: Caller, process: Process, key: str, draw: random.Random, turns: int) -> Taken:
    """One request with 10,000 points, the same filters."""
    points = [{"id": number} | drawn(draw) for number in range(POINTS)]
    asked = [request("POST", f"{STORES}/nearest", key, {"points": points, **_WANTED})]
    found = [timed(caller, process, asked) for _ in range(turns + 1)][1:]
    return Taken(*map(statistics.median, zip(*found, strict=True)))


def rows(port: int, key: str, stores: int, seed: int, turns: int, process: Process) -> list[report.Row]:
    draw, caller = random.Random(seed + 1), Caller(port)
    one = single(caller, process, key, draw, turns)
    many = batch(caller, process, key, draw, turns)
    engine_s = statistics.median(process.ask("engine"))
    work = "store finder: 5 nearest that are open with two services, one request"
    batch_work = f"store finder: the same of {POINTS:,} points in one request"
    found = []
    for name, place in (("", 0), (", processor time", 1)):
        ours_s, empty_s, bare_s = (one[kind][place] for kind in (OURS, EMPTY, BARE))
        found += [
            report.row(work + name, stores, 1e6 * ours_s, 1e6 * (empty_s + engine_s), EMPTY, "us", "growth <= 1.5"),
            report.row(batch_work + name, stores, many[place], POINTS * ours_s, ONE_EACH, "s", "ours <= 0.25"),
            report.row(
                f"{work}{name}; bare", stores, 1e6 * ours_s, 1e6 * (bare_s + engine_s), BARE, "us", "growth <= 3"
            ),
        ]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--turns", type=int, default=7, help="of each contender")
    parser.add_argument("--stores", type=int, default=100_000)
    parser.add_argument("--out", type=Path, default=report.OUT, help="the JSON file; the page goes beside it")
    given = parser.parse_args()
    with server() as url:
        process = Process(serve, url, given.stores, given.seed)
        port, key = process.pipe.recv()
        found = rows(port, key, given.stores, given.seed, given.turns, process)
        process.pipe.send("end")
        process.end()
    report.show(found)
    report.write(found, given.seed, report.FINDER, None, given.out)


if __name__ == "__main__":
    main()
