"""76 chains and all of them as one brand: imported by the command line, then searched from 2,000 cities over HTTP."""

import asyncio
import csv
import itertools
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.data.chains import ALL, Chain, write_chains
from tests.data.real import rows
from tests.service import NEARHIVE, Connection, Service, for_all, serving

pytestmark = pytest.mark.timeout(600)

CITIES = 2000
NEAREST = 5
FRESH_S = 1.0
ONE_BRAND = "starbucks"
_AT_ONCE = 2
_CONNECTIONS = 8  # four to each worker
_POLL_S = 0.03
_TIE_M = 1e-4  # of two stores this equally far either may come first: our sum and theirs round differently
_IGNORED_COLUMNS = 3  # brand, state, tz_src: one warning each
_SAID = re.compile(r"(\S+): ([\d,]+) added, 0 changed, 0 removed, 0 unchanged; ([\d,]+) rejected, ([\d,]+) warnings\n")


class Imported(NamedTuple):
    """What one import said (``abroad``: of stores outside their country), and how long after its return (s) each worker
    answered with the new set."""

    added: int
    rejected: int
    warnings: int
    abroad: int
    fresh_after_s: list[float]


@pytest.fixture(scope="module")
def chains(tmp_path_factory: pytest.TempPathFactory) -> list[Chain]:
    """The files; the last is that of all chains."""
    found = write_chains(tmp_path_factory.mktemp("chains"))
    assert [len(found), found[-1].brand, found[-1].read] == [77, ALL, 191_806]
    assert sum(chain.read for chain in found[:-1]) == 191_806
    return found


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with serving(tmp_path_factory.mktemp("service")) as running:
        yield running


@pytest.fixture(scope="module")
def imported(service: Service, chains: list[Chain]) -> dict[str, Imported]:
    """All imports made: two at a time, but that of all chains alone."""
    started_s = time.monotonic()
    found = asyncio.run(_import_all(service, chains))
    print(f"{len(chains)} imports in {time.monotonic() - started_s:.1f} s; all chains fresh on both after", end=" ")
    print(", ".join(f"{one:.2f} s" for one in found[ALL].fresh_after_s))
    return found


async def _import_all(service: Service, chains: list[Chain]) -> dict[str, Imported]:
    turns = asyncio.Semaphore(_AT_ONCE)
    async with service.by_worker() as groups:
        workers = [group[0] for group in groups]

        async def one(chain: Chain) -> Imported:
            async with turns:
                return await _import(service, workers, chain)

        brands = await asyncio.gather(*map(one, chains[:-1]))
        together = await _import(service, workers, chains[-1])
    return {chain.brand: report for chain, report in zip(chains, [*brands, together], strict=True)}


async def _import(service: Service, workers: list[Connection], chain: Chain) -> Imported:
    await _add_brand(service, workers[0], chain)
    returned = asyncio.Event()
    watching = asyncio.gather(*(_fresh_after_s(service, worker, chain, returned) for worker in workers))
    told = chain.path.with_suffix(".report.csv")
    arguments = ("stores", "import", chain.brand, str(chain.path), "--on-error", "skip", "--report", str(told))
    said = await _nearhive(service, *arguments)
    returned.set()
    head = _SAID.match(said)
    assert head is not None, said
    assert head[1] == chain.brand
    added, rejected, warnings = (int(head[number].replace(",", "")) for number in (2, 3, 4))
    with told.open(encoding="utf-8", newline="") as file:
        listed = list(csv.DictReader(file))
    assert len(listed) == rejected + warnings
    return Imported(added, rejected, warnings, sum(one["field"] == "country" for one in listed), await watching)


async def _add_brand(service: Service, worker: Connection, chain: Chain) -> None:
    """By the command line for that of all chains, else over HTTP: a process a brand would take a minute together."""
    if chain.brand == ALL:
        said = await _nearhive(service, "brand", "add", chain.brand, "--name", chain.name)
        assert said == f"{chain.brand}: {chain.name}\n"
    else:
        (await worker.ask("PUT", f"/v1/brands/{chain.brand}", {"name": chain.name}, service.operator)).ok()


async def _nearhive(service: Service, *arguments: str) -> str:
    """What the real command prints; it must end with 0 and say nothing else but how far it is."""
    command = [str(NEARHIVE), *arguments, "--url", service.url]
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, env=service.environment, stdout=pipe, stderr=pipe)
    out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    assert all(b" MB sent" in line for line in err.splitlines()), err.decode()
    return out.decode()


async def _fresh_after_s(service: Service, worker: Connection, chain: Chain, returned: asyncio.Event) -> float:
    """Seconds after the import returned until this worker knew the new set: before, it has none of it; then all."""
    path, here = f"/v1/brands/{chain.brand}/stores/nearest", dict(zip(("lat", "lon"), chain.points[0], strict=True))
    expected, returned_s = min(NEAREST, len(chain.ids)), 0.0
    while True:
        returned_s = returned_s or (time.monotonic() if returned.is_set() else 0.0)
        answer = await worker.ask("POST", path, here | {"limit": NEAREST}, service.operator)
        unheard_of = answer.status == 404 and not returned_s  # the brand itself is new
        found = 0 if unheard_of else len(answer.ok()["features"])
        assert found in (0, expected)
        if found == expected and returned_s:
            return time.monotonic() - returned_s
        assert not returned_s or time.monotonic() < returned_s + 30 * FRESH_S, "the new set never came"
        await asyncio.sleep(_POLL_S)


def test_every_row_is_imported_or_rejected_for_a_repeated_id(
    imported: dict[str, Imported], chains: list[Chain]
) -> None:
    for chain in chains:
        report = imported[chain.brand]
        assert (report.added, report.rejected) == (len(chain.ids), len(chain.rejected)), chain.brand
        assert report.added + report.rejected == chain.read
        expected = _IGNORED_COLUMNS + sum(map(len, chain.warned.values()))
        assert report.warnings - report.abroad == expected, chain.brand
    assert 50 < imported[ALL].abroad < 100
    assert sum(imported[chain.brand].added for chain in chains[:-1]) == imported[ALL].added


def test_both_workers_answer_with_the_new_set_within_a_second(imported: dict[str, Imported]) -> None:
    late = {brand: report.fresh_after_s for brand, report in imported.items() if max(report.fresh_after_s) > FRESH_S}
    assert late == {}


@pytest.mark.parametrize("brand", [ALL, "carl-s-jr-", "tesla-supercharger"])
async def test_each_finding_names_its_row(
    service: Service, imported: dict[str, Imported], chains: list[Chain], brand: str
) -> None:
    """The same file again, dry: nothing would change, and each row with something to say is named once for it."""
    chain = next(chain for chain in chains if chain.brand == brand)
    path = f"/v1/brands/{brand}/stores?dry_run=true&on_error=skip"
    async with service.connections(1) as (connection,):
        headers = service.operator | {"Content-Type": "text/csv"}
        report = (await connection.ask("PUT", path, chain.path.read_bytes(), headers)).ok()
    assert {name: report[name] for name in ("added", "changed", "removed", "unchanged")} == {
        "added": 0,
        "changed": 0,
        "removed": 0,
        "unchanged": len(chain.ids),
    }
    assert [(found["row"], found["field"]) for found in report["rejected"]] == [(n, "store_id") for n in chain.rejected]
    for name, lines in chain.warned.items():
        assert [found["row"] for found in report["warnings"] if found["field"] == name] == lines
    assert len(report["warnings"]) == imported[brand].warnings


async def test_the_nearest_from_2000_cities_equal_brute_force(
    service: Service, imported: dict[str, Imported], chains: list[Chain]
) -> None:
    """One brand, all chains, and every brand in turn, through both workers."""
    by_brand = {chain.brand: chain for chain in chains}
    cities = list(itertools.islice(rows("cities/geonames_cities15000.csv.gz"), CITIES))
    assert [int(city["population"]) for city in cities] == sorted((int(c["population"]) for c in cities), reverse=True)
    places = [(float(city["lat"]), float(city["lon"])) for city in cities]
    turns = itertools.cycle(chain.brand for chain in chains[:-1])
    asked = [(brand, *place) for place in places for brand in (ONE_BRAND, ALL, next(turns))]
    assert len({brand for brand, *_ in asked}) == 77
    headers = service.operator

    async def ask(connection: Connection, question: tuple[str, float, float]) -> list[dict[str, Any]]:
        brand, lat, lon = question
        body = {"lat": lat, "lon": lon, "limit": NEAREST}
        found = (await connection.ask("POST", f"/v1/brands/{brand}/stores/nearest", body, headers)).ok()
        return list(found["features"])

    started_s = time.monotonic()
    async with service.by_worker(_CONNECTIONS // 2) as groups:
        answers = await for_all([connection for group in groups for connection in group], asked, ask)
    print(f"{len(asked)} questions in {time.monotonic() - started_s:.1f} s")
    for (brand, lat, lon), features in zip(asked, answers, strict=True):
        _compare(by_brand[brand], lat, lon, features)


def _compare(chain: Chain, lat: float, lon: float, features: list[dict[str, Any]]) -> None:
    ids = [feature["id"] for feature in features]
    expected_m = chain.nearest(lat, lon, NEAREST)
    where = f"{chain.brand} from {lat}, {lon}: {ids}"
    assert len(ids) == len(set(ids)) == len(expected_m), where
    # The k-th given is as far as the k-th nearest: the same stores in the same order, but among equally distant ones.
    assert chain.distances_m(lat, lon, ids) == pytest.approx(expected_m, rel=0, abs=_TIE_M), where
    for feature, true_m in zip(features, expected_m, strict=True):
        assert abs(feature["properties"]["distance_m"] - true_m) <= max(1.0, 1e-6 * true_m), where


def test_the_files_hold_what_the_issue_names(chains: list[Chain], tmp_path: Path) -> None:
    """Guards the inputs themselves: ids missing, names missing, and ids repeated are all there to be met."""
    together = chains[-1]
    missing = sum(not row["store_id"] for row in rows("stores/us_chains_2024.csv.gz"))
    assert missing == 38_682
    assert len(together.warned["name"]) == 96_450
    assert sum(len(chain.rejected) for chain in chains[:-1]) > 0
    assert sum(store_id.startswith("x-") for store_id in together.ids) > 38_000
