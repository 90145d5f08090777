"""Finding stores over HTTP: filters, pages, zones, cells, lists, completion, and what caches may keep."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from api.store_questions import now
from discovery.stores.cards import rfc3339
from tests.api.test_stores import STORES, Shop, counts, refusal, shop  # noqa: F401

HOUR_MS = 3_600_000
# Paris, north to south over 40 km; "late" opens two hours from now, on any day, in UTC.
NAMES = {"a": "Café Été", "b": "Bar du Nord", "c": "Café Central", "d": "Bar d'Été"}
SQUARE = {"type": "Polygon", "coordinates": [[[2.0, 48.7], [2.6, 48.7], [2.6, 48.95], [2.0, 48.95], [2.0, 48.7]]]}


def csv_of(opens: str = "24/7") -> str:
    lines = ["store_id,name,lat,lon,city,country,opening_hours,timezone,services,tags"]
    hours = {"a": "24/7", "b": opens, "c": "off", "d": ""}
    services = {"a": "wifi", "b": "wifi;repair", "c": "repair", "d": ""}
    tags = {"a": "kind=café;floor=1", "b": "kind=bar", "c": "kind=café", "d": "kind=bar;floor=2"}
    for number, (store_id, name) in enumerate(NAMES.items()):
        place = f"{48.85 + number / 10},2.35,Paris,FR"
        lines.append(f"{store_id},{name},{place},{hours[store_id]},Etc/UTC,{services[store_id]},{tags[store_id]}")
    return "\n".join(lines) + "\n"


@pytest_asyncio.fixture
async def row(shop: Shop) -> AsyncIterator[Shop]:  # noqa: F811
    """Stores a, b, c, d, 11 km apart to the north of the place asked from."""
    assert counts(await shop.put(csv_of())) == (4, 0, 0, 0)
    yield shop


HERE = {"lat": 48.85, "lon": 2.35}


@pytest.mark.parametrize(
    ("asked", "ids"),
    [
        ({}, ["a", "b", "c", "d"]),
        ({"q": "cafe"}, ["a", "c"]),
        ({"q": "ETE"}, ["a", "d"]),
        ({"q": "par caf"}, ["a", "c"]),
        ({"q": "Cafés"}, []),
        ({"tags": {"kind": "café"}}, ["a", "c"]),
        ({"tags": {"floor": None}}, ["a", "d"]),
        ({"tags": {"floor": "1", "kind": "bar"}}, []),
        ({"without_tags": {"floor": None}}, ["b", "c"]),
        ({"without_services": ["wifi"]}, ["c", "d"]),
        ({"services": ["repair"], "without_services": ["wifi"]}, ["c"]),
        ({"without_services": ["unheard of"]}, ["a", "b", "c", "d"]),
        ({"min_distance_m": 5000}, ["b", "c", "d"]),
        ({"min_distance_m": 5000, "max_distance_m": 25_000}, ["b", "c"]),
        ({"open": "now"}, ["a", "b"]),
        ({"open": "2026-11-23T11:00:00Z"}, ["a", "b"]),
        ({"open": "2031-01-01T11:00:00+01:00", "q": "bar"}, ["b"]),
        ({"open": "now", "services": ["repair"], "tags": {"kind": "bar"}, "q": "nord"}, ["b"]),
    ],
)
async def test_which_stores_count(row: Shop, asked: dict[str, Any], ids: list[str]) -> None:
    assert await row.ids(**HERE, **asked) == ids


async def test_open_on_arrival_looks_at_the_time_it_takes(shop: Shop) -> None:  # noqa: F811
    """b is 11 km away and closes in half an hour: by car one is there in time, on foot not."""
    closes = rfc3339(now() + HOUR_MS // 2)[11:16]
    opened = rfc3339(now() - HOUR_MS)[11:16]
    await shop.put(csv_of(f"{opened}-{closes}"))
    by_car = await shop.nearest(**HERE, open="on_arrival", speed_kmh=60)
    assert [feature["id"] for feature in by_car["features"]] == ["a", "b"]
    shown = by_car["features"][1]["properties"]
    assert 0 < shown["open"]["closes_in_s"] <= 30 * 60 - 11 * 60
    assert shown["arrives_at"] > rfc3339(now() + 10 * 60_000)
    assert await shop.ids(**HERE, open="on_arrival", speed_kmh=5) == ["a"]
    assert await shop.ids(**HERE, open="now") == ["a", "b"]
    assert await shop.ids(**HERE, open="on_arrival") == ["a", "b"], "30 km/h"
    got = await shop.ask("GET", f"{STORES}/nearest?lat=48.85&lon=2.35&open=on_arrival&speed_kmh=5")
    assert [feature["id"] for feature in got.json()["features"]] == ["a"]


async def test_pages_of_the_nearest_make_the_whole(row: Shop) -> None:
    whole = await row.nearest(**HERE)
    assert whole["next_cursor"] is None
    for limit in (1, 2, 3):
        ids, cursor = [], None
        while True:
            page = await row.nearest(**HERE, limit=limit, **({"cursor": cursor} if cursor else {}))
            ids += [feature["id"] for feature in page["features"]]
            cursor = page["next_cursor"]
            if cursor is None:
                break
            other = await row.ask("POST", f"{STORES}/nearest", json={"lat": 1, "lon": 1, "cursor": cursor})
            assert refusal(other) == (400, "bad_cursor"), "a cursor is of one question"
        assert ids == ["a", "b", "c", "d"], limit


async def test_fields_are_picked(row: Shop) -> None:
    found = await row.nearest(**HERE, limit=1, fields=["name", "open"])
    assert list(found["features"][0]["properties"]) == ["name", "open"]
    assert found["features"][0]["id"] == "a"
    got = await row.ask("GET", f"{STORES}/nearest?lat=48.85&lon=2.35&limit=1&fields=distance_m,city")
    assert list(got.json()["features"][0]["properties"]) == ["city", "distance_m"]
    bad = await row.ask("POST", f"{STORES}/nearest", json={**HERE, "fields": ["nome"]})
    assert refusal(bad) == (422, "invalid")


async def test_explain_says_why_the_others_are_not_in(row: Shop) -> None:
    await row.ask("PUT", f"{STORES}/b/zone", json=SQUARE)
    found = await row.nearest(
        **HERE, services=["wifi"], tags={"kind": "bar"}, open="now", max_distance_m=25_000, explain=True
    )
    assert [feature["id"] for feature in found["features"]] == ["b"]
    why = {one["store_id"]: [reason["code"] for reason in one["reasons"]] for one in found["explain"]}
    assert why == {
        "a": ["tag_missing"],
        "c": ["service_missing", "tag_missing", "closed"],
        "d": ["service_missing", "hours_unknown", "too_far"],
    }
    zoned = await row.nearest(lat=48.96, lon=2.35, in_zone=True, explain=True, q="x")
    reasons = {one["store_id"]: one["reasons"] for one in zoned["explain"]}
    assert [reason["code"] for reason in reasons["b"]] == ["text_missing", "outside_zone"]
    assert reasons["b"][1]["by_m"] == pytest.approx(1112, abs=2)  # 0.01 degrees of latitude
    assert [reason["code"] for reason in reasons["a"]] == ["text_missing", "no_zone"]
    limited = await row.nearest(**HERE, limit=1, explain=True)
    assert {one["reasons"][0]["code"] for one in limited["explain"]} == {"not_among_the_first"}


async def test_a_zone_is_put_served_read_and_taken_away(row: Shop) -> None:
    path = f"{STORES}/c/zone"
    assert refusal(await row.ask("GET", path)) == (404, "not_found")
    put = await row.ask("PUT", path, json=SQUARE)
    assert (put.status_code, put.json()) == (200, {"store_id": "c", "repaired": []})
    served = await row.ask("POST", f"{STORES}/serving", json=HERE)
    assert [feature["id"] for feature in served.json()["features"]] == ["c"]
    assert served.json()["features"][0]["properties"]["distance_m"] > 20_000
    assert await row.ids(**HERE, in_zone=True) == ["c"]
    assert await row.ids(**HERE, in_zone=True, services=["wifi"]) == []
    outside = await row.ask("POST", f"{STORES}/serving", json={"lat": 50, "lon": 2.35})
    assert outside.json()["features"] == []
    assert (await row.ask("GET", path)).json()["type"] == "Polygon"
    await row.put(csv_of())  # the zone outlives an import of the same store
    assert await row.ids(**HERE, in_zone=True) == ["c"]
    assert (await row.ask("DELETE", path)).status_code == 204
    assert refusal(await row.ask("DELETE", path)) == (404, "not_found")
    assert await row.ids(**HERE, in_zone=True) == []


@pytest.mark.parametrize(
    ("zone", "says"),
    [
        ({"type": "Polygon", "coordinates": [[[0, 0], [1, 1], [2, 2], [0, 0]]]}, "no area"),
        ({"type": "Polygon", "coordinates": [[[0, 0], [1, 1]]]}, "four positions"),
        ({"type": "Polygon", "coordinates": [[[0, 0], [1, 91], [2, 2], [0, 0]]]}, "degrees"),
        ({"type": "Polygon", "coordinates": [[[0, 80], [120, 80], [-120, 80], [0, 80]]]}, "pole"),
        ({"type": "Polygon", "coordinates": []}, "coordinates"),
        ({"type": "Polygon", "coordinates": [[0, 0]]}, ""),
        ({"type": "Polygon", "coordinates": [[["0", 0], [1, 1], [2, 0]]]}, "degrees"),
        ({"type": "Point", "coordinates": [0, 0]}, ""),
        ({"type": "Polygon", "coordinates": [[[0, 0]] * 10_001]}, "10000 positions"),
    ],
)
async def test_zones_that_are_none(row: Shop, zone: dict[str, Any], says: str) -> None:
    answer = await row.ask("PUT", f"{STORES}/a/zone", json=zone)
    assert refusal(answer) == (422, "invalid")
    assert says in answer.text
    assert refusal(await row.ask("PUT", f"{STORES}/none/zone", json=SQUARE)) == (404, "not_found")


async def test_a_bowtie_is_repaired_and_said_so(row: Shop) -> None:
    bowtie = {"type": "Polygon", "coordinates": [[[0, 0], [10, 10], [10, 0], [0, 10]]]}
    answer = await row.ask("PUT", f"{STORES}/a/zone", json=bowtie)
    assert answer.json()["repaired"] == ["a ring was not closed", "self-intersection"]
    assert (await row.ask("POST", f"{STORES}/serving", json={"lat": 5, "lon": 1})).json()["features"] != []
    assert (await row.ask("POST", f"{STORES}/serving", json={"lat": 9, "lon": 5})).json()["features"] == []


async def test_a_list_is_paged_and_filtered(row: Shop) -> None:
    async def listed(query: str) -> list[str]:
        answer = await row.ask("GET", f"{STORES}?{query}")
        assert answer.status_code == 200, answer.text
        return [feature["id"] for feature in answer.json()["features"]]

    assert await listed("") == ["a", "b", "c", "d"]
    assert await listed("bbox=2,48.9,3,49.1") == ["b", "c"]
    assert await listed("bbox=3,48.9,2,49.1") == []
    assert await listed("bbox=2.35,48.85,2.35,48.85") == ["a"]
    assert await listed("tag=kind=bar;floor") == ["d"]
    assert await listed("q=bar&open=now") == ["b"]
    assert await listed("services=wifi;repair") == ["b"]
    ids, cursor = [], ""
    for _ in range(2):
        page = (await row.ask("GET", f"{STORES}?limit=2{cursor}")).json()
        ids += [feature["id"] for feature in page["features"]]
        cursor = f"&cursor={page['next_cursor']}"
    assert (ids, page["next_cursor"]) == (["a", "b", "c", "d"], None)
    for bad in (
        "bbox=1,2,3",
        "bbox=a,b,c,d",
        "bbox=0,5,1,4",
        "bbox=-181,0,1,1",
        "open=on_arrival",
        "q=%21",
        "fields=x",
    ):
        assert refusal(await row.ask("GET", f"{STORES}?{bad}"))[0] == 422, bad


async def test_a_box_across_180_degrees(shop: Shop) -> None:  # noqa: F811
    await shop.put("store_id,lat,lon\nw,0,-179.5\ne,0,179.5\nz,0,180\nm,0,0\n")
    answers = [await shop.ask("GET", f"{STORES}?bbox={box}") for box in ("179,-1,-179,1", "-180,-1,-179,1")]
    assert [[feature["id"] for feature in one.json()["features"]] for one in answers] == [["e", "w", "z"], ["w", "z"]]


async def test_what_a_cache_may_keep(row: Shop) -> None:
    paths = (f"{STORES}/a", STORES, f"{STORES}/search?q=caf", f"{STORES}/cell/871fb4662ffffff")
    tags = []
    for path in paths:
        first = await row.ask("GET", path)
        assert first.status_code == 200, first.text
        tags.append(first.headers["etag"])
        for named in (tags[-1], f'"x", W/{tags[-1]}', "*"):
            again = await row.ask("GET", path, headers={"If-None-Match": named})
            assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tags[-1])
        assert (await row.ask("GET", path, headers={"If-None-Match": '"x"'})).status_code == 200
    assert "max-age=300" in (await row.ask("GET", paths[-1])).headers["cache-control"]
    await row.put(csv_of().replace("Café", "Kaffee"))
    for path, tag in zip(paths, tags, strict=True):
        assert (await row.ask("GET", path, headers={"If-None-Match": tag})).status_code == 200, path
    assert "no-store" in (await row.ask("GET", f"{STORES}/nearest?lat=1&lon=1")).headers["cache-control"]


async def test_a_cell_lists_all_that_may_be_nearest(row: Shop) -> None:
    found = (await row.ask("GET", f"{STORES}/cell/871fb4662ffffff")).json()
    assert [feature["id"] for feature in found["features"]] == ["a", "b", "c", "d"]
    for bad in ("861fb4667ffffff", "871fb4662fffff0", "000000000000000", "x"):
        assert refusal(await row.ask("GET", f"{STORES}/cell/{bad}")) == (422, "invalid"), bad


async def test_typing_is_completed(row: Shop) -> None:
    async def completed(text: str) -> list[tuple[str, str, int]]:
        answer = await row.ask("GET", f"{STORES}/search", params={"q": text})
        assert answer.status_code == 200, answer.text
        return [(one["type"], one["text"], one["stores"]) for one in answer.json()["suggestions"]]

    assert await completed("p") == [("city", "Paris", 4)]
    assert await completed("ete") == [("name", "Bar d'Été", 1), ("name", "Café Été", 1)]
    assert await completed("cafe ce") == [("name", "Café Central", 1)]
    assert await completed("nothing") == []
    one = (await row.ask("GET", f"{STORES}/search?q=nord")).json()["suggestions"][0]
    assert (one["store_id"], one["matched"]) == ("b", [{"offset": 7, "length": 4}])
    assert refusal(await row.ask("GET", f"{STORES}/search?q=%20")) == (422, "invalid")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"speed_kmh": 5}, "speed_kmh"),
        ({"open": "on_arrival", "speed_kmh": 0}, "speed_kmh"),
        ({"q": "!"}, "q"),
        ({"q": "a b c d e f g h i j k"}, "q"),
        ({"tags": {"": "x"}}, "tags"),
        ({"min_distance_m": 2, "max_distance_m": 1}, "max_distance_m"),
        ({"coord_type": "wgs72"}, "coord_type"),
    ],
)
async def test_bad_questions_of_the_finder(row: Shop, body: dict[str, Any], field: str) -> None:
    answer = await row.ask("POST", f"{STORES}/nearest", json={**HERE, **body})
    assert refusal(answer) == (422, "invalid")
    assert [error["field"].partition(".")[0] for error in answer.json()["errors"]] == [field]


async def test_shifted_coordinates_are_read(shop: Shop) -> None:  # noqa: F811
    await shop.put("store_id,lat,lon\nbeijing,39.9087,116.3975\n")
    plain = await shop.nearest(lat=39.9087, lon=116.3975)
    shifted = await shop.nearest(lat=39.9101, lon=116.4037, coord_type="gcj02")
    assert plain["features"][0]["properties"]["distance_m"] == 0
    assert shifted["features"][0]["properties"]["distance_m"] < 30
