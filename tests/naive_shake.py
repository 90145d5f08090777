"""Slow, obvious twin of the shake fold: every newcomer looks at everybody who shook within the window."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from discovery.shake_entries import ANYWHERE, Shake, unpack_shakes
from geo import cells

Key = tuple[int, int]

EARTH_M = 6_371_008.8
_MASK = (1 << 64) - 1


def _rotate(value: int, bits: int) -> int:
    return (value << bits | value >> (64 - bits)) & _MASK


def _rounds(v: list[int], count: int) -> None:
    for _ in range(count):
        v[0] = (v[0] + v[1]) & _MASK
        v[1] = _rotate(v[1], 13) ^ v[0]
        v[0] = _rotate(v[0], 32)
        v[2] = (v[2] + v[3]) & _MASK
        v[3] = _rotate(v[3], 16) ^ v[2]
        v[0] = (v[0] + v[3]) & _MASK
        v[3] = _rotate(v[3], 21) ^ v[0]
        v[2] = (v[2] + v[1]) & _MASK
        v[1] = _rotate(v[1], 17) ^ v[2]
        v[2] = _rotate(v[2], 32)


@lru_cache(maxsize=100_000)
def keyed_hash(key: Key, value: int) -> int:
    """SipHash-2-4 of eight bytes, from the paper."""
    k0, k1 = key
    v = [k0 ^ 0x736F6D6570736575, k1 ^ 0x646F72616E646F6D, k0 ^ 0x6C7967656E657261, k1 ^ 0x7465646279746573]
    for block in (value, 8 << 56):
        v[3] ^= block
        _rounds(v, 2)
        v[0] ^= block
    v[2] ^= 0xFF
    _rounds(v, 4)
    return v[0] ^ v[1] ^ v[2] ^ v[3]


def state_digest(rows: Iterable[tuple[int, int, int, Sequence[tuple[int, int]]]]) -> int:
    """Of rows (shake, person, closing, its matches as (shake, band))."""
    total = 0
    for shake_hash, person_hash, closed_ms, matches in rows:
        total += keyed_hash((shake_hash, person_hash), closed_ms)
        total += sum(keyed_hash((shake_hash, matched), band) for matched, band in matches)
    return total & _MASK


@lru_cache(maxsize=100_000)
def center(cell: int) -> tuple[float, float]:
    """Centre of a cell in radians."""
    lat, lon = cells.center(cell)
    return math.radians(lat), math.radians(lon)


def cell_band(cell_a: int, cell_b: int) -> int | None:
    """0 below 3 km, 1 below 5 km between the centres, else None."""
    (lat_a, lon_a), (lat_b, lon_b) = center(cell_a), center(cell_b)
    half = math.sin((lat_a - lat_b) / 2) ** 2 + math.cos(lat_a) * math.cos(lat_b) * math.sin((lon_a - lon_b) / 2) ** 2
    distance_m = 2 * EARTH_M * math.asin(math.sqrt(min(1.0, half)))
    return 0 if distance_m < 3000 else 1 if distance_m < 5000 else None


@dataclass(eq=False)
class NaiveShake:
    """A shake of the stream; ``matches`` holds (other shake, band) under the other's person hash."""

    shake: Shake
    hive_ms: int
    position: int
    key: Key
    superseded: bool = False
    matches: dict[int, tuple["NaiveShake", int]] = field(default_factory=dict)

    def offset(self, other: "NaiveShake") -> int:
        mine, theirs = self.shake.person_hash, other.shake.person_hash
        return (keyed_hash(self.key, theirs) - keyed_hash(self.key, mine)) & _MASK

    def rank(self, other: "NaiveShake", band: int) -> tuple[int, int, int]:
        return (band, 0 if band == 2 else self.offset(other), other.position)


def pair_band(a: Shake, b: Shake) -> int | None:
    if a.reach == b.reach == ANYWHERE:
        return 2
    return cell_band(a.cell7, b.cell7)


def _may_meet(old: NaiveShake, new: NaiveShake) -> int | None:
    """The band in which two shakes may meet, else None."""
    a, b = old.shake, new.shake
    if a.person_hash == b.person_hash or a.adult != b.adult:
        return None
    if old.hive_ms + min(a.window_ms, b.window_ms) < new.hive_ms:
        return None
    band = pair_band(a, b)
    if band is None or a.person_hash in b.excluded or b.person_hash in a.excluded:
        return None
    return band


def _meet(newcomer: NaiveShake, around: list[NaiveShake]) -> None:
    me = newcomer.shake.person_hash
    free = [old for old in around if not old.superseded and (len(old.matches) < old.shake.limit or me in old.matches)]
    bands = [(old, band) for old in free if (band := _may_meet(old, newcomer)) is not None]
    ranked = sorted((newcomer.rank(old, band), old, band) for old, band in bands)
    for _, old, band in ranked[: newcomer.shake.limit]:
        newcomer.matches[old.shake.person_hash] = (old, band)
        old.matches[me] = (newcomer, band)


class Stream:
    """All shakes so far; ``around`` leaves out those too old or too far north or south, to save most of the time."""

    def __init__(self) -> None:
        self.shakes: list[NaiveShake] = []
        self._columns = np.zeros((3, 1024))  # hive time, latitude of the cell in metres, whether `anywhere`
        self._widest_ms = 0

    def append(self, newcomer: NaiveShake) -> None:
        count = len(self.shakes)
        if count == self._columns.shape[1]:
            self._columns = np.hstack((self._columns, np.zeros_like(self._columns)))
        self._columns[:, count] = self._row(newcomer)
        self._widest_ms = max(self._widest_ms, newcomer.shake.window_ms)
        self.shakes.append(newcomer)

    def around(self, newcomer: NaiveShake) -> list[NaiveShake]:
        hive_ms, north_m, anywhere = self._row(newcomer)
        times, norths_m, anywheres = self._columns[:, : len(self.shakes)]
        recent = times >= hive_ms - self._widest_ms
        near = np.abs(norths_m - north_m) < 5001
        return [self.shakes[at] for at in np.flatnonzero(recent & (near | (anywheres * anywhere > 0))).tolist()]

    def _row(self, shake: NaiveShake) -> tuple[float, float, bool]:
        return shake.hive_ms, EARTH_M * center(shake.shake.cell7)[0], shake.shake.reach == ANYWHERE


def replay_shakes(
    entries: Iterable[tuple[bytes, int]], epoch_key: Callable[[int], Key], epoch_ms: int, keep_ms: int = 600_000
) -> dict[int, NaiveShake]:
    """All shakes ever folded, by hash, from (payload, hive time of the entry) in stream order."""
    known: dict[int, NaiveShake] = {}
    last_of_person: dict[int, NaiveShake] = {}
    stream = Stream()
    now_ms = 0
    for payload, hive_ms in entries:
        now_ms = max(now_ms, hive_ms)
        key = epoch_key(now_ms // (3 * epoch_ms))
        for shake in unpack_shakes(payload):
            if shake.shake_hash in known and known[shake.shake_hash].hive_ms + keep_ms >= now_ms:
                continue
            newcomer = NaiveShake(shake, now_ms, len(stream.shakes), key)
            if shake.person_hash in last_of_person:
                last_of_person[shake.person_hash].superseded = True
            _meet(newcomer, stream.around(newcomer))
            known[shake.shake_hash] = last_of_person[shake.person_hash] = newcomer
            stream.append(newcomer)
    return known


def shown_matches(viewer: NaiveShake) -> list[tuple[str, int]]:
    """(person, band) in the order shown to the viewer."""
    held = sorted(viewer.matches.values(), key=lambda match: viewer.rank(*match))
    return [(other.shake.person, band) for other, band in held]


def replay(
    entries: Iterable[tuple[bytes, int]], epoch_key: Callable[[int], Key], epoch_ms: int, keep_ms: int = 600_000
) -> dict[int, list[tuple[str, int]]]:
    """What every shake reads at the end of the stream: shake hash -> [(person, band)] in the order shown."""
    known = replay_shakes(entries, epoch_key, epoch_ms, keep_ms)
    return {shake_hash: shown_matches(shake) for shake_hash, shake in known.items()}
