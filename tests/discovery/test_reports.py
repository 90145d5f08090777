"""Report batches: what is packed comes out again, and nothing else is read."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from discovery.reports import VERSION, Report, ReportBatch, pack, unpack

ID_FIRST = "ABCxyz019"
IDS = st.builds("".join, st.tuples(st.sampled_from(ID_FIRST), st.text(ID_FIRST + "._:@|=+-", max_size=127)))
REPORTS = st.lists(
    st.builds(
        Report,
        IDS | st.text(max_size=60),
        st.integers(0, 2**64 - 1),
        st.integers(-(2**63), 2**63 - 1),
        st.integers(0, 255),
    ),
    max_size=20,
)
SOME = [Report("ann", 0x881FB46601FFFFF, 1_800_000_000_000, 7), Report("bob", 5, 0, 0), Report("né", 6, -1, 255)]


def rows(batch: ReportBatch) -> list[Report]:
    columns = (batch.users, batch.cells.tolist(), batch.expiries_ms.tolist(), batch.flags.tolist())
    return [Report(user, cell, expiry, flags) for user, cell, expiry, flags in zip(*columns, strict=True)]


@given(REPORTS)
def test_what_is_packed_comes_out(reports: list[Report]) -> None:
    batch = unpack(pack(reports))
    assert rows(batch) == reports
    kinds = [str(column.dtype) for column in (batch.cells, batch.expiries_ms, batch.flags)]
    assert kinds == ["uint64", "int64", "uint8"]


def test_the_layout_is_that_of_the_docstring() -> None:
    """Other programs of other versions read these bytes."""
    packed = pack([Report("ann", 0x0102030405060708, -2, 5), Report("b", 1, 0, 0)])
    assert packed == (
        struct.pack("<BI", VERSION, 2)
        + struct.pack("<QQ", 0x0102030405060708, 1)
        + struct.pack("<qq", -2, 0)
        + bytes([5, 0, 3, 1])
        + b"annb"
    )


@pytest.mark.parametrize("version", [0, 2, 255])
def test_another_version_is_named(version: int) -> None:
    with pytest.raises(ValueError, match=f"version {version}, expected {VERSION}"):
        unpack(bytes([version]) + pack(SOME)[1:])


def test_every_cut_is_refused() -> None:
    packed = pack(SOME)
    for length in range(len(packed)):
        with pytest.raises(ValueError, match=r"\w"):
            unpack(packed[:length])


@given(st.binary(min_size=1, max_size=40))
def test_bytes_too_many_are_refused(more: bytes) -> None:
    with pytest.raises(ValueError, match="expected"):
        unpack(pack(SOME) + more)


@given(st.binary(max_size=80))
def test_any_bytes_are_a_batch_or_a_value_error(payload: bytes) -> None:
    try:
        batch = unpack(bytes([VERSION]) + payload)
    except ValueError:
        return
    assert pack(rows(batch)) == bytes([VERSION]) + payload


def test_an_id_that_is_too_long_for_its_length_byte_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\w"):
        pack([Report("x" * 256, 1, 1, 0)])
