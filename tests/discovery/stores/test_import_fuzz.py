"""Files at random: each is read or refused, every row is kept or named, nothing throws or hangs, exports read back."""

import io
import json
import random
import re
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from discovery.errors import Invalid
from discovery.stores.changes import Difference, difference
from discovery.stores.exporting import csv_pieces, geojson_pieces
from discovery.stores.importers import MEDIA_TYPES, ImportedSet, read_stores
from discovery.stores.packing import pack, unpack
from tests.discovery.stores.files import CSV, GEOJSON, JSON
from tests.discovery.stores.fuzzing import CASES, within_a_second

fuzzed = settings(max_examples=CASES, suppress_health_check=list(HealthCheck))

COLUMN_NAMES = [
    *("store_id", "id", "name", "lat", "lon", "latitude", "lng", "address", "street", "housenumber", "address2"),
    *("city", "country", "postcode", "phone", "website", "opening_hours", "tz", "timezone", "services", "tags"),
    *("mon", "tue", "wed", "monday_open", "monday_close", "coordinates", "state", "wkt"),
]
COLUMNS = st.sampled_from(COLUMN_NAMES)
OF_A_WHOLE_ROW = re.compile(r"not CSV|\d+ fields, but|not a Feature|not an object")  # every other fault is of a field
ODD_CELLS = [
    *("", " ", "a", "b", "0", "-0.0", "48.85", "2.35", "91", "181", "1e400", "NaN", "48,85", "FR", "XX", "null"),
    *("9-5pm", "closed", "Mo-Fr 09:00-18:00", "24/7", "Mo-Su sunrise-sunset; PH off", "POINT(1 2)", "1, 2"),
    *("Europe/Paris", "GMT+1:00 Europe/Paris", "GMT+01:00 x", "nearest", "javascript:x", "www.a.example"),
    *("a;b", "k=v;w", '["a;b"]', '{"k": "v"}', "[", "{", '"', "'", "\ud83d", "\x00", "\r", "\n", "é" * 50),
]
CELLS = st.one_of(st.sampled_from(ODD_CELLS), st.text(max_size=20), st.floats().map(repr))


class JsonMaker:
    """Files at random by plain draws: as Hypothesis strategies so nested, one took 0.3 s to draw and 10 ms to read."""

    SHAPES: ClassVar[list[tuple[str, ...]]] = [
        ("properties", "geometry", "id", "type"),
        ("id", "lat", "lon", "tags", "center", "bounds", "type"),
        *(("@type", "geo", "latitude", "longitude", "address", "openingHours", "openingHoursSpecification", "name"),),
        *(("storeId", "location", "openingHours", "contact", "address", "types", "tags", "userProperties"),),
        *(
            (
                "addr:street",
                "addr:housenumber",
                "internet_access",
                "opening_hours",
                "name",
                "ref",
                "@spider",
                "takeaway",
            ),
        ),
        *(("minlat", "maxlat", "minlon", "maxlon", "lat", "lon", "lng", "latitude", "longitude", "coordinates"),),
        *(("streetAddress", "addressCountry", "postalCode", "lines", "countryCode", "city", "@graph", "item"),),
        ("usual", "special", "timezone", "1", "default", "start", "end", "opens", "closes", "dayOfWeek"),
        tuple(COLUMN_NAMES),
    ]
    KINDS: ClassVar[list[Any]] = ["Feature", "node", "way", "Store", "Point", "Polygon", None]

    def __init__(self, draw: random.Random) -> None:
        self.draw = draw

    def leaf(self) -> Any:
        draw = self.draw
        return draw.choice(
            [
                *(None, True, draw.randint(-200, 200), draw.uniform(-200, 200), 10 ** draw.randint(0, 400)),
                *(draw.choice(ODD_CELLS), draw.choice(ODD_CELLS), draw.choice([1e308, float("nan"), float("inf")])),
                "".join(
                    chr(draw.choice([draw.randrange(128), draw.randrange(0x11000)])) for _ in range(draw.randrange(9))
                ),
            ]
        )

    def value(self, depth: int) -> Any:
        draw, kind = self.draw, self.draw.random()
        if depth == 0 or kind < 0.35:
            return self.leaf()
        if kind < 0.5:
            return [self.value(depth - 1) for _ in range(draw.randrange(4))]
        if kind < 0.65:
            return self.geometry()
        return self.thing(draw.choice(self.SHAPES), depth)

    def thing(self, names: Sequence[str], depth: int) -> dict[str, Any]:
        names = self.draw.sample(names, self.draw.randrange(len(names) + 1))
        return {name: self.value(depth - 1) for name in names}

    def geometry(self) -> dict[str, Any]:
        kind = self.draw.choice(["Point", "MultiPoint", "LineString", "Polygon", "MultiPolygon"])
        return {"type": kind, "coordinates": self.positions(self.draw.randrange(5))}

    def positions(self, levels: int) -> Any:
        if levels == 0 or self.draw.random() < 0.1:
            return self.draw.choice([self.draw.uniform(-95, 95), self.draw.randint(-200, 200), self.leaf()])
        return [self.positions(levels - 1) for _ in range(self.draw.randrange(4) or 2)]

    def record(self) -> Any:
        made = self.thing(self.draw.choice(self.SHAPES), 3)
        kind = self.draw.choice(self.KINDS)
        if kind:
            made["@type" if kind == "Store" else "type"] = kind
        return made if self.draw.random() < 0.9 else self.value(3)


def read(content: bytes, kind: str) -> ImportedSet | None:
    """None: refused whole, with a reason. Anything else that is raised fails the test."""
    found, reason = None, None
    try:
        found = within_a_second(lambda: read_stores(kind, io.BytesIO(content), "Brand"))
    except Invalid as refused:
        reason = refused
    assert found is not None or (reason is not None and reason.detail and reason.field in ("body", "content-type"))
    return found


def check(found: ImportedSet, rows: int | None) -> None:
    """Every row is a store or named; what is kept is packed, exported and read back as it was."""
    rejected = found.findings.rejected
    assert len(found.stores) + len(rejected) == found.rows_read
    assert rows is None or found.rows_read <= rows
    assert len({finding.row for finding in rejected}) == len(rejected)
    for finding in (*rejected, *found.findings.warnings):
        assert finding.row >= 0
        assert finding.message
        assert finding.field or finding.row == 0 or OF_A_WHOLE_ROW.match(finding.message), finding
        json.dumps(finding.as_json()).encode()
    same = Difference(0, 0, 0, len(found.stores))
    assert difference(found.stores, unpack(pack(found.stores))) == same
    if len(found.stores):
        for pieces, kind in ((csv_pieces, CSV), (geojson_pieces, GEOJSON)):
            again = read_stores(kind, io.BytesIO(b"".join(pieces(found.stores))), "Brand")
            assert (again.findings.rejected, difference(found.stores, again.stores)) == ([], same)
    for row in range(len(found.stores)):
        found.stores.hours.state_at(int(found.stores.hours_rows[row]), 1_780_315_200_000)


@fuzzed
@given(st.lists(COLUMNS, min_size=1, max_size=9), st.lists(st.lists(CELLS, max_size=9), max_size=6), st.data())
def test_csv(header: list[str], rows: list[list[str]], data: st.DataObject) -> None:
    delimiter = data.draw(st.sampled_from(",;\t|"))
    encoding = data.draw(st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "cp1252"]))
    quoted = data.draw(st.booleans())
    lines = [[f'"{cell}"' if quoted and '"' not in cell else cell for cell in row] for row in rows]
    text = "\n".join(delimiter.join(line) for line in ([*header, "lat", "lon"], *lines))
    found = read(text.encode(encoding, "replace"), CSV)
    if found is not None:
        check(found, None)


@fuzzed
@given(st.randoms(use_true_random=True))
def test_json(draw: random.Random) -> None:
    make = JsonMaker(draw)
    found_records = [make.record() for _ in range(draw.randrange(6))]
    name = draw.choice(["features", "elements", "stores", "@graph"])
    for content in (found_records, {"type": "FeatureCollection", name: found_records}):
        for kind in (JSON, GEOJSON):
            found = read(json.dumps(content).encode(), kind)
            if found is not None:
                check(found, None)


@fuzzed
@given(st.binary(max_size=300), st.sampled_from(MEDIA_TYPES))
def test_bytes(content: bytes, kind: str) -> None:
    for begin in (b"", b"lat,lon,name\n", b'{"features": [', b"["):
        found = read(begin + content, kind)
        if found is not None:
            check(found, None)


GOOD: list[tuple[str, bytes]] = [
    (CSV, b'store_id,name,lat,lon,tz,services,tags,mon,tue\na,"A, b",48.8,2.3,Europe/Paris,x;y,k=v,9-17,closed\n'),
    (GEOJSON, b'{"type":"FeatureCollection","features":[{"type":"Feature","id":"a","properties":{"name":"\xc3\xa9"},'
              b'"geometry":{"type":"Point","coordinates":[2.3,48.8]}}]}'),
    (JSON, b'[{"@type":"Store","branchCode":"b","geo":{"latitude":1,"longitude":2},"openingHours":"Mo 09:00-12:00"}]'),
    (JSON, b'{"elements":[{"type":"node","id":1,"lat":1.5,"lon":2.5,"tags":{"name":"x","opening_hours":"24/7"}}]}'),
    (JSON, b'{"stores":[{"storeId":"s","location":{"lat":1,"lng":2},"openingHours":{"usual":{"1":[]}}}]}'),
]  # fmt: skip


@fuzzed
@given(st.sampled_from(GOOD), st.integers(0, 400), st.integers(0, 12), st.binary(max_size=6))
@example(GOOD[4], 2, 6, b"")  # a property without a name
def test_good_files_with_bytes_changed(good: tuple[str, bytes], place: int, removed: int, put: bytes) -> None:
    kind, content = good
    place %= len(content)
    found = read(content[:place] + put + content[place + removed :], kind)
    if found is not None:
        check(found, None)


def deep(opening: str, closing: str, times: int) -> bytes:
    return ('[{"lat": 1, "lon": 1, "tags": ' + opening * times + closing * times + "}]").encode()


MANY_POSITIONS = {"type": "Feature", "geometry": {"type": "MultiPoint", "coordinates": [[1, 1]] * 90_000}}
SLOW: dict[str, Callable[[], tuple[bytes, str]]] = {
    "deep arrays": lambda: (deep("[", "]", 100_000), JSON),
    "deep objects": lambda: (deep('{"a":', "}", 900), JSON),
    "graphs in graphs": lambda: (b'{"@graph":[' * 300 + b"]}" * 300, JSON),
    "a long string": lambda: (b'["' + b"a" * 5_000_000, JSON),
    "many quotes": lambda: (b"lat,lon\n" + b'"' * 1_000_000, CSV),
    "a long line": lambda: (b"lat,lon\n" + b"," * 1_000_000, CSV),
    "a long header": lambda: (b"lat," * 30_000, CSV),
    "many columns": lambda: (b",".join(b"mon%d" % n for n in range(20_000)) + b",lat,lon\n", CSV),
    "hours that go on": lambda: (b'lat,lon,mon,tue\n1,1,"' + b"9-17," * 700 + b'",x\n', CSV),
    "hours of dashes": lambda: (b'lat,lon,mon,tue\n1,1,"' + b"9 " * 1900 + b'",x\n', CSV),
    "spaces": lambda: (b" " * 5_000_000, JSON),
    "a number": lambda: (b"[" + b"9" * 900_000, JSON),
    "positions": lambda: (json.dumps([MANY_POSITIONS]).encode(), JSON),
}  # fmt: skip


@pytest.mark.parametrize("name", SLOW)
def test_nothing_takes_long(name: str) -> None:
    content, kind = SLOW[name]()
    found = read(content, kind)
    if found is not None:
        check(found, None)
