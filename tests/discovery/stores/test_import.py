"""Files of stores: what a good one gives, and for each bad one the message."""

import hashlib
import io
import json
from typing import Any

import orjson
import pytest

from discovery.errors import Invalid
from discovery.stores.importers import ImportedSet, read_stores
from discovery.stores.rows import Finding

CSV = "text/csv"
GEOJSON = "application/geo+json"


def read(text: str | bytes, kind: str = CSV) -> ImportedSet:
    return read_stores(kind, io.BytesIO(text if isinstance(text, bytes) else text.encode()), "Café du Coin")


def card(imported: ImportedSet, store_id: str) -> dict[str, Any]:
    row = imported.stores.row_of(store_id)
    assert row is not None
    found: dict[str, Any] = orjson.loads(imported.stores.cards[row])
    return found


def collection(*features: object) -> str:
    return json.dumps({"type": "FeatureCollection", "features": features})


def point(lon: object = 2.35, lat: object = 48.85, **more: object) -> dict[str, object]:
    geometry = {"type": "Point", "coordinates": [lon, lat]}
    return {"type": "Feature", "id": "a", "geometry": geometry, "properties": {"name": "A"}} | more


# --- CSV that is fine ---


def test_a_full_row() -> None:
    imported = read(
        "\ufeffstore_id,Name,LAT,lon,address,city,country,postcode,phone,website,opening_hours,tz,services,tags\r\n"
        'p1,"Le ""Petit"", Café",48.85,2.35,1 rue A,Paris,fr,75001,+33 1,https://a.example,Mo-Fr 09:00-18:00,'
        "Europe/Paris, wifi ;parking;wifi,price=low; style = art deco=yes\r\n"
    )
    assert imported.findings.rejected == imported.findings.warnings == []
    assert card(imported, "p1") == {
        "store_id": "p1",
        "name": 'Le "Petit", Café',
        "address": "1 rue A",
        "city": "Paris",
        "country": "FR",
        "postcode": "75001",
        "phone": "+33 1",
        "website": "https://a.example",
        "opening_hours": "Mo-Fr 09:00-18:00",
        "timezone": "Europe/Paris",
        "services": ["wifi", "parking"],
        "tags": {"price": "low", "style": "art deco=yes"},
    }
    assert (imported.stores.lats[0], imported.stores.lons[0]) == (48.85, 2.35)


def test_rows_are_sorted_and_absent_fields_null() -> None:
    imported = read("store_id,name,lat,lon\nb,B,1,1\na,A,2,2\nC,C,3,3\n")
    assert [imported.stores.ids[row] for row in range(3)] == [b"C", b"a", b"b"]
    assert imported.stores.lats.tolist() == [3.0, 2.0, 1.0]
    assert card(imported, "a")["phone"] is None
    assert card(imported, "a")["services"] == []


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_row_numbers_are_lines_also_after_quoted_ones_and_empty_lines(newline: str) -> None:
    lines = ["store_id,name,lat,lon", 'a,"two', 'lines",1,1', "", "b,B,north,1", 'c,"more', 'lines",95,1', "d,D,1,1"]
    imported = read(newline.join(lines))
    assert imported.findings.rejected == [
        Finding(5, "lat", "not a number of degrees such as 48.8566"),
        Finding(6, "lat", "outside -90..90: are lat and lon swapped?"),
    ]
    assert imported.rows_read == 4
    assert len(imported.stores) == 2


def test_missing_id_and_name() -> None:
    imported = read("store_id,name,address,city,postcode,lat,lon\n,, 1 Main St ,Reno,NV 1,39.50,-119.8\n")
    content = "\x1f".join(["", " 1 Main St ", "Reno", "NV 1", "39.50", "-119.8"])  # raw, as in the file
    store_id = "x-" + hashlib.sha256(content.encode()).hexdigest()[:16]
    assert card(imported, store_id)["name"] == "Café du Coin"
    assert card(imported, store_id)["address"] == "1 Main St"
    assert imported.findings.warnings == [
        Finding(2, "store_id", "missing: made from the row's content"),
        Finding(2, "name", "missing: the brand's name is used"),
    ]


@pytest.mark.parametrize(
    ("given", "used"),
    [("#57", "x-57"), ("a b/c", "a-b-c"), ("Zürich", "Z-rich"), ("_1", "x_1"), ("a" * 128, "a" * 128), ("7", "7")],
)
def test_unfit_characters_of_ids(given: str, used: str) -> None:
    imported = read(f"store_id,name,lat,lon\n{given},A,1,1\n")
    assert card(imported, used)["store_id"] == used
    expected = [] if given == used else [Finding(2, "store_id", f"unfit characters: {used!r} is used")]
    assert imported.findings.warnings == expected


REJECTED = [
    ("a,A,,1,", "lat", "missing"),
    ("a,A,1,,", "lon", "missing"),
    ("a,A,NaN,1,", "lat", "not a number of degrees such as 48.8566"),
    ("a,A,inf,1,", "lat", "not a number of degrees such as 48.8566"),
    ("a,A,1_0,1,", "lat", "not a number of degrees such as 48.8566"),
    ("a,A,٣,1,", "lat", "not a number of degrees such as 48.8566"),
    ('a,A,"48,85",1,', "lat", "not a number of degrees such as 48.8566"),
    ("a,A,90.0001,1,", "lat", "outside -90..90: are lat and lon swapped?"),
    ("a,A,90.0001,91,", "lat", "outside -90..90"),
    ("a,A,181,1,", "lat", "outside -90..90"),
    ("a,A,1,-180.1,", "lon", "outside -180..180"),
    ("a,A,1,1e999,", "lon", "outside -180..180"),
    ("ok,A,1,1,", "store_id", "'ok' is already in this file"),
    ("nearest,A,1,1,", "store_id", "'nearest' is reserved"),
    ("a" * 129 + ",A,1,1,", "store_id", "longer than 128 characters"),
    ("a,A,1,1,Mars/Base", "timezone", "not an IANA time zone such as Europe/Paris"),
    ("a,A,1,1,europe/paris", "timezone", "not an IANA time zone such as Europe/Paris"),
    ("a," + "A" * 4001 + ",1,1,", "name", "longer than 4000 characters"),
    ("a,A,1,1", None, "4 fields, but the header has 5"),
    ("a,A,1,1,,", None, "6 fields, but the header has 5"),
    ('a,"A"x,1,1,', None, "not CSV (',' expected after '\"')"),
    ('a,"A,1,1,', None, "not CSV (unexpected end of data)"),
    ("a," + "A" * 140_000 + ",1,1,", None, "not CSV (field larger than field limit (131072))"),
]


@pytest.mark.parametrize(("line", "field", "message"), REJECTED)
def test_rejected_rows(line: str, field: str | None, message: str) -> None:
    imported = read(f"store_id,name,lat,lon,timezone\nok,OK,5,5,\n{line}\n")
    assert imported.findings.rejected == [Finding(3, field, message)]
    assert (imported.rows_read, len(imported.stores)) == (2, 1)


WARNED = [
    ("opening_hours", "whenever", "not opening hours in OSM syntax: the state will be unknown", "whenever"),
    ("country", "France", "not an ISO 3166-1 alpha-2 code such as FR", "France"),
    ("website", "javascript:alert(1)", "not an http or https address: left out", None),
    ("website", "www.a.example", "no scheme: https:// is put before it", "https://www.a.example"),
    ("tags", "a=1;b", "an item is not of the form key=value: left out", {"a": "1"}),
]


@pytest.mark.parametrize(("field", "given", "message", "kept"), WARNED)
def test_oddities_warn(field: str, given: str, message: str, kept: object) -> None:
    imported = read(f"store_id,name,lat,lon,{field}\na,A,5,5,{given}\n")
    assert imported.findings.warnings == [Finding(2, field, message)]
    assert card(imported, "a")[field] == kept


def test_null_island_warns() -> None:
    assert read("store_id,name,lat,lon\na,A,-0.0,0\n").findings.warnings == [
        Finding(2, "lat", "0, 0 is in the Gulf of Guinea: is the point missing?")
    ]


def test_ignored_columns_warn_once_each() -> None:
    imported = read("store_id,name,lat,lon,state,,zone\na,A,1,1,x,y,z\nb,B,1,2,x,y,z\n")
    assert imported.findings.warnings == [
        Finding(1, name, "not a field of a store: ignored") for name in ("state", "column 6", "zone")
    ]


# --- files that are refused ---

REFUSED_CSV = [
    (b"", "the file is empty: it needs a header line with at least lat and lon"),
    (b"\xef\xbb\xbf", "the file is empty: it needs a header line with at least lat and lon"),
    (b"\n\n", "the file is empty: it needs a header line with at least lat and lon"),
    (b"store_id,name,lat,lon\n", "the file has no stores"),
    (b"store_id,name\na,A\n", "no column lat and no column lon in the header"),
    (b"store_id,lat,name\na,1,A\n", "no column lon in the header"),
    (b"lat,lon,Lat\n1,1,1\n", "the header has two columns for lat"),
    (b'lat,lon,"name\n1,1,A\n', "line 2: the header is not CSV (unexpected end of data)"),
    (b"PK\x03\x04\xff", "the file is a zip archive, or a workbook of Excel or LibreOffice: save it as CSV"),
    (b"\x1f\x8b\x08\x00", "the file is packed by gzip: unpack it (`nearhive stores import` does)"),
    (b"lat,lon,name\n1,1,\0\0\0\n", "the file is not a text: it has zero bytes"),
    (b"\xef\xbb\xbflat,lon,name\n1,1,\xff\n", "the file is not UTF-8: byte 0xff at offset 20"),
    (b"\xff\xfel\0a\0t\0,\0l", "the file is not UTF-16-LE: byte 0x6c at offset 10"),
]


@pytest.mark.parametrize(("data", "message"), REFUSED_CSV)
def test_refused_csv(data: bytes, message: str) -> None:
    with pytest.raises(Invalid) as refused:
        read(data)
    assert refused.value.detail == message


REFUSED_GEOJSON = [
    ("", "not a JSON file: the file is empty (near character 0)"),
    ("lat,lon\n1,1", "not a JSON file: not a JSON object (near character 0)"),
    ("[]", "not a JSON file: not a JSON object (near character 0)"),
    ('{"type": "Feature"}', "the file is not a GeoJSON FeatureCollection: its type is another, or missing"),
    ('{"features": []}', "the file is not a GeoJSON FeatureCollection: its type is another, or missing"),
    ('{"type": "FeatureCollection"}', "the FeatureCollection has no features"),
    ('{"type": "FeatureCollection", "features": {}}', "the member features is not an array"),
    (collection(), "the file has no stores"),
    (collection(point(lat=float("nan"))), "not a JSON file: NaN is not a JSON value"),
    (collection(point())[:-1], "not a JSON file: ',' or '}' expected (near character 164)"),
    (collection(point())[:-10], "not a JSON file: Unterminated string starting at (near character 43)"),
    (collection(point()) + "x", "not a JSON file: text after the end of the collection (near character 165)"),
    ('{"type": "FeatureCollection", "features": [1,]}', "not a JSON file: a comma before ']' (near character 45)"),
    ('{"type": "FeatureCollection", "features": [1 2]}', "not a JSON file: ',' or ']' expected (near character 45)"),
    ("{1: 2}", "not a JSON file: a member without a name (near character 2)"),
    ('{"a" 1}', "not a JSON file: ':' expected (near character 5)"),
    ('{"a": ' + "9" * 5000 + "}", "not a JSON file: a value that cannot be read (near character 6)"),
    ('{"a": ' + "[" * 100_000, "not a JSON file: nested too deeply (near character 6)"),
]


@pytest.mark.parametrize(("text", "message"), REFUSED_GEOJSON, ids=range(len(REFUSED_GEOJSON)))
def test_refused_geojson(text: str, message: str) -> None:
    with pytest.raises(Invalid) as refused:
        read(text, GEOJSON)
    assert refused.value.detail == message


def test_geojson_that_is_not_utf8() -> None:
    with pytest.raises(Invalid, match="not UTF-8: byte 0xe9 at offset 12"):
        read(b'{"type": "Fe\xe9"}', GEOJSON)


def test_one_value_may_not_fill_the_memory() -> None:
    huge = point(properties={"name": "A" * 2_000_000})
    with pytest.raises(Invalid, match="not a JSON file: Unterminated string"):
        read(collection(huge), GEOJSON)


@pytest.mark.parametrize("kind", ["text/html", "", "application/xml"])
def test_other_media_types(kind: str) -> None:
    with pytest.raises(Invalid, match="media type must be one of: text/csv, application/geo\\+json"):
        read("lat,lon\n1,1", kind)


def test_charset_of_the_media_type() -> None:
    assert len(read("lat,lon,name\n1,1,A\n", 'Text/CSV; charset="UTF-8"').stores) == 1
    assert card(read(b"id,lat,lon,name\na,1,1,\xa4\n", "text/csv; charset=ISO-8859-15"), "a")["name"] == "€"
    with pytest.raises(Invalid, match="the file is not UTF-8: byte 0xa4 at offset 22"):
        read(b"id,lat,lon,name\na,1,1,\xa4\n", "text/csv; charset=utf-8")
    for nonsense in ("klingon", "base64", "\0"):
        with pytest.raises(Invalid, match="no such charset"):
            read("lat,lon\n1,1\n", f"text/csv; charset={nonsense}")


# --- GeoJSON that is fine, or has unfit features ---


def test_a_full_feature() -> None:
    properties = {
        "name": "A",
        "postcode": 75001,
        "services": ["wifi", " wifi", "a;b"],
        "tags": {"k": "v;w", "n": 1},
        "tz": "Europe/Paris",
        "phone": None,
    }
    imported = read(collection(point(id=7, properties=properties)), GEOJSON)
    assert imported.findings.rejected == imported.findings.warnings == []
    found = card(imported, "7")
    assert found["postcode"] == "75001"
    assert found["services"] == ["wifi", "a;b"]
    assert found["tags"] == {"k": "v;w", "n": "1"}
    assert found["timezone"] == "Europe/Paris"


def test_store_id_may_stand_in_the_properties_and_altitude_is_dropped() -> None:
    feature = {
        "type": "Feature",
        "geometry": {"type": "Point", "coordinates": [180, -90, 12.5]},
        "properties": {"store_id": "s", "name": "A"},
    }
    imported = read(collection(feature), GEOJSON)
    assert json.loads(imported.stores.feature(0))["geometry"] == {"type": "Point", "coordinates": [180.0, -90.0]}
    assert imported.stores.row_of("s") == 0


REJECTED_FEATURES: list[tuple[object, str | None, str]] = [
    (1, None, "not a Feature"),
    ({"type": "Point"}, None, "not a Feature"),
    (point(properties=[]), "properties", "not an object"),
    (point(geometry=None), "geometry", "not a Point"),
    (point(geometry={"type": "Polyhedron", "coordinates": []}), "geometry", "not a Point"),
    (
        point(geometry={"type": "MultiPoint", "coordinates": []}),
        "geometry",
        "coordinates are not [longitude, latitude]",
    ),
    (point(geometry={"type": "Polygon", "coordinates": 1}), "geometry", "coordinates are not [longitude, latitude]"),
    (point(geometry={"type": "Point", "coordinates": [1]}), "geometry", "coordinates are not [longitude, latitude]"),
    (point(geometry={"type": "Point", "coordinates": "1,2"}), "geometry", "coordinates are not [longitude, latitude]"),
    (point(lat="48.85"), "lat", "not a number of degrees such as 48.8566"),
    (point(lat=True), "lat", "not a number of degrees such as 48.8566"),
    (point(lat=None), "lat", "not a number of degrees such as 48.8566"),
    (point(lat=91), "lat", "outside -90..90: are lat and lon swapped?"),
    (point(lon=10**400), "lon", "outside -180..180"),
    (point(id=1.5), "id", "not a text"),
    (point(properties={"name": {}}), "name", "not a text"),
    (point(properties={"name": "\ud800"}), "name", "not valid Unicode (half of a surrogate pair)"),
    (point(properties={"services": [["a"]]}), "services", "not a text"),
    (point(properties={"tags": {"a": {}}}), "tags", "not a text"),
    (point(id="ok"), "store_id", "'ok' is already in this file"),
]


@pytest.mark.parametrize(("feature", "field", "message"), REJECTED_FEATURES, ids=range(len(REJECTED_FEATURES)))
def test_rejected_features(feature: object, field: str | None, message: str) -> None:
    imported = read(collection(point(id="ok"), feature), GEOJSON)
    assert imported.findings.rejected == [Finding(2, field, message)]
    assert (imported.rows_read, len(imported.stores)) == (2, 1)


def test_ignored_properties_warn_once() -> None:
    features = [point(i, id=str(i), properties={"name": "A", "lat": 1, "colour": "red"}) for i in range(3)]
    imported = read(collection(*features), GEOJSON)
    assert sorted(imported.findings.warnings) == [
        Finding(1, name, "not a property of a store: ignored, here and in later features") for name in ("colour", "lat")
    ]


def test_a_long_file_in_any_layout() -> None:
    """Features larger and smaller than the window of the reader; other members around; ``type`` at the end."""
    features = [point(id=str(i), properties={"name": "é" * (i % 4000)}) for i in range(600)]
    for indent in (None, 2):
        text = json.dumps({"bbox": [1, 2], "features": features, "type": "FeatureCollection"}, indent=indent)
        imported = read(text, GEOJSON)
        assert len(imported.stores) == 600
        assert imported.findings.rejected == []
        assert card(imported, "77")["name"] == "é" * 77
