"""A worker with one brand of many stores, on a port of its own, and beside the finder an endpoint that does nothing."""

import asyncio
import io
import logging
import os
import random
import socket
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path

import uvicorn
from fastapi import APIRouter
from starlette.responses import Response

from api import logs
from api.dependencies import BrandPath
from api.fail_closed import PromptProtocol
from api.main import create_app
from api.publishable import BrandReader
from api.routes import store_find
from api.settings import load_settings
from api.store_questions import NearestIn
from api.strict_json import StrictRoute
from discovery.stores.store_set import StoreSet
from loadtest.state.world import received, worker

BRAND = "acme"
STORES = f"/v1/brands/{BRAND}/stores"
SOUTH, NORTH, WEST, EAST = 25.0, 49.0, -124.0, -67.0
SERVICES = [f"service{number}" for number in range(8)]
_SHARE = 0.6  # of the stores offers each service
_ENGINE_ASKED = 2_000

_nothing = APIRouter(prefix="/v1/brands/{brand}/stores", route_class=StrictRoute)


@_nothing.post("/nothing")
async def nothing(brand: BrandPath, body: NearestIn, access: BrandReader) -> Response:
    """Takes the request that ``nearest`` takes, with its key and its body, and answers nothing."""
    return Response(b"{}")


def _log_nowhere() -> None:
    """Lines are made as in a service, and cost what they cost; nobody wants to see a hundred thousand of them."""
    for handler in logging.getLogger().handlers:
        assert isinstance(handler, logging.StreamHandler)
        handler.setStream(Path(os.devnull).open("w"))  # noqa: SIM115 - as long as the process lives


async def serve(pipe: Connection, url: str, stores: int, seed: int) -> None:
    """Sends (port, key), then tells on ``processor`` the processor seconds of this process so far, on ``engine`` the
    seconds of calls of the engine, and ends on ``end``."""
    logs.configure("info", "json")
    _log_nowhere()
    with tempfile.TemporaryDirectory(prefix="nearhive-bench-") as directory:
        async with worker(url) as hive:
            await hive.stores.put_brand(BRAND, "Acme")
            await hive.stores.import_stores(BRAND, "text/csv", io.BytesIO(csv_of(stores, seed)))
            _, key = await hive.stores.new_key(BRAND)
            app = create_app(hive, load_settings(data_dir=Path(directory)))
            routes = app.router.routes  # at the place of the other: routes are tried one by one
            places = [route for route in routes if getattr(route, "endpoint", None) is store_find.post_nearest]
            routes.insert(routes.index(places[0]), _nothing.routes[0])
            opened = socket.create_server(("127.0.0.1", 0))
            config = uvicorn.Config(app, http=PromptProtocol, ws="none", lifespan="off", log_config=None)
            config.access_log = config.server_header = config.proxy_headers = False
            server = uvicorn.Server(config)
            serving = asyncio.create_task(server.serve([opened]))
            pipe.send((opened.getsockname()[1], key))
            while (asked := await received(pipe)) != "end":
                stores_held = hive.catalogue.brand(BRAND).stores
                pipe.send(time.process_time() if asked == "processor" else engine_seconds(stores_held, seed))
            server.should_exit = True
            await serving


def csv_of(stores: int, seed: int) -> bytes:
    """Stores of the 48 states, with 28 different hours (nearly all open at some time of any day) and services."""
    draw = random.Random(seed)
    hours = [
        f"Mo-Fr {o:02d}:{m:02d}-{o + 9:02d}:{m:02d}; Sa,Su 10:00-{o + 10}:00" for o in range(6, 13) for m in (0, 30)
    ]
    lines = ["store_id,name,address,city,country,lat,lon,opening_hours,services,tags"]
    for number in range(stores):
        lat, lon = draw.uniform(SOUTH, NORTH), draw.uniform(WEST, EAST)
        offered = ";".join(name for name in SERVICES if draw.random() < _SHARE)
        lines.append(
            f"s{number:06d},Store {number},{number} Main Street,City {number % 1000},US,{lat:.6f},{lon:.6f},"
            f'"{draw.choice(hours)}",{offered},kind=shop;wheelchair=yes'
        )
    return "\n".join(lines).encode()


def engine_seconds(stores: StoreSet, seed: int) -> list[float]:
    """Of the engine alone, asked what ``nearest`` asks it: who is open is a bitmap that stands."""
    draw, now_ms = random.Random(seed), time.time_ns() // 1_000_000
    timelines = stores.windows.at(now_ms)
    if timelines is None:
        raise RuntimeError("nobody has asked who is open")
    places = stores.places.subset(timelines.open_rows(stores.hours_rows, now_ms).words)
    split = stores.services.split(SERVICES[:2])
    seconds = []
    for _ in range(_ENGINE_ASKED):
        lat, lon = draw.uniform(SOUTH, NORTH), draw.uniform(WEST, EAST)
        started_s = time.perf_counter()
        places.nearest(lat, lon, 5, required_mask=split[0] if split else 0)
        seconds.append(time.perf_counter() - started_s)
    return seconds
