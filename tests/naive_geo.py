"""Slow twins of the kernels under ``geo``."""

import math
from collections.abc import Sequence
from itertools import pairwise

import h3.api.basic_int as h3

EARTH_RADIUS_M = 6_371_008.8
CIRCLE = 1 << 64

Vector = tuple[float, float, float]


def vector(lat: float, lon: float) -> Vector:
    phi, lam = math.radians(lat), math.radians(lon)
    return math.cos(phi) * math.cos(lam), math.cos(phi) * math.sin(lam), math.sin(phi)


def distance_m(lat1: float, lon1: float, lat2: float, lon2: float) -> float:
    """Vincenty's formula on a sphere, exact for near and for opposite points; not the haversine of the product."""
    phi1, phi2, turn = math.radians(lat1), math.radians(lat2), math.radians(lon2 - lon1)
    across = math.cos(phi2) * math.sin(turn)
    along = math.cos(phi1) * math.sin(phi2) - math.sin(phi1) * math.cos(phi2) * math.cos(turn)
    cosine = math.sin(phi1) * math.sin(phi2) + math.cos(phi1) * math.cos(phi2) * math.cos(turn)
    return EARTH_RADIUS_M * math.atan2(math.hypot(across, along), cosine)


def destination(start: tuple[float, float], bearing_deg: float, distance: float) -> tuple[float, float]:
    """The point at a bearing and a distance in metres."""
    lat, lon = start
    phi, theta, delta = math.radians(lat), math.radians(bearing_deg), distance / EARTH_RADIUS_M
    sine = math.sin(phi) * math.cos(delta) + math.cos(phi) * math.sin(delta) * math.cos(theta)
    across = math.sin(theta) * math.sin(delta) * math.cos(phi)
    turn = math.atan2(across, math.cos(delta) - math.sin(phi) * sine)
    return math.degrees(math.asin(max(-1.0, min(1.0, sine)))), (lon + math.degrees(turn) + 180.0) % 360.0 - 180.0


def distance_to_ring_m(lat: float, lon: float, ring: Sequence[tuple[float, float]], parts: int = 2000) -> float:
    """Distance to many points of each side; too large by less than (side / parts)^2 / 8 / distance, and never too
    small."""
    nearest = math.inf
    for start, end in pairwise([*ring, ring[0]]):
        a, b = vector(*start), vector(*end)
        for i in range(parts + 1):
            x, y, z = (p + (q - p) * i / parts for p, q in zip(a, b, strict=True))
            at = math.degrees(math.atan2(z, math.hypot(x, y))), math.degrees(math.atan2(y, x))
            nearest = min(nearest, distance_m(lat, lon, *at))
    return nearest


def cells_of(lats: Sequence[float], lons: Sequence[float], resolution: int) -> list[int]:
    """h3's own, point by point."""
    return [h3.latlng_to_cell(lat, lon, resolution) for lat, lon in zip(lats, lons, strict=True)]


def centers(cells: Sequence[int]) -> list[tuple[float, float]]:
    """h3's own, cell by cell."""
    return [h3.cell_to_latlng(cell) for cell in cells]


def disk(cell: int, radius_m: float, rings: int) -> list[tuple[float, int]]:
    """Cells of the first ``rings`` rings with a centre within the radius, as sorted (distance, cell)."""
    middle = h3.cell_to_latlng(cell)
    every = [(distance_m(*middle, *h3.cell_to_latlng(other)), other) for other in h3.grid_disk(cell, rings)]
    return sorted(pair for pair in every if pair[0] < radius_m)


def siphash24(key: bytes, message: bytes) -> int:
    """SipHash-2-4 of a message of any length, as the paper defines it."""
    k0, k1 = int.from_bytes(key[:8], "little"), int.from_bytes(key[8:], "little")
    v = [k0 ^ 0x736F6D6570736575, k1 ^ 0x646F72616E646F6D, k0 ^ 0x6C7967656E657261, k1 ^ 0x7465646279746573]
    padded = message + bytes(7 - len(message) % 8) + bytes([len(message) % 256])
    for i in range(0, len(padded), 8):
        block = int.from_bytes(padded[i : i + 8], "little")
        v[3] ^= block
        sip_rounds(v, 2)
        v[0] ^= block
    v[2] ^= 0xFF
    sip_rounds(v, 4)
    return v[0] ^ v[1] ^ v[2] ^ v[3]


def sip_rounds(v: list[int], rounds: int) -> None:
    def rotate(value: int, bits: int) -> int:
        return (value << bits | value >> (64 - bits)) % CIRCLE

    for _ in range(rounds):
        v[0] = (v[0] + v[1]) % CIRCLE
        v[1] = rotate(v[1], 13) ^ v[0]
        v[0] = rotate(v[0], 32)
        v[2] = (v[2] + v[3]) % CIRCLE
        v[3] = rotate(v[3], 16) ^ v[2]
        v[0] = (v[0] + v[3]) % CIRCLE
        v[3] = rotate(v[3], 21) ^ v[0]
        v[2] = (v[2] + v[1]) % CIRCLE
        v[1] = rotate(v[1], 17) ^ v[2]
        v[2] = rotate(v[2], 32)


def crowd_order(
    members: Sequence[tuple[int, int, int]],
    bands: Sequence[Sequence[int]],
    viewer_key: int,
    shown: set[int],
) -> list[tuple[int, int, int]]:
    """Every shown member of the bands as (band, offset, slot), in the order of pages; members are (cell, key, slot)."""
    return sorted(
        (band, (key - viewer_key) % CIRCLE, slot)
        for band, cells in enumerate(bands)
        for cell, key, slot in members
        if cell in cells and slot in shown
    )


def nearest(
    vectors: Sequence[Vector],
    query: Vector,
    k: int,
    limits_m: tuple[float, float],
    masks: Sequence[int],
    required_mask: int,
    allowed: Sequence[bool] | None = None,
) -> list[tuple[int, float]]:
    """The k nearest as (row, distance), by (squared chord, row)."""
    found = []
    for row, (point, mask) in enumerate(zip(vectors, masks, strict=True)):
        dx, dy, dz = (p - q for p, q in zip(point, query, strict=True))
        chord2 = dx * dx + dy * dy + dz * dz
        distance = 2.0 * EARTH_RADIUS_M * math.asin(min(1.0, 0.5 * math.sqrt(chord2)))
        if allowed is not None and not allowed[row]:
            continue
        if limits_m[0] <= distance <= limits_m[1] and mask & required_mask == required_mask:
            found.append((chord2, row, distance))
    return [(row, distance) for _, row, distance in sorted(found)[:k]]


def morton_order(lats: Sequence[float], lons: Sequence[float], axis_bits: int = 22) -> list[int]:
    """Numbers of points along a Morton curve: bits of the latitude before bits of the longitude, ties by number."""

    def bits(value: float, size: float) -> str:
        cell = min(int((value + size / 2) / size * 2**axis_bits), 2**axis_bits - 1)
        return f"{cell:0{axis_bits}b}"

    words = [
        "".join(map("".join, zip(bits(lat, 180.0), bits(lon, 360.0), strict=True)))
        for lat, lon in zip(lats, lons, strict=True)
    ]
    return sorted(range(len(words)), key=lambda i: (words[i], i))


def tree_spans(n: int, leaves: int) -> dict[int, tuple[int, int]]:
    """Positions [low, high) of every node of the kd-tree, by halving its parent's share."""
    spans = {}
    for node in range(1, 2 * leaves):
        level = 1 << (node.bit_length() - 1)
        spans[node] = (n * (node - level) // level, n * (node - level + 1) // level)
    return spans


def number_texts(known: dict[str, int], texts: Sequence[str], *, add: bool) -> list[int]:
    """The number of each, in the order in which they first came; who is not known gets the next, or -1."""
    if add:
        for text in texts:
            known.setdefault(text, len(known))
    return [known.get(text, -1) for text in texts]
