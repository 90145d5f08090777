"""Every kernel has a slow twin, a test that compares the two, and is really run by the product; the same answers come
without the compiler, and on two threads as on one."""

import importlib
import os
import pkgutil
import random
import re
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import h3.api.basic_int as h3
import numpy as np
import pytest

from discovery.id_table import IdTable
from discovery.shake_entries import NEARBY, Shake, pack_shakes
from discovery.shake_fold import ShakeFold
from discovery.stores.finder import listed, nearest
from discovery.stores.question import Listing, Question, Wanted, words_wanted
from geo import cells, kernels, privacy, sphere
from geo.cell_nearest import nearest_in_cell
from geo.crowd import BandsAround, Crowd
from geo.places import Places
from tests.discovery.stores.test_finding import NOON_MS, SERVICES, world
from tests.discovery.test_presence import Both

ROOT = Path(__file__).resolve().parent.parent
GEO, SHAKES = "tests.geo.test_", "tests.discovery.test_shake_fold"
STORES = "tests.discovery.stores.test_"
_OF_ROWS = f"{STORES}timelines.test_kernels_of_rows_equal_their_slow_twins"

# Of each kernel that Python calls, with the inner ones in it: its twin, and where the two are compared.
TWINS = {
    "h3_capi.latlng_to_cells": ("naive_geo.cells_of", f"{GEO}cells.test_cells_agree_with_h3"),
    "h3_capi.cells_to_latlngs": ("naive_geo.centers", f"{GEO}cells.test_centers_and_distances"),
    "h3_capi.disk_rings": ("naive_geo.disk", f"{GEO}cells.test_disks_anywhere"),
    "cell_nearest.nearest_of_some_point": (
        "naive_stores.nearest_over_a_net",
        f"{STORES}finding.test_the_cell_kernel_equals_its_slow_twin",
    ),
    "open_hours.distances_of_rows": ("naive_stores.haversine_m", _OF_ROWS),
    "open_hours.rows_in_box": ("naive_stores.rows_in_box", _OF_ROWS),
    "open_hours.states_of_rows": (
        "naive_stores.naive_states_at",
        f"{STORES}timelines.test_states_of_rows_equal_the_slow_twin",
    ),
    "kdtree.build": ("naive_geo.tree_spans", f"{GEO}kdtree.test_every_node_covers_its_points"),
    "kdtree.flags_of": ("naive_geo.tree_spans", f"{GEO}kdtree.test_flags_name_the_allowed_points"),
    "kdtree.packed": ("naive_geo.nearest", f"{GEO}places.test_nearest_equals_brute_force"),
    "keyed.siphash24": ("naive_geo.siphash24", f"{GEO}sphere.test_siphash_equals_the_twin"),
    "keyed.siphash24_many": ("naive_geo.siphash24", f"{GEO}sphere.test_siphash_equals_the_twin"),
    "knn.nearest": ("naive_geo.nearest", f"{GEO}places.test_nearest_equals_brute_force"),
    "knn.nearest_many": ("naive_geo.nearest", f"{GEO}places_many.test_a_million_pairs_equal_brute_force"),
    "matching.fold_newcomers": ("naive_shake.replay", f"{SHAKES}.test_small_worlds_equal_the_twin"),
    "matching.read_matches": ("naive_shake.replay", f"{SHAKES}.test_small_worlds_equal_the_twin"),
    "matching.drop_oldest": ("naive_shake.replay", f"{SHAKES}.test_small_worlds_equal_the_twin"),
    "matching.state_digest": ("naive_shake.state_digest", f"{GEO}matching.test_the_digest_is_that_of_the_twin"),
    "morton.in_order": ("naive_geo.morton_order", f"{GEO}places_many.test_the_order_is_along_the_curve"),
    "polygon.distance_to_ring_m": (
        "naive_geo.distance_to_ring_m",
        f"{GEO}privacy.test_distance_to_a_ring_equals_the_twin",
    ),
    "presence.fold_reports": ("naive_presence.fold_reports", f"{GEO}presence.test_reports_are_folded_as_by_the_twin"),
    "presence.adopt": ("naive_presence.adopt", f"{GEO}presence.test_an_edge_adopts_every_cell_of_its_shard"),
    "presence.digest": (
        "naive_presence.digest",
        f"{GEO}presence.test_digest_is_that_of_the_twin_in_any_order_of_slots",
    ),
    "sphere.great_circle_m": ("naive_geo.distance_m", f"{GEO}sphere.test_distance_equals_vincentys"),
    "sphere.great_circles_m": ("naive_geo.distance_m", f"{GEO}sphere.test_many_distances_equal_vincentys"),
    "sphere.distances_from_m": ("naive_geo.distance_m", f"{GEO}sphere.test_many_distances_equal_vincentys"),
    "sphere.bearing_deg": ("naive_geo.destination", f"{GEO}sphere.test_bearing_leads_to_the_destination"),
    "sphere.unit_vectors": ("naive_geo.vector", f"{GEO}sphere.test_many_vectors_equal_the_twin"),
    "texts.siphash24_bytes": ("naive_geo.siphash24", "tests.discovery.test_id_table.test_the_hash_is_that_of_the_twin"),
}
_MOMENT = f"{STORES}timelines.test_kernels_equal_their_slow_twins"
TWINS |= {f"open_hours.{name}": ("naive_stores.naive_states_at", _MOMENT) for name in ("states_at", "open_rows")}
_IDS = "tests.discovery.test_id_table.test_ids_are_numbered_as_in_a_dict"
TWINS |= {f"texts.{name}": ("naive_geo.number_texts", _IDS) for name in ("find_texts", "add_texts", "index_texts")}
_PAGING = f"{GEO}crowd.test_paging_to_the_end_gives_every_shown_member_once_and_in_order"
_CROWD = ("flag_all", "cell_table", "mark_all", "anyone_in", "group_by_cell", "merge_fresh", "remove", "rank_bands")
TWINS |= {f"ranking.{name}": ("naive_geo.crowd_order", _PAGING) for name in _CROWD}


def compiled() -> dict[str, Any]:
    """Kernels with machine code of their own, by module and name, ``h3_capi``'s by their public names."""
    found: dict[str, Any] = {}
    for module in sorted(one.name for one in pkgutil.iter_modules(kernels.__path__)):
        held = vars(importlib.import_module(f"geo.kernels.{module}"))
        found |= {
            f"{module}.{name}": value
            for name, value in held.items()
            if getattr(value, "nopython_signatures", None)
            and value.py_func.__module__ == f"geo.kernels.{module}"
            and not (module == "h3_capi" and name.startswith("_"))
        }
    return {name: kernel for name, kernel in found.items() if not _is_inner(kernel)}


def _is_inner(kernel: Any) -> bool:
    """An inner one is compiled where a caller of it was not in the cache."""
    return "get_call_template" in vars(kernel)


def named(path: str) -> Any:
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name)


def test_every_kernel_has_a_twin_and_a_test_that_compares_them() -> None:
    assert set(compiled()) == set(TWINS)
    for twin, test in TWINS.values():
        assert callable(named(f"tests.{twin}"))
        assert callable(named(test))


def test_every_kernel_is_machine_code_alone() -> None:
    """A call with other types must fail, not compile again, nor fall back to Python."""
    for name, kernel in compiled().items():
        assert len(kernel.nopython_signatures) == 1, name
        assert not kernel._can_compile, name


def _shakes() -> None:
    fold = ShakeFold(lambda epoch: (epoch, 7), 900_000)
    cell = cells.cell_of(48.8, 2.3, 7)
    for number in (1, 2):
        fold.fold(pack_shakes([Shake(number, f"p{number}", number, cell, NEARBY, 3, True, 5000, ())]), number)
    assert [match.person for match in fold.matches(1)] == ["p2"]
    assert fold.digest() != 0
    fold.tick(10**9)
    assert fold.digest() == 0


def _presence() -> None:
    both = Both()
    both.reports([("ann", cells.cell_of(48.8, 2.3, 8), 10**7, True)])
    both.wait(2 * both.epoch_ms * 3)
    assert both.real.crowd_of(np.zeros(1, np.int32), both.now_ms) is not None


def _ids() -> None:
    table = IdTable((1, 2))
    numbers = table.add([str(number) for number in range(10_000)])
    assert table.find([str(number) for number in range(10_000)]).tolist() == numbers.tolist()


def _crowd() -> None:
    crowd = _built()
    cell = int(cells.cell_of(48.8, 2.3, 7))
    crowd.add(cell, 5, 1_000)
    shown, nobody = np.ones(2_000, np.int64), np.empty(0, np.int32)
    assert crowd.page(BandsAround(cell, 5), 0, None, 5, shown, 0, nobody)[0].tolist()[:1] == [1_000]
    crowd.remove(cell, 5, 1_000)


def _built() -> Crowd:
    rng = np.random.default_rng(5)
    lats, lons = np.degrees(np.arcsin(rng.uniform(-1, 1, 1_000))), rng.uniform(-180, 180, 1_000)
    keys = rng.integers(0, 2**64, 1_000, dtype=np.uint64)
    return Crowd(cells.cells_of(lats, lons, 7), keys, np.arange(1_000, dtype=np.int32))


def _places() -> None:
    places = Places([1.0, 2.0], [3.0, 4.0])
    assert places.nearest(1.0, 3.0, 1)[0].tolist() == [0]
    assert places.nearest_many([2.0], [4.0], 1)[0].tolist() == [[1]]


def _stores() -> None:
    stores, _ = world(random.Random(5), 2_500)
    stores.windows.renew(NOON_MS)
    rare = Wanted(words=words_wanted("sohne"), tags=(("kind", "bar"),), without_services=tuple(SERVICES[:2]))
    for wanted in (Wanted(), rare):
        question = Question(48.8, 2.3, NOON_MS, 100, only_open=True, wanted=wanted, speed_kmh=50.0)
        assert nearest(stores, question)
        assert nearest(stores, question._replace(speed_kmh=None))
    assert listed(stores, Listing(NOON_MS, 7, (-180.0, -90.0, 180.0, 90.0)))[0]
    assert nearest_in_cell(stores.places, stores.lats, stores.lons, int(cells.cell_of(48.8, 2.3, 7)), 5).size


def _earth() -> None:
    sphere.great_circle_m(1.0, 2.0, 3.0, 4.0)
    sphere.great_circle_m([1.0], 2.0, 3.0, 4.0)
    sphere.bearing_deg(1.0, 2.0, 3.0, 4.0)
    cell = cells.cell_of(1.0, 2.0, 8)
    cells.distances_m(cell, cells._disk(cell, 3_000.0)[0])
    assert cells.centers([cell])[0].size == 1
    privacy.snap(privacy.ExactPoint(1.0, 2.1), cell)


ACTS: tuple[Callable[[], None], ...] = (_shakes, _presence, _ids, _crowd, _places, _stores, _earth)
# Called by other kernels alone, and by the test that compares it with its twin.
WITHIN = {"texts.siphash24_bytes"}


def test_the_product_runs_every_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    called: set[str] = set()

    def counted(name: str, kernel: Any) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            called.add(name)
            return kernel(*arguments)

        return call

    every = compiled()
    ours = [module for name, module in list(sys.modules.items()) if name.startswith(("geo", "discovery"))]
    for name, kernel in every.items():
        watched = counted(name, kernel)
        for module in ours:
            for held, value in list(vars(module).items()):
                if value is kernel:
                    monkeypatch.setattr(module, held, watched)
    for act in ACTS:
        act()
    assert set(every) - WITHIN - called == set()


CUT = "(vincentys or bearing or siphash or unit_vectors or twin or every_node or flags_name or equals or newcomer_takes"
CUT += " or forgetting or order_read or paging or removed or ordered_by_slot or numbered or adopts or batch)"
CUT += " and not many and not 48_bytes and not really_ran and not compiled_ahead and not one_batch and not snap"
CUT_FILES = ("sphere", "presence", "kdtree", "matching", "crowd", "places", "privacy")


@pytest.mark.timeout(600)
def test_the_same_without_the_compiler() -> None:
    """A cut of the kernels' tests, on the functions as they are written; NumPy says where its numbers run over, which
    machine code does silently, and hashes need."""
    files = [f"tests/geo/test_{name}.py" for name in CUT_FILES] + ["tests/discovery/test_id_table.py"]
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-W", "ignore:overflow", "-k", CUT]
    environment = os.environ | {"NUMBA_DISABLE_JIT": "1", "NEARHIVE_TEST_SCALE": "1"}
    done = subprocess.run([*command, *files], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed
    assert int(passed[1]) >= 50


def test_two_threads_answer_as_one(seed: int, scale: int) -> None:
    """Cells, an index of people built of them and its pages; a batch of places is in ``test_places_many``."""
    random = np.random.default_rng(seed)
    n = 20_000 * scale
    lats, lons = 48.8 + random.normal(0, 0.3, n), 2.3 + random.normal(0, 0.4, n)
    keys, slots = random.integers(0, 2**64, n, dtype=np.uint64), random.permutation(n).astype(np.int32)
    shown, nobody = np.ones(n, np.int64), np.empty(0, np.int32)
    viewers = [h3.latlng_to_cell(lats[i], lons[i], 7) for i in range(50)]

    def answers(_: int) -> list[bytes]:
        found = cells.cells_of(lats, lons, 7)
        crowd = Crowd(found, keys, slots)
        pages = [crowd.page(BandsAround(cell, 5), 77, None, 50, shown, 0, nobody) for cell in viewers]
        return [found.tobytes(), *(part.tobytes() for page in pages for part in page)]

    alone = answers(0)
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(answers, range(4))) == [alone] * 4
