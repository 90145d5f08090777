"""What a coalition of attackers can do and see: the one interface that every attack is written against.

The attacker is given everything but the victim: the code, the lattice, the bands, any number of accounts, places them
wherever it likes, and the victim helps where a feature needs it (accepts friends, shakes when asked to).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

Point = tuple[float, float]
"""Latitude and longitude, WGS 84 degrees."""


@dataclass(frozen=True, slots=True)
class Observer:
    """An attacker's account. ``lat``, ``lon``: where the service measures distances from for it, which its owner knows:
    the centre of its own published cell, of which ``PUT /v1/me/position`` tells."""

    user: str
    lat: float
    lon: float

    @property
    def point(self) -> Point:
        """``(lat, lon)``."""
        return self.lat, self.lon


@dataclass(frozen=True, slots=True)
class Sighting:
    """What one answer says of the victim: the distance in metres lies from ``near_m`` to below ``far_m`` (equal: it is
    that); ``cell`` the victim's cell where the feature shows it (radar), else 0."""

    near_m: float
    far_m: float
    cell: int = 0

    @property
    def middle_m(self) -> float:
        """What who reads one number takes it for."""
        return (self.near_m + self.far_m) / 2


@dataclass(frozen=True, slots=True)
class Prior:
    """What the attacker knows beforehand: the victim is in this disc. It comes from a city or a published cell, never
    from the true point: else the attack would find what the harness told it."""

    lat: float
    lon: float
    radius_m: float

    @property
    def point(self) -> Point:
        """``(lat, lon)`` of the disc's centre."""
        return self.lat, self.lon


@dataclass(frozen=True, slots=True)
class Guess:
    """Where an attack says that the victim is."""

    lat: float
    lon: float

    @property
    def point(self) -> Point:
        """``(lat, lon)``."""
        return self.lat, self.lon


class Oracle(Protocol):
    """One victim, as seen by accounts that the attacker makes. ``victim`` is the victim's id."""

    victim: str

    async def observers(self, points: Sequence[Point], precision: str | None = None) -> list[Observer]:
        """Fresh accounts, visible to everyone, each placed once. With ``precision`` (``city``, ``area``, ``near``) each
        is an accepted friend of the victim, and both show each other that."""
        ...

    async def retire(self, observers: Sequence[Observer]) -> None:
        """The accounts hide, so that later lists are not full of them."""
        ...

    async def nearby(self, observer: Observer, radius_m: int) -> Sighting | None:
        """The victim as people nearby shows it to this account; None when it is not in the list."""
        ...

    async def listing(self, observer: Observer, radius_m: int, limit: int, pages: int) -> list[str]:
        """The ids of the first ``pages`` pages of ``limit`` people nearby, in the order shown."""
        ...

    async def radar(self, observer: Observer, radius_m: int) -> Sighting | None:
        """The victim as radar shows it to this account, which must be a friend."""
        ...

    async def shake(self, points: Sequence[Point]) -> list[tuple[Observer, Sighting | None]]:
        """The victim shakes, then fresh accounts shake at ``points`` (at most 19), within one window: what each is
        shown of the victim."""
        ...


class Counting:
    """An oracle that counts the questions asked of another: lists, radar answers and the attacker's shakes.

    Making, placing and hiding accounts is not counted.
    """

    def __init__(self, oracle: Oracle) -> None:
        self._oracle = oracle
        self.victim = oracle.victim
        self.queries = 0

    async def observers(self, points: Sequence[Point], precision: str | None = None) -> list[Observer]:
        """As the oracle."""
        return await self._oracle.observers(points, precision)

    async def retire(self, observers: Sequence[Observer]) -> None:
        """As the oracle."""
        await self._oracle.retire(observers)

    async def nearby(self, observer: Observer, radius_m: int) -> Sighting | None:
        """One question."""
        self.queries += 1
        return await self._oracle.nearby(observer, radius_m)

    async def listing(self, observer: Observer, radius_m: int, limit: int, pages: int) -> list[str]:
        """One question a list, however many pages it takes."""
        self.queries += 1
        return await self._oracle.listing(observer, radius_m, limit, pages)

    async def radar(self, observer: Observer, radius_m: int) -> Sighting | None:
        """One question."""
        self.queries += 1
        return await self._oracle.radar(observer, radius_m)

    async def shake(self, points: Sequence[Point]) -> list[tuple[Observer, Sighting | None]]:
        """One question a shake."""
        self.queries += len(points)
        return await self._oracle.shake(points)
