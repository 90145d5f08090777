"""One entry of the shake stream: a few shakes packed together, each with all that the fold needs.

Layout, little endian, no padding: version u8, number of shakes u16, then for each shake: shake_hash u64,
person_hash u64, cell7 u64, window_ms u32, reach u8, limit u8, adult u8, bytes of the person id u8, number of excluded
u16, the person id in UTF-8, the excluded hashes as u64. Blocks travel inside the entry because two workers that looked
them up at different moments would match differently for ever.
"""

import struct
from collections.abc import Sequence
from operator import lt
from typing import Final, NamedTuple

from geo import cells
from geo.mixed_bands import BANDS_M

NEARBY: Final = 0
ANYWHERE: Final = 1
MAX_LIMIT: Final = 20
MAX_EXCLUDED: Final = 256
MAX_WINDOW_MS: Final = 60_000
VERSION: Final = 1

_HEADER = struct.Struct("<BH")
_FIXED = struct.Struct("<QQQIBBBBH")
_U64_END = 1 << 64


class Shake(NamedTuple):
    """One shake as it is written.

    ``shake_hash`` is the first eight bytes of the shake id; ``person_hash`` a keyed hash of the human (two accounts of
    one human share it and never match); ``cell7`` the shake cell, of resolution 7, or of 6 or 5 where few people live;
    ``reach`` ``NEARBY`` or ``ANYWHERE``; ``excluded`` the strictly ascending ``person_hash`` of everybody this one must
    not meet, at most 256.
    """

    shake_hash: int
    person: str
    person_hash: int
    cell7: int
    reach: int
    limit: int
    adult: bool
    window_ms: int
    excluded: tuple[int, ...]


def pack_shakes(shakes: Sequence[Shake]) -> bytes:
    """Bytes of one stream entry. Raises ``ValueError`` for a value outside its range or more than 65,535 shakes."""
    if len(shakes) > 0xFFFF:
        raise ValueError(f"a shake entry holds at most 65535 shakes, not {len(shakes)}")
    return _HEADER.pack(VERSION, len(shakes)) + b"".join(_pack_one(shake) for shake in shakes)


def unpack_shakes(payload: bytes) -> list[Shake]:
    """The shakes of one entry, in order. Raises ``ValueError`` for another version, a cut, a value out of its range."""
    if len(payload) < _HEADER.size:
        raise ValueError("shake entry is cut short")
    version, count = _HEADER.unpack_from(payload)
    if version != VERSION:
        raise ValueError(f"shake entry has version {version}, this program reads {VERSION}")
    shakes = []
    at = _HEADER.size
    for _ in range(count):
        shake, at = _unpack_one(payload, at)
        shakes.append(shake)
    if at != len(payload):
        raise ValueError(f"shake entry has {len(payload) - at} bytes too many")
    return shakes


def _pack_one(shake: Shake) -> bytes:
    _check(shake)
    person = shake.person.encode()
    if len(person) > 0xFF:
        raise ValueError(f"person id takes {len(person)} bytes, at most 255 fit")
    fixed = _FIXED.pack(
        shake.shake_hash,
        shake.person_hash,
        shake.cell7,
        shake.window_ms,
        shake.reach,
        shake.limit,
        shake.adult,
        len(person),
        len(shake.excluded),
    )
    return fixed + person + struct.pack(f"<{len(shake.excluded)}Q", *shake.excluded)


def _unpack_one(payload: bytes, at: int) -> tuple[Shake, int]:
    if at + _FIXED.size > len(payload):
        raise ValueError("shake entry is cut short")
    *hashes, window_ms, reach, limit, adult, person_bytes, excluded_count = _FIXED.unpack_from(payload, at)
    person_at = at + _FIXED.size
    excluded_at = person_at + person_bytes
    end = excluded_at + 8 * excluded_count
    if end > len(payload):
        raise ValueError("shake entry is cut short")
    if adult > 1:
        raise ValueError(f"shake adult flag must be 0 or 1, not {adult}")
    shake_hash, person_hash, cell7 = hashes
    person = _decode(payload[person_at:excluded_at])
    excluded = struct.unpack_from(f"<{excluded_count}Q", payload, excluded_at)
    shake = Shake(shake_hash, person, person_hash, cell7, reach, limit, adult == 1, window_ms, excluded)
    _check(shake)
    return shake, end


def _decode(person: bytes) -> str:
    try:
        return person.decode()
    except UnicodeDecodeError:
        raise ValueError("shake person id is not UTF-8") from None


def _check(shake: Shake) -> None:
    for name, value in (("shake_hash", shake.shake_hash), ("person_hash", shake.person_hash), ("cell7", shake.cell7)):
        if not 0 <= value < _U64_END:
            raise ValueError(f"shake {name} must be an unsigned 64-bit number, not {value}")
    if not cells.is_cell(shake.cell7) or cells.resolution_of(shake.cell7) not in BANDS_M:
        raise ValueError(f"shake cell must be an H3 cell of resolution 5 to 7, not {shake.cell7:x}")
    if shake.reach not in (NEARBY, ANYWHERE):
        raise ValueError(f"shake reach must be 0 or 1, not {shake.reach}")
    if not 1 <= shake.limit <= MAX_LIMIT:
        raise ValueError(f"shake limit must be 1 to {MAX_LIMIT}, not {shake.limit}")
    if not 0 <= shake.window_ms <= MAX_WINDOW_MS:
        raise ValueError(f"shake window must be 0 to {MAX_WINDOW_MS} ms, not {shake.window_ms}")
    _check_excluded(shake.excluded)


def _check_excluded(excluded: tuple[int, ...]) -> None:
    if len(excluded) > MAX_EXCLUDED:
        raise ValueError(f"a shake excludes at most {MAX_EXCLUDED} people, not {len(excluded)}")
    if not all(map(lt, excluded, excluded[1:])):
        raise ValueError("excluded hashes must be strictly ascending")
    if excluded and not 0 <= excluded[0] <= excluded[-1] < _U64_END:
        raise ValueError("excluded hashes must be unsigned 64-bit numbers")
