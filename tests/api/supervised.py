"""A small real program under the supervisor: ``python -m tests.api.supervised DATA_DIR [key=value ...]``.

Its workers answer HTTP on the shared sockets: /pid, /incr (a durable counter), /slow (answers after a second),
/die (ends the worker at once). Prints one JSON line when all are ready.
"""

import asyncio
import json
import os
import signal
import sys
from pathlib import Path

from api.supervisor import DemoContext, Plan, Running, WorkerContext, serve
from discovery.store.client import State


async def _answer(path: str, state: State) -> str:
    if path == "/incr":
        return str(await state.call("INCR", "counter"))
    if path == "/slow":
        await asyncio.sleep(1.0)
    if path == "/die":
        os._exit(3)
    return str(os.getpid())


async def _work(context: WorkerContext) -> None:
    state = State(context.state_url)
    await state.open()
    busy: set[asyncio.Task[None]] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        busy.add(task)
        try:
            path = (await reader.readuntil(b"\r\n\r\n")).split()[1].decode()
            body = await _answer(path, state)
            writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n{body}".encode())
            await writer.drain()
        finally:
            writer.close()
            busy.discard(task)

    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    sockets = [*context.public, *(context.admin or [])]
    servers = [await asyncio.start_server(handle, sock=sock) for sock in sockets]
    context.ready()
    await stopped.wait()
    for server in servers:
        server.close()
    await asyncio.gather(*busy)
    await state.close()


def _worker(context: WorkerContext) -> None:
    if os.environ.get("SUPERVISED_BROKEN"):
        raise RuntimeError("this worker cannot start")
    asyncio.run(_work(context))


def _demo(context: DemoContext) -> None:
    context.ready()
    signal.pause()


def _ready(running: Running) -> None:
    server = running.embedded.pid if running.embedded else None
    line = {"port": running.public_port, "admin": running.admin_port, "server": server, "pid": os.getpid()}
    print(json.dumps(line | {"url": running.state_url, "durability": running.durability}), flush=True)


def main() -> int:
    given = dict(argument.split("=", 1) for argument in sys.argv[2:])
    plan = Plan(
        host="127.0.0.1",
        port=int(given.get("port", 0)),
        workers=int(given.get("workers", 2)),
        admin_host="127.0.0.1",
        admin_port=0,
        data_dir=Path(sys.argv[1]),
        state_url=given.get("state_url", ""),
        valkey_bin=given.get("valkey_bin", ""),
        epoch_ms=30_000,
        demo="demo" in given,
        durability_weak="weak" in given,
    )
    return serve(plan, _worker, _demo, _ready)


if __name__ == "__main__":
    sys.exit(main())
