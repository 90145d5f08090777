"""JSON of other systems: Overpass, schema.org, Woosmap, All The Places, plain objects."""

import json
from typing import Any

import pytest

from discovery.errors import Invalid
from discovery.stores.hours import is_valid
from discovery.stores.rows import Finding
from tests.discovery.stores.files import GEOJSON, JSON, card, read

BOUNDS = {"minlat": 1, "minlon": 179, "maxlat": 3, "maxlon": -179}
OVERPASS: dict[str, Any] = {
    "version": 0.6,
    "generator": "Overpass API",
    "elements": [
        {
            "type": "node",
            "id": 1,
            "lat": 48.1,
            "lon": 11.5,
            "tags": {
                "name": "Bäckerei",
                "shop": "bakery",
                "addr:street": "Hauptstraße",
                "addr:housenumber": "5",
                "addr:city": "München",
                "addr:country": "DE",
                "contact:phone": "+49 89",
                "website": "https://b.example",
                "opening_hours": "Mo-Fr 06:00-18:00; PH off",
                "internet_access": "wlan",
                "wheelchair": "yes",
                "takeaway": "no",
                "name:en": "Bakery",
            },
        },
        {"type": "way", "id": 2, "center": {"lat": 48.2, "lon": 11.6}, "tags": {"brand": "Aldi"}},
        {"type": "relation", "id": 3, "bounds": BOUNDS, "tags": {"a": "b"}},
        {"type": "way", "id": 4, "nodes": [5], "tags": {"shop": "x"}},
        {"type": "node", "id": 5, "lat": 48.1, "lon": 11.5},
    ],
}  # fmt: skip


def test_overpass() -> None:
    imported = read(OVERPASS, JSON)
    found = card(imported, "n1")
    assert found == {
        "store_id": "n1",
        "name": "Bäckerei",
        "address": "Hauptstraße 5",
        "city": "München",
        "country": "DE",
        "postcode": None,
        "phone": "+49 89",
        "website": "https://b.example",
        "opening_hours": "Mo-Fr 06:00-18:00; PH off",
        "timezone": None,
        "services": ["wheelchair", "wifi"],
        "tags": {"shop": "bakery", "internet_access": "wlan", "wheelchair": "yes", "takeaway": "no"},
        "lat": 48.1,
        "lon": 11.5,
    }
    assert (card(imported, "w2")["name"], card(imported, "w2")["lat"]) == ("Aldi", 48.2)
    assert (card(imported, "r3")["lat"], abs(card(imported, "r3")["lon"])) == (2.0, 180.0)
    assert imported.findings.rejected == [Finding(4, "lat", "missing: ask Overpass for `out center`")]
    assert (
        Finding(5, "tags", "an element without tags is no store: left out, here and later")
        in imported.findings.warnings
    )


def test_overpass_that_ran_out_of_time_says_so() -> None:
    imported = read({**OVERPASS, "remark": "runtime error: Query timed out"}, JSON)
    assert Finding(0, "remark", "of Overpass: runtime error: Query timed out") in imported.findings.warnings


STORE: dict[str, Any] = {
    "@context": "https://schema.org",
    "@type": "Store",
    "branchCode": "b1",
    "name": "Boutique",
    "geo": {"@type": "GeoCoordinates", "latitude": "48.85", "longitude": 2.35},
    "address": {
        "@type": "PostalAddress",
        "streetAddress": "1 rue A",
        "addressLocality": "Paris",
        "postalCode": "75001",
        "addressCountry": {"@type": "Country", "name": "FR"},
    },
    "telephone": "+33 1",
    "url": "https://a.example",
    "openingHoursSpecification": [
        {"dayOfWeek": ["Monday", "https://schema.org/Tuesday"], "opens": "09:00", "closes": "12:00:00"},
        {"dayOfWeek": "Monday", "opens": "14:00", "closes": "18:00"},
        {"dayOfWeek": "Saturday", "opens": "22:00", "closes": "02:00"},
        {"dayOfWeek": "Sunday", "opens": "00:00", "closes": "00:00"},
        {"validFrom": "2026-12-24", "validThrough": "2026-12-26"},
        {"validFrom": "2026-12-31", "validThrough": "2026-12-31", "opens": "09:00", "closes": "14:00"},
    ],
    "amenityFeature": [{"name": "wifi", "value": True}, {"name": "parking", "value": False}],
    "priceRange": "$$",
    "logo": "x",
}
OPENS = (
    "Mo 09:00-12:00,14:00-18:00; Tu 09:00-12:00; We-Fr off; Sa 22:00-02:00; Su off; "
    "2026 Dec 24-2026 Dec 26 off; 2026 Dec 31 09:00-14:00"
)


@pytest.mark.parametrize(
    "wrapped",
    [
        STORE,
        [STORE],
        {"@context": "https://schema.org", "@graph": [{"@type": "WebPage", "name": "x"}, STORE]},
        {"@type": "ItemList", "itemListElement": [{"@type": "ListItem", "position": 1, "item": STORE}]},
        [{"@graph": [STORE]}],
        {f"schema:{name}" if name[0] != "@" else name: value for name, value in STORE.items()},
    ],
    ids=["object", "array", "graph", "list", "graph in array", "prefixed"],
)
def test_schema_org(wrapped: Any) -> None:
    imported = read(wrapped, JSON)
    assert card(imported, "b1") == {
        "store_id": "b1",
        "name": "Boutique",
        "address": "1 rue A",
        "city": "Paris",
        "country": "FR",
        "postcode": "75001",
        "phone": "+33 1",
        "website": "https://a.example",
        "opening_hours": OPENS,
        "timezone": None,
        "services": ["wifi"],
        "tags": {"price_range": "$$"},
        "lat": 48.85,
        "lon": 2.35,
    }
    assert is_valid(OPENS)
    assert imported.findings.rejected == []
    said = {(finding.field, finding.message) for finding in imported.findings.warnings}
    assert said >= {("logo", "not a property of a store: ignored, here and later")}
    if "WebPage" in json.dumps(wrapped):
        assert ("@type", "WebPage is no place: left out, here and later") in said


@pytest.mark.parametrize(
    ("hours", "expected"),
    [
        ("Mo-Fr 09:00-17:00", "Mo-Fr 09:00-17:00"),
        (["Mo-Fr 09:00-17:00", "Sa,Su 10:00-12:00"], "Mo-Fr 09:00-17:00, Sa,Su 10:00-12:00"),
        (["Mo 09:00-12:00", "Mo 14:00-18:00"], "Mo 09:00-12:00, Mo 14:00-18:00"),
    ],
)
def test_schema_org_hours_as_texts(hours: Any, expected: str) -> None:
    thing = {"@type": "Store", "branchCode": "b", "latitude": 48.8, "longitude": 2.3, "openingHours": hours}
    assert card(read(thing, JSON), "b")["opening_hours"] == expected
    assert is_valid(expected)


WOOSMAP: dict[str, Any] = {
    "storeId": "STORE_ID_123456",
    "name": "My Cool Store",
    "location": {"lat": 51.5074, "lng": -0.1278},
    "contact": {"email": "contact@store.example", "phone": "+44 20", "website": "https://cool.example"},
    "address": {"lines": ["Building Centralis", "Place Jean"], "countryCode": "GB", "city": "London", "zipcode": "SW1"},
    "types": ["drive", "click_and_collect"],
    "tags": ["wifi", "covered_parking"],
    "userProperties": {"some_user_properties": "associated user value", "seats": 12, "vip": True, "list": [1]},
    "openingHours": {
        "timezone": "Europe/London",
        "usual": {"1": [], "5": [{"start": "22:00", "end": "03:00"}], "default": [{"start": "08:30", "end": "22:00"}]},
        "special": {
            "2026-12-25": [],
            "2026-12-31": [{"start": "09:00", "end": "13:00"}, {"start": "14:00", "end": "16:00"}],
        },
    },
}  # fmt: skip
SNAKE = {
    "store_id": WOOSMAP["storeId"],
    "opening_hours": WOOSMAP["openingHours"],
    "user_properties": WOOSMAP["userProperties"],
    "address": {"lines": WOOSMAP["address"]["lines"], "country_code": "GB", "city": "London", "zipcode": "SW1"},
    **{name: WOOSMAP[name] for name in ("name", "contact", "types", "tags")},
}


@pytest.mark.parametrize(
    "wrapped",
    [
        {"stores": [WOOSMAP]},
        [WOOSMAP],
        {
            "type": "FeatureCollection",
            "features": [
                {
                    "type": "Feature",
                    "properties": SNAKE,
                    "geometry": {"type": "Point", "coordinates": [-0.1278, 51.5074]},
                }
            ],
        },
    ],
    ids=["stores", "array", "answer"],
)
def test_woosmap(wrapped: Any) -> None:
    imported = read(wrapped, JSON)
    hours = (
        "Mo off; Tu-Th 08:30-22:00; Fr 22:00-03:00; Sa-Su 08:30-22:00; "
        "2026 Dec 25 off; 2026 Dec 31 09:00-13:00,14:00-16:00"
    )
    assert is_valid(hours)
    assert card(imported, "STORE_ID_123456") == {
        "store_id": "STORE_ID_123456",
        "name": "My Cool Store",
        "address": "Building Centralis, Place Jean",
        "city": "London",
        "country": "GB",
        "postcode": "SW1",
        "phone": "+44 20",
        "website": "https://cool.example",
        "opening_hours": hours,
        "timezone": "Europe/London",
        "services": ["drive", "click_and_collect", "wifi", "covered_parking"],
        "tags": {"some_user_properties": "associated user value", "seats": "12", "vip": "yes"},
        "lat": 51.5074,
        "lon": -0.1278,
    }
    assert imported.findings.rejected == imported.findings.warnings == []


def test_all_the_places() -> None:
    feature: dict[str, Any] = {
        "type": "Feature",
        "id": "-9DxHjXGBmYRBGPaM5QBiOI__wU=",
        "properties": {
            "ref": "1234",
            "@spider": "acme_us",
            "@source_uri": "https://acme.example",
            "brand": "Acme",
            "brand:wikidata": "Q1",
            "addr:full": "1 Main St, Reno, NV",
            "addr:country": "US",
            "opening_hours": "Mo-Su 08:00-20:00",
            "phone": "+1 775",
            "drive_through": "yes",
        },
        "geometry": {"type": "Point", "coordinates": [-119.8, 39.5]},
    }
    nowhere = {**feature, "geometry": None}
    collection = {
        "type": "FeatureCollection",
        "dataset_attributes": {"@type": "Dataset"},
        "features": [feature, nowhere],
    }
    for kind in (GEOJSON, JSON):
        imported = read(collection, kind)
        found = card(imported, "1234")
        assert (found["name"], found["address"], found["services"]) == (
            "Acme",
            "1 Main St, Reno, NV",
            ["drive_through"],
        )
        assert found["tags"] == {"ref": "1234", "brand:wikidata": "Q1", "drive_through": "yes"}
        assert imported.findings.rejected == [Finding(2, "geometry", "not a Point")]
    lines = "\n".join(json.dumps({**feature, "properties": {**feature["properties"], "ref": str(n)}}) for n in range(9))
    assert len(read(lines, "application/x-ndjson").stores) == 9
    assert len(read("\x1e" + lines.replace("\n", "\n\x1e"), "application/geo+json-seq").stores) == 9


def test_osm_features_and_their_outlines() -> None:
    ring = [[11.0, 48.0], [11.2, 48.0], [11.2, 48.2], [11.0, 48.2], [11.0, 48.0]]
    feature = {
        "type": "Feature",
        "id": "way/17",
        "properties": {"@id": "way/17", "name": "Halle", "building": "yes"},
        "geometry": {"type": "Polygon", "coordinates": [ring]},
    }
    imported = read({"type": "FeatureCollection", "features": [feature]}, GEOJSON)
    found = card(imported, "w17")
    assert (found["lat"], found["lon"], found["tags"]) == (48.1, 11.1, {"building": "yes"})
    assert imported.findings.warnings == [Finding(1, "geometry", "not a Point: the middle of its bounds is used")]


ADDRESS = {"street": "rue A", "zip": 75001, "city": "Paris"}


def test_plain_objects() -> None:
    records = [
        {"id": 1, "title": "A", "latitude": 48.8, "lng": "2.3", "address": ADDRESS},
        {"store_id": "2", "name": "B", "location": {"lat": 48.9, "lng": 2.3}, "services": ["wifi"], "tags": {"k": "v"}},
        {"id": 3, "name": "C"},
        7,
    ]  # fmt: skip
    for wrapped in (records, {"data": records, "page": 1}):
        imported = read(wrapped, JSON)
        one, two = card(imported, "1"), card(imported, "2")
        assert (one["name"], one["address"], one["postcode"], one["city"]) == ("A", "rue A", "75001", "Paris")
        assert (two["services"], two["tags"], two["lat"]) == (["wifi"], {"k": "v"}, 48.9)
        assert imported.findings.rejected == [Finding(3, "lat", "missing"), Finding(4, None, "not an object")]


@pytest.mark.parametrize("text", ["", "7", '"a"', "{", "[1", "[{}]x", "nul", '{"elements": [}', "\ufeff"])
def test_json_that_is_none(text: str) -> None:
    with pytest.raises(Invalid, match=r"not a JSON file|no stores"):
        read(text, JSON)
