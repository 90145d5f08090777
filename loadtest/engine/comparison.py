"""One piece of work done by several contenders on the same points: times, and what the report makes of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from loadtest import report
from loadtest.engine.ours import NAME
from loadtest.engine.timing import Spread, Timed

FACTORS = {"us": 1e6, "ms": 1e3, "s": 1.0}


@dataclass(slots=True, frozen=True)
class Comparison:
    """``calls`` = how many pieces of the work one timed call holds; times are told for one."""

    work: str
    world: str
    size: int
    unit: str
    timed: Timed
    calls: int = 1

    @property
    def _factor(self) -> float:
        return FACTORS[self.unit] / self.calls

    @property
    def peers(self) -> list[str]:
        """Everybody but us."""
        return [name for name in self.timed.seconds if name != NAME]

    def row(self, peer: str, goal: str, work: str = "") -> report.Row:
        """A row of the table of goals: both by the questions that the peer was asked."""
        ours, theirs = self._against(peer)
        found = report.row(
            work or self.work,
            self.size,
            ours.median * self._factor,
            theirs.median * self._factor,
            peer,
            self.unit,
            goal,
        )
        return found | {"ours_spread": self._pair(ours), "peer_spread": self._pair(theirs)}

    def row_unless(self, missing: Mapping[str, str], peer: str, goal: str) -> report.Row:
        """``row``, or one that says loudly that this peer was not there."""
        if peer in missing:
            return report.not_measured(self.work, self.size, peer, self.unit, goal, missing[peer])
        return self.row(peer, goal)

    def _against(self, peer: str) -> tuple[Spread, Spread]:
        calls = self.timed.calls(peer)
        return self.timed.spread(NAME, calls), self.timed.spread(peer)

    def _pair(self, spread: Spread) -> list[float]:
        return [round(spread.p10 * self._factor, 3), round(spread.p90 * self._factor, 3)]

    def as_json(self) -> dict[str, Any]:
        """Median, spread and ratio of each contender."""
        times = {name: self._told(self.timed.spread(name), name) for name in self.timed.seconds}
        return {"work": self.work, "world": self.world, "size": self.size, "unit": self.unit, "times": times}

    def _told(self, spread: Spread, name: str) -> dict[str, Any]:
        told: dict[str, Any] = {
            "median": round(spread.median * self._factor, 3),
            "spread": self._pair(spread),
            "mean": round(self.timed.mean(name) * self._factor, 3),
            "questions": self.timed.calls(name),
        }
        if name != NAME and NAME in self.timed.seconds:
            ours, theirs = self._against(name)
            told["ratio"] = round(theirs.median / ours.median, 2)
        return told
