"""The demo process: build the world, say so, live in it."""

import asyncio
import io
import json
import sys
import time
from pathlib import Path

import numpy as np

from api import logs
from api.demo import shop
from api.demo.cities import load_cities, load_places
from api.demo.life import READY_TTL_S, Life
from api.demo.population import NEAR, PEOPLE, build
from api.demo.seeding import World, seed
from api.demo.walkers import Walkers
from api.settings import Settings
from api.supervisor import DemoContext
from api.worker import build_hive
from discovery.hive import Hive
from discovery.store import keys
from discovery.store.client import State
from discovery.store.data_dir import write_json

_POLL_S = 0.02


def demo_main(settings: Settings, run: str, context: DemoContext, people: int = PEOPLE, near: int = NEAR) -> None:
    """Run the demo until the process is ended. ``run`` names this run; its workers wait for it."""
    logs.configure(settings.log_level, settings.log_format)
    asyncio.run(live(settings, run, context, people, near))


def say(progress: str) -> None:
    """One line of progress on stderr."""
    print(f"nearhive: demo: {progress}", file=sys.stderr, flush=True)


async def live(settings: Settings, run: str, context: DemoContext, people: int, near: int) -> None:
    """Build the world or find it standing, announce it to the workers, and live in it until cancelled."""
    state = State(context.state_url)
    await state.open()
    hive = build_hive(state, settings)
    try:
        await hive.start()
        followed = asyncio.create_task(hive.followed())
        while not hive.ready()[0]:
            if followed.done():  # it has failed: this process ends, and the next one tries again
                followed.result()
            await asyncio.sleep(_POLL_S)  # the first tick comes within 250 ms, and tells nobody of it
        life = await _build(hive, settings, run, people, near)
        await state.call("SET", keys.demo_ready(), run, "EX", READY_TTL_S)
        context.ready()
        await asyncio.gather(life.run(), followed)
    finally:
        await hive.leave()
        await hive.stop()
        await state.close()


async def _build(hive: Hive, settings: Settings, run: str, people: int, near: int) -> Life:
    population = build(load_places(settings.data_dir), people, near)
    rng = np.random.default_rng()
    world = World(hive, population, Walkers(population.lats, population.lons, rng, time.monotonic()), say)
    hidden = await seed(world)
    await open_shop(hive, key_file(settings))
    return Life(world, hidden, rng, time.monotonic, run)


def key_file(settings: Settings) -> Path:
    """Where the demo brand's key is kept between starts."""
    return settings.data_dir / "demo.json"


def brand_key(path: Path) -> str | None:
    """The kept key, None when there is none."""
    try:
        key = json.loads(path.read_text("utf-8"))["brand_key"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return key if isinstance(key, str) else None


async def _end_lost_keys(hive: Hive) -> None:
    """The file with the key of an earlier run is gone, and a brand has two at most."""
    for key_id, key in (await hive.stores.keys.of(shop.BRAND)).items():
        if key.kind == "secret":
            await hive.stores.keys.revoke(shop.BRAND, key_id)


async def open_shop(hive: Hive, path: Path) -> None:
    """The demo brand with its stores, and a key of it in ``path``, where they are missing."""
    found = hive.catalogue.find(shop.BRAND)
    if found is None:
        await hive.stores.put_brand(shop.BRAND, shop.BRAND_NAME, shop.WEBSITE)
    if found is None or found.version == 0:
        file = await asyncio.to_thread(lambda: shop.stores_csv(load_cities()))
        done = await hive.stores.import_stores(shop.BRAND, "text/csv", io.BytesIO(file))
        say(f"stores: {done.difference.added:,} simulated stores imported")
    kept = brand_key(path)
    if kept is None or not hive.stores.key_allows(shop.BRAND, kept):
        await _end_lost_keys(hive)
        _, made = await hive.stores.new_key(shop.BRAND)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_json(path, {"brand": shop.BRAND, "brand_key": made})
