"""Every file of stores of the test data is imported, and the report says what is in it, row by row."""

import io
import json
from collections import Counter
from collections.abc import Iterator
from typing import Any
from zoneinfo import available_timezones

import pytest

from discovery.errors import Invalid
from discovery.stores.changes import Difference, difference
from discovery.stores.exporting import csv_pieces, geojson_pieces
from discovery.stores.hours import is_valid
from discovery.stores.importers import ImportedSet, read_stores
from tests.data.real import content, rows

pytestmark = pytest.mark.timeout(600)

STARBUCKS = "stores/starbucks_worldwide_2017.csv.gz"
CHAINS = "stores/us_chains_2024.csv.gz"
OSM = "stores/osm_poi_munich_isleofman.csv.gz"
BRANDS = "stores/nsi_brands.csv.gz"


def imported(name: str, header: tuple[str, str] = ("", "")) -> ImportedSet:
    """As CSV; in the header line the first text becomes the second."""
    first, _, rest = content(name).decode().partition("\n")
    return read_stores(
        "text/csv", io.BytesIO(f"{first.replace(*header) if header[0] else first}\n{rest}".encode()), "B"
    )


def lines(name: str) -> Iterator[tuple[int, dict[str, str]]]:
    """Rows with the line at which each starts."""
    line = 2
    for row in rows(name):
        yield line, row
        line += 1 + sum(value.count("\n") for value in row.values())


def found(of: ImportedSet, field: str | None, begins: str = "") -> list[int]:
    return [one.row for one in of.findings.warnings if one.field == field and one.message.startswith(begins)]


def shared(points: Iterator[tuple[int, tuple[float, float]]]) -> list[int]:
    """Rows at a point at which an earlier one is."""
    seen: set[tuple[float, float]] = set()
    again = []
    for line, point in points:
        if point in seen:
            again.append(line)
        seen.add(point)
    return again


def test_starbucks_with_derived_time_zones() -> None:
    whole = imported(STARBUCKS)
    assert (whole.rows_read, len(whole.stores), whole.findings.rejected) == (25_599, 25_599, [])
    assert found(whole, "lat", "the same point") == shared(
        (line, (float(row["lat"]), float(row["lon"]))) for line, row in lines(STARBUCKS)
    )
    assert len(found(whole, "lat", "the same point")) == 25_599 - 19_725
    assert found(whole, "name") == found(whole, "store_id") == []
    ignored = [one.field for one in whole.findings.warnings if one.row == 1]
    assert ignored == ["brand", "ownership", "state", "tz_raw"]


def test_starbucks_with_its_own_time_zones() -> None:
    """``tz_raw`` is 'GMT+08:00 Asia/Beijing' and the like: read where the name in it is one, else rejected."""
    dirty = imported(STARBUCKS, (",tz,tz_raw,", ",tz_derived,timezone,"))
    good = available_timezones()
    bad = [line for line, row in lines(STARBUCKS) if row["tz_raw"].split(" ")[-1] not in good]
    assert dirty.rows_read == 25_599 == len(dirty.stores) + len(bad)
    assert [(one.row, one.field) for one in dirty.findings.rejected] == [(line, "timezone") for line in bad]
    assert len(bad) > 2_731
    prefixed = [line for line, row in lines(STARBUCKS) if row["tz_raw"] not in good and line not in set(bad)]
    assert found(dirty, "timezone", "not an IANA time zone: ") == prefixed


def test_chains() -> None:
    """Ids repeat between brands: of each id the first is kept, the others are named."""
    whole = imported(CHAINS)
    assert whole.rows_read == 191_806 == len(whole.stores) + len(whole.findings.rejected)
    assert {one.field for one in whole.findings.rejected} == {"store_id"}
    assert found(whole, "name") == [line for line, row in lines(CHAINS) if not row["name"].strip()]
    abroad = Counter(one.message.rpartition(" ")[2] for one in whole.findings.warnings if one.field == "country")
    assert abroad.total() < 100  # Mexican towns on the border, Bahamian and Canadian shops filed under US
    assert abroad["MX"] > 10


def test_osm() -> None:
    whole = imported(OSM, ("osm_id", "store_id"))
    assert whole.rows_read == 10_456 == len(whole.stores) + len(whole.findings.rejected)
    assert found(whole, "opening_hours", "not opening hours") == [
        line for line, row in lines(OSM) if row["opening_hours"].strip() and not is_valid(row["opening_hours"].strip())
    ]
    assert len(whole.findings.rejected) == 10_456 - len({row["osm_id"] for row in rows(OSM)})


def test_brands_are_no_stores() -> None:
    with pytest.raises(Invalid, match="no column lat and no column lon in the header"):
        imported(BRANDS)


@pytest.mark.parametrize("name", [STARBUCKS, CHAINS, OSM])
def test_what_is_exported_is_imported_as_it_was(name: str) -> None:
    whole = imported(name)
    for pieces, kind in ((csv_pieces, "text/csv"), (geojson_pieces, "application/geo+json")):
        again = read_stores(kind, io.BytesIO(b"".join(pieces(whole.stores))), "B")
        assert again.findings.rejected == []
        assert difference(whole.stores, again.stores) == Difference(0, 0, 0, len(whole.stores))


def test_the_same_stores_in_other_shapes() -> None:
    """Munich as Overpass would send it, and as schema.org: the same points, names and hours."""
    elements: list[dict[str, Any]] = []
    things: list[dict[str, Any]] = []
    for number, row in enumerate(rows(OSM)):
        lat, lon = float(row["lat"]), float(row["lon"])
        tags = {name: row[name] for name in ("name", "brand", "phone", "opening_hours") if row[name]}
        elements.append(
            {"type": "node", "id": number, "lat": lat, "lon": lon, "tags": {"amenity": row["kind"], **tags}}
        )
        geo = {"@type": "GeoCoordinates", "latitude": lat, "longitude": lon}
        things.append({"@type": "Store", "branchCode": f"n{number}", "geo": geo, **_thing(row)})
    osm = read_stores("application/json", io.BytesIO(json.dumps({"elements": elements}).encode()), "B")
    schema = read_stores("application/ld+json", io.BytesIO(json.dumps({"@graph": things}).encode()), "B")
    assert osm.findings.rejected == schema.findings.rejected == []
    assert osm.rows_read == schema.rows_read == 10_456
    assert osm.stores.hours_rows.tolist() != []
    for place in range(len(osm.stores)):
        one, two = json.loads(osm.stores.cards[place]), json.loads(schema.stores.cards[place])
        assert [one[name] for name in SAME] == [two[name] for name in SAME]


SAME = ("store_id", "name", "phone", "opening_hours")


def _thing(row: dict[str, str]) -> dict[str, str]:
    names = {"telephone": row["phone"], "openingHours": row["opening_hours"], "name": row["name"] or row["brand"]}
    return {name: value for name, value in names.items() if value}
