"""Planted points and every form in which one of them could be lying about, searched in bytes."""

import math
import random
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import h3

_GEOHASH = "0123456789bcdefghjkmnpqrstuvwxyz"
_GEOHASH_CHARS = 7  # 150 m: finer than the cell that is kept
_RESOLUTIONS = (9, 10, 11, 12, 13, 14, 15)  # 8 is kept
_DECIMALS = 5
_REDIS_BITS = 26
_REDIS_MOST_LAT = 85.05112878
_NEAR_BYTES = 32  # two short numbers this close are a pair; one alone is met by chance in a few MB


class Canary(NamedTuple):
    """A point that nobody else has, in degrees of 7 decimals. ``also_kept``: its cell of this resolution may stand."""

    name: str
    lat: float
    lon: float
    also_kept: int = 8

    def found_in(self, content: bytes) -> list[str]:
        """Names of the forms of this point that ``content`` holds."""
        found = [name for name, form in self._forms() if form in content]
        return found + [f"{name} pair" for name, *forms in self._pairs() if _both_near(content, *forms)]

    def _cells(self) -> set[str]:
        """All that are finer than what is kept: those that hold the point, and the parents of the finest."""
        sought = [resolution for resolution in _RESOLUTIONS if resolution != self.also_kept]
        holding = {h3.latlng_to_cell(self.lat, self.lon, resolution) for resolution in sought}
        finest = h3.latlng_to_cell(self.lat, self.lon, _RESOLUTIONS[-1])
        return holding | {h3.cell_to_parent(finest, resolution) for resolution in sought}

    def _pairs(self) -> Iterator[tuple[str, bytes, bytes]]:
        lat, lon = self.lat, self.lon
        for order in "<>":
            yield f"{order}float", struct.pack(f"{order}f", lat), struct.pack(f"{order}f", lon)
            e7 = struct.pack(f"{order}i", round(lat * 1e7)), struct.pack(f"{order}i", round(lon * 1e7))
            yield f"{order}int32 of 1e-7 degrees", *e7
        yield "1e-6 degrees", str(int(abs(lat) * 1e6)).encode(), str(int(abs(lon) * 1e6)).encode()

    def _forms(self) -> Iterator[tuple[str, bytes]]:
        for axis, degrees in (("lat", self.lat), ("lon", self.lon)):
            yield from ((f"{axis} {name}", text.encode()) for name, text in _texts(degrees))
            for order in "<>":
                yield f"{axis} {order}double", struct.pack(f"{order}d", degrees)
                yield f"{axis} {order}double of radians", struct.pack(f"{order}d", math.radians(degrees))
        yield "geohash", geohash(self.lat, self.lon).encode()
        score = geo_score(self.lat, self.lon)
        yield "Redis score", str(score).encode()
        for order in "<>":
            yield f"Redis score {order}uint64", struct.pack(f"{order}Q", score)
            yield f"Redis score {order}double", struct.pack(f"{order}d", score)
        for cell in self._cells():
            resolution = h3.get_resolution(cell)
            yield f"cell {resolution}", cell.encode()
            yield f"CELL {resolution}", cell.upper().encode()
            yield f"cell {resolution} decimal", str(int(cell, 16)).encode()
            for order in "<>":
                yield f"cell {resolution} {order}uint64", struct.pack(f"{order}Q", int(cell, 16))


def plant(draws: random.Random, name: str) -> Canary:
    """A random point of 7 decimals, where no degree reads like the seconds of a time."""
    lat, lon = (f"{draws.choice('+-')}{draws.uniform(*limits):.6f}7" for limits in ((60, 80), (100, 179)))
    return Canary(name, float(lat), float(lon))


def _texts(degrees: float) -> Iterator[tuple[str, str]]:
    exact = f"{abs(degrees):.7f}"
    yield "decimals", exact[: _DECIMALS - 7]  # and so any longer prefix
    yield "rounded", f"{abs(degrees):.{_DECIMALS}f}"
    yield "1e-7 degrees", exact.replace(".", "")
    yield "radians", f"{math.radians(abs(degrees)):.12f}"[:9]  # 7 decimals: 0.6 m


def geohash(lat: float, lon: float) -> str:
    """By halving: bits of longitude and latitude in turn, five to a character."""
    ranges, point, bits = [[-180.0, 180.0], [-90.0, 90.0]], (lon, lat), 0
    for number in range(5 * _GEOHASH_CHARS):
        around, value = ranges[number % 2], point[number % 2]
        middle = sum(around) / 2
        bits = bits << 1 | (value >= middle)
        around[value < middle] = middle
    return "".join(_GEOHASH[bits >> 5 * place & 31] for place in reversed(range(_GEOHASH_CHARS)))


def geo_score(lat: float, lon: float) -> int:
    """52 bits as GEOADD stores them: 26 of each axis, latitude in the even bits, from -85.05112878 to 85.05112878."""
    score = 0
    for degrees, most, place in ((lat, _REDIS_MOST_LAT, 0), (lon, 180.0, 1)):
        share = int((degrees + most) / (2 * most) * (1 << _REDIS_BITS))
        score |= sum((share >> bit & 1) << 2 * bit + place for bit in range(_REDIS_BITS))
    return score


def _both_near(content: bytes, one: bytes, other: bytes) -> bool:
    at = content.find(one)
    while at >= 0:
        if other in content[max(0, at - _NEAR_BYTES) : at + _NEAR_BYTES]:
            return True
        at = content.find(one, at + 1)
    return False


def leaks(canaries: Iterable[Canary], contents: dict[str, bytes]) -> list[tuple[str, str, str]]:
    """(canary, where, form) of all that was found."""
    return [
        (canary.name, where, form)
        for where, content in contents.items()
        for canary in canaries
        for form in canary.found_in(content)
    ]


def read_all(folder: Path) -> dict[str, bytes]:
    """Every regular file below ``folder``, by its path, and all paths together."""
    files = {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in files.items()} | {"(names)": "\n".join(files).encode()}
