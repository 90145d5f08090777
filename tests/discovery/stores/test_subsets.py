"""Subsets of a set that are kept: the same for the same question, another for any other, bounded."""

import io
from itertools import pairwise

import pytest

from discovery.stores import finder
from discovery.stores.catalogue import Brand, Catalogue
from discovery.stores.filters import Filter, filter_of
from discovery.stores.importers import read_stores
from discovery.stores.question import Question, Wanted
from discovery.stores.store_set import StoreSet

MONDAY_MS = 1_795_392_000_000  # 2026-11-23T00:00Z
HOUR_MS = 3_600_000


def opened_at(hour: int, count: int = 200, first: str = "a") -> StoreSet:
    """A set whose stores open one after the other, some every minute of the hour; services beyond r73 are rare ones."""
    lines = ["store_id,name,lat,lon,opening_hours,timezone,services,tags"]
    for n in range(count):
        rare = f";r{n}" if n < 80 else ""
        lines.append(f"{first}{n:04d},{first},0,{n / 100},Mo-Su {hour:02d}:{n % 60:02d}-23:00,UTC,all{rare},n={n % 7}")
    stores = read_stores("text/csv", io.BytesIO("\n".join(lines).encode()), "B").stores
    stores.windows.renew(MONDAY_MS)
    return stores


def asked(at_ms: int, services: tuple[str, ...] = ()) -> Question:
    return Question(0.0, 0.0, at_ms, limit=100, only_open=True, services=services)


def kept(stores: StoreSet, question: Question) -> Filter:
    found = finder.filter_of_anywhere(stores, question)
    assert found is not None
    assert found.subset is not None
    return found


def test_kept_until_a_store_opens_and_for_common_services_alike() -> None:
    stores = opened_at(9)
    nine_ms = MONDAY_MS + 9 * HOUR_MS
    first = kept(stores, asked(nine_ms))
    assert kept(stores, asked(nine_ms + 59_000)).subset is first.subset
    assert kept(stores, asked(nine_ms, services=("all",))) == Filter(1, first.subset)
    assert first.subset is not None
    assert first.subset.places() is first.subset.places()
    counts = []
    for minute in range(10):
        found = finder.nearest(stores, asked(nine_ms + minute * 60_000))
        counts.append(len(found))
        assert all(hit.open.state == "open" for hit in found)
    assert all(later > before for before, later in pairwise(counts))
    assert kept(stores, asked(nine_ms + 60_000)).subset is not first.subset


@pytest.mark.parametrize(
    "wanted",
    [
        Wanted(services=("r8",)),
        Wanted(tags=(("n", "3"),)),
        Wanted(tags=(("n", None),)),
        Wanted(words=("a",)),
        Wanted(without_services=("r8",)),
        Wanted(without_tags=(("n", "3"),)),
    ],
)
def test_another_question_has_another(wanted: Wanted) -> None:
    stores = opened_at(9)
    found, again, other = (
        fit.subset for one in (wanted, wanted, Wanted(services=("r9",))) if (fit := filter_of(stores, one)) is not None
    )
    assert found is not None
    assert found is again is not other


def test_another_set_and_another_brand_have_their_own() -> None:
    catalogue, at_ms = Catalogue(), MONDAY_MS + 12 * HOUR_MS
    sets = {"one": opened_at(9, first="a"), "two": opened_at(9, first="b")}
    for name, stores in sets.items():
        catalogue.put(Brand(name, name, None, {}, 1, 1, stores))
    for name, letter in (("one", "a"), ("two", "b"), ("one", "a")):
        answer = finder.answer(catalogue.brand(name).stores, asked(at_ms, services=("r5",)))
        assert b'"id":"%b0005"' % letter.encode() in answer
        assert answer.count(b'"Feature"') == 1
    catalogue.put(Brand("one", "one", None, {}, 2, 1, opened_at(9, 5, first="c")))
    found = finder.answer(catalogue.brand("one").stores, asked(at_ms, services=("r3",)))
    assert (found.count(b'"Feature"'), found.count(b'"id":"c0003"')) == (1, 1)


def test_no_more_than_so_many_are_kept() -> None:
    stores = opened_at(9)
    for minute in range(60):
        for name in ("r8", "r9"):
            kept(stores, asked(MONDAY_MS + 9 * HOUR_MS + minute * 60_000, services=(name,)))
    assert len(stores.subsets) == 32
