"""Times of several contenders at the same work, taken in turns: a busy moment of the machine hits all of them."""

import gc
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

Call = Callable[[], object]
Floats = NDArray[np.float64]

_EMPTY_CALLS = 2_000


@dataclass(slots=True, frozen=True)
class Spread:
    """Median of the samples in seconds, and the tenth and ninetieth percentile."""

    median: float
    p10: float
    p90: float

    @classmethod
    def of(cls, seconds: Floats) -> "Spread":
        p10, median, p90 = np.percentile(seconds, [10, 50, 90]).tolist()
        return cls(median, p10, p90)


@dataclass(slots=True, frozen=True)
class Timed:
    """Seconds of each contender, f64[turns, calls]; of a slow one only the first calls."""

    seconds: dict[str, Floats]

    def spread(self, name: str, first_calls: int | None = None) -> Spread:
        """Of one contender, over its first calls."""
        return Spread.of(self.seconds[name][:, :first_calls])

    def mean(self, name: str) -> float:
        """Over its calls, each by the median of its turns."""
        return float(np.median(self.seconds[name], axis=0).mean())

    def calls(self, name: str) -> int:
        """How many different calls were timed of it."""
        return int(self.seconds[name].shape[1])


def single_calls(contenders: Mapping[str, Sequence[Call]], turns: int, budget_s: float) -> Timed:
    """Each call timed by itself, the timer's own time taken off.

    ``contenders`` ask the same questions in the same order. Who would take longer than ``budget_s`` for all turns is
    asked only the first of them (at least three), and is compared by those. A first round is not counted.
    """
    with threadpool_limits(1, user_api="openmp"):
        asked = {name: calls[: _affordable(calls, turns, budget_s)] for name, calls in contenders.items()}
    seconds = {name: np.empty((turns, len(calls))) for name, calls in asked.items()}
    names = list(asked)
    # pykdtree would spread one question over OpenMP threads, and wait for them.
    with _undisturbed(), threadpool_limits(1, user_api="openmp"):
        timer_s = _timer_s()
        for turn in range(turns):
            for name in _rotated(names, turn):
                _time_each(asked[name], seconds[name][turn])
    return Timed({name: np.maximum(found - timer_s, 1e-9) for name, found in seconds.items()})


def first_calls(contenders: Mapping[str, Sequence[Call]]) -> Timed:
    """Each call once, without a round before it: f64[1, calls]."""
    seconds = {name: np.empty((1, len(calls))) for name, calls in contenders.items()}
    with _undisturbed():
        for name, calls in contenders.items():
            _time_each(calls, seconds[name][0])
    return Timed(seconds)


def whole_runs(contenders: Mapping[str, Call], turns: int) -> Timed:
    """Each contender's one call, f64[turns, 1]; a first call of each is not counted."""
    for call in contenders.values():
        call()
    seconds = {name: np.empty((turns, 1)) for name in contenders}
    with _undisturbed():
        for turn in range(turns):
            for name in _rotated(list(contenders), turn):
                _time_each([contenders[name]], seconds[name][turn])
    return Timed(seconds)


def _affordable(calls: Sequence[Call], turns: int, budget_s: float) -> int:
    """How many calls fit; runs them once, as far as they fit."""
    started, done = time.perf_counter(), 0
    for call in calls:
        call()
        done += 1
        if (time.perf_counter() - started) * (turns + 1) > budget_s and done >= 3:
            break
    return done


def _rotated(names: list[str], turn: int) -> list[str]:
    first = turn % len(names)
    return names[first:] + names[:first]


def _time_each(calls: Sequence[Call], out: Floats) -> None:
    clock = time.perf_counter
    for i, call in enumerate(calls):
        started = clock()
        call()
        out[i] = clock() - started


def _timer_s() -> float:
    out = np.empty(_EMPTY_CALLS)
    clock = time.perf_counter
    for i in range(_EMPTY_CALLS):
        started = clock()
        out[i] = clock() - started
    return float(np.median(out))


@contextmanager
def _undisturbed() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
