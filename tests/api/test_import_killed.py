"""kill -9 of the whole service in the middle of an import: the old set serves again, whole."""

import asyncio
import random
import time
from pathlib import Path

from tests.service import Connection, Service, serving

STORES = 20_000
OLD = b"store_id,name,lat,lon\n" + b"".join(b"old-%d,Old,%f,2.35\n" % (n, 48 + n / 1000) for n in range(7))


def new_stores(count: int) -> bytes:
    rows = (
        f"new-{n},New {n},{n % 180 - 90},{n % 359 - 180},{n} some street of a town,wifi;parking" for n in range(count)
    )
    return ("store_id,name,lat,lon,address,services\n" + "\n".join(rows)).encode()


async def put(connection: Connection, service: Service, content: bytes) -> int:
    headers = service.operator | {"Content-Type": "text/csv"}
    return (await connection.ask("PUT", "/v1/brands/acme/stores", content, headers)).status


async def ids(connection: Connection, service: Service) -> list[str]:
    body = {"lat": 48.0, "lon": 2.35, "limit": 20}
    answer = await connection.ask("POST", "/v1/brands/acme/stores/nearest", body, service.operator)
    return [feature["id"] for feature in answer.ok()["features"]]


async def killed_after(service: Service, content: bytes, wait_s: float) -> None:
    async with service.connections(1) as (connection,):
        importing = asyncio.create_task(put(connection, service, content))
        await asyncio.sleep(wait_s)
        service.kill()
        await asyncio.gather(importing, return_exceptions=True)


async def test_a_killed_import_leaves_the_old_set(tmp_path: Path, seed: int, scale: int) -> None:
    """Killed at random times: while the file is read, packed, written and swapped, or just after."""
    draws, content = random.Random(seed), new_stores(STORES)
    old = [f"old-{n}" for n in range(7)]
    with serving(tmp_path) as service:
        async with service.connections(1) as (connection,):
            (await connection.ask("PUT", "/v1/brands/acme", {"name": "Acme"}, service.operator)).ok()
            assert await put(connection, service, OLD) == 200
            started_s = time.monotonic()
            assert await put(connection, service, content + b"\nbad,Bad,north,1,,") == 422
            reading_s = time.monotonic() - started_s
            assert await ids(connection, service) == old
        for share in (0.5, *(draws.uniform(0.2, 2.5) for _ in range(2 * scale))):
            await killed_after(service, content, share * reading_s)
            service.start()
            async with service.by_worker() as groups:
                found = [await ids(group[0], service) for group in groups]
                assert found[0] == found[1]
                assert found[0] == old or (share > 1 and all(one.startswith("new-") for one in found[0]))
                if share == 0.5:
                    assert found[0] == old
                if found[0] != old:
                    assert await put(groups[0][0], service, OLD) == 200
