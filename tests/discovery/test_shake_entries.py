"""Packing of the shake stream: what goes in comes out, everything else is refused by name."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from discovery.shake_entries import ANYWHERE, MAX_EXCLUDED, NEARBY, Shake, pack_shakes, unpack_shakes
from geo import cells

CELL = cells.cell_of(48.8584, 2.2945, 7)
SHAKE = Shake(1, "ada", 2, CELL, NEARBY, 10, True, 5000, (3, 4))

_u64 = st.integers(0, 2**64 - 1)
_shakes = st.builds(
    Shake,
    shake_hash=_u64,
    person=st.text(max_size=60),
    person_hash=_u64,
    cell7=st.builds(lambda lat, lon: cells.cell_of(lat, lon, 7), st.floats(-90, 90), st.floats(-180, 180)),
    reach=st.sampled_from((NEARBY, ANYWHERE)),
    limit=st.integers(1, 20),
    adult=st.booleans(),
    window_ms=st.integers(0, 60_000),
    excluded=st.sets(_u64, max_size=30).map(lambda values: tuple(sorted(values))),
)


@given(st.lists(_shakes, max_size=6))
def test_what_is_packed_is_unpacked(shakes: list[Shake]) -> None:
    assert unpack_shakes(pack_shakes(shakes)) == shakes


@given(st.lists(_shakes, min_size=1, max_size=3), st.data())
def test_every_cut_is_refused(shakes: list[Shake], data: st.DataObject) -> None:
    payload = pack_shakes(shakes)
    end = data.draw(st.integers(0, len(payload) - 1))
    with pytest.raises(ValueError, match="shake"):
        unpack_shakes(payload[:end])


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        (b"", "cut short"),
        (b"\x02" + pack_shakes([SHAKE])[1:], "version 2"),
        (pack_shakes([SHAKE]) + b"\0", "1 bytes too many"),
        (struct.pack("<BH", 1, 2) + pack_shakes([SHAKE])[3:], "cut short"),
    ],
)
def test_bad_payloads(payload: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        unpack_shakes(payload)


def test_a_byte_that_is_no_flag_is_refused_when_read() -> None:
    payload = bytearray(pack_shakes([SHAKE]))
    payload[3 + 8 + 8 + 8 + 4 + 2] = 2
    with pytest.raises(ValueError, match="adult flag"):
        unpack_shakes(bytes(payload))


def test_a_person_id_that_is_no_text_is_refused_when_read() -> None:
    with pytest.raises(ValueError, match="not UTF-8"):
        unpack_shakes(pack_shakes([SHAKE]).replace(b"ada", b"ad\xff"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"shake_hash": -1}, "shake_hash"),
        ({"person_hash": 2**64}, "person_hash"),
        ({"cell7": 2**64}, "cell7"),
        ({"cell7": 0}, "H3 cell of resolution 5 to 7"),
        ({"cell7": cells.cell_of(48.8584, 2.2945, 8)}, "H3 cell of resolution 5 to 7"),
        ({"reach": 2}, "reach"),
        ({"limit": 0}, "limit"),
        ({"limit": 21}, "limit"),
        ({"window_ms": -1}, "window"),
        ({"window_ms": 60_001}, "window"),
        ({"person": "é" * 128}, "256 bytes"),
        ({"excluded": (4, 3)}, "ascending"),
        ({"excluded": (3, 3)}, "ascending"),
        ({"excluded": (3, 2**64)}, "64-bit"),
        ({"excluded": tuple(range(MAX_EXCLUDED + 1))}, "at most 256"),
    ],
)
def test_values_out_of_range_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        pack_shakes([SHAKE._replace(**change)])  # type: ignore[arg-type]


def test_an_entry_holds_at_most_65535_shakes() -> None:
    with pytest.raises(ValueError, match="65535"):
        pack_shakes([SHAKE] * 65_536)
