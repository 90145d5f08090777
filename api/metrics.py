"""A few metrics with a small fixed label set: ``operation`` is a route's name, never a path.

Over several worker processes prometheus_client keeps its values in files of one directory, and decides so when it is
first imported. ``share_between_processes`` must therefore run first; this module imports the package only afterwards,
when the first ``Metrics`` is made, and nothing else in the service imports it.
"""

import math
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_DIRECTORY = "PROMETHEUS_MULTIPROC_DIR"
_AT_WORK: tuple[tuple[str, str, Any], ...] = (
    ("workers_ready", "Workers of this host that answer people", "livesum"),
    ("leases_missing", "Leases that workers of this host should hold and do not", "livesum"),
    ("streams_led", "Streams led by workers of this host; over all hosts it is nearhive_streams", "livesum"),
    ("streams", "Streams of this world: its shards, and the shakes", "livemax"),
    ("read_only", "1 while the disk of the embedded state is full", "livemax"),
)
_AT_EDGE = (
    ("people", "People live at the last epoch edge, two significant digits"),
    ("shakes", "Shakes in the epoch that ended at the last edge, two significant digits"),
)
_MODERATION = (
    ("moderation_queue", "Cases that wait for a moderator"),
    ("moderation_oldest_seconds", "Since when the oldest of them waits"),
)
_BUCKETS_S = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


def share_between_processes(directory: Path) -> None:
    """Let all processes forked from here share their values in ``directory`` (emptied). Once, by the supervisor.

    RuntimeError when prometheus_client is imported already: it would silently count per process.
    """
    if "prometheus_client" in sys.modules:
        raise RuntimeError("prometheus_client was imported before share_between_processes")
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    for old in directory.glob("*.db"):
        old.unlink()
    os.environ[_DIRECTORY] = str(directory)


def forget_process(pid: int) -> None:
    """Drop the gauges of a worker that ended; its counts stay. For the supervisor."""
    if _DIRECTORY in os.environ:
        from prometheus_client.multiprocess import mark_process_dead

        mark_process_dead(pid)  # type: ignore[no-untyped-call]


def two_digits(count: int) -> int:
    """``count`` rounded to two significant digits: 1,234 -> 1,200."""
    if count < 100:
        return count
    unit = 10 ** (int(math.log10(count)) - 1)
    return int(round(count / unit) * unit)


def half_seconds(seconds: float) -> float:
    """Rounded down to 0.5 s. Ticks come four times a second: finer, the lag would tell when a single person acts."""
    return math.floor(2 * seconds) / 2 if math.isfinite(seconds) else seconds


@dataclass(frozen=True, slots=True)
class AtWork:
    """How one worker stands. ``leases_missing`` and ``streams_led`` are counts, of ``streams`` in all."""

    workers_ready: bool
    lag_s: float
    leases_missing: int
    streams_led: int
    streams: int
    read_only: bool


class Metrics:
    """The metrics of one process."""

    def __init__(self) -> None:
        from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

        self.registry = registry = CollectorRegistry()
        self._requests = Counter("nearhive_requests", "Requests answered", ["operation", "status"], registry=registry)
        self._seconds = Histogram(
            "nearhive_request_seconds", "Time to answer", ["operation"], buckets=_BUCKETS_S, registry=registry
        )

        def gauge(name: str, text: str, mode: Any) -> Gauge:
            return Gauge(f"nearhive_{name}", text, registry=registry, multiprocess_mode=mode)

        self._at_edge = [gauge(name, text, "livemostrecent") for name, text in _AT_EDGE]
        lag = "Since when the slowest worker has not folded all that stands in the feeds, in steps of 0.5 s"
        self._lag = gauge("feed_lag_seconds", lag, "livemax")
        self._at_work = {name: gauge(name, text, mode) for name, text, mode in _AT_WORK}
        self._moderation = [gauge(name, text, "livemostrecent") for name, text in _MODERATION]
        self._state_errors = Counter(
            "nearhive_state_errors", "Requests that the state did not answer", registry=registry
        )
        self._children: dict[tuple[str, int], tuple[Callable[[], None], Callable[[float], None]]] = {}

    def request(self, operation: str, status: int, seconds: float) -> None:
        """Count one answered request."""
        counters = self._children.get((operation, status))
        if counters is None:
            counted: Any = self._requests.labels(operation, str(status))
            counters = counted.inc, self._seconds.labels(operation).observe
            self._children[operation, status] = counters
        counters[0]()
        counters[1](seconds)

    def at_edge(self, people: int, shakes: int) -> None:
        """The two gauges change here only, and only coarsely, so that nobody's coming and going can be watched."""
        for gauge, count in zip(self._at_edge, (people, shakes), strict=True):
            gauge.set(two_digits(count))

    def at_work(self, found: AtWork) -> None:
        """How this worker stands, once a second."""
        self._lag.set(half_seconds(found.lag_s))
        for name, gauge in self._at_work.items():
            gauge.set(getattr(found, name))

    def moderation(self, waiting: int, oldest_s: int) -> None:
        """The queue of moderators, as it stands when somebody asks."""
        for gauge, value in zip(self._moderation, (waiting, oldest_s), strict=True):
            gauge.set(value)

    def state_error(self) -> None:
        """Count a request that the state did not answer."""
        self._state_errors.inc()

    def render(self) -> bytes:
        """The Prometheus text of all processes."""
        from prometheus_client import CollectorRegistry, generate_latest
        from prometheus_client.multiprocess import MultiProcessCollector

        if _DIRECTORY not in os.environ:
            return generate_latest(self.registry)
        merged = CollectorRegistry()
        MultiProcessCollector(merged)  # type: ignore[no-untyped-call]
        return generate_latest(merged)
