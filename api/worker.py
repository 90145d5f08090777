"""One worker process: a hive that follows the feeds, and the HTTP servers in front of it."""

import asyncio
import contextlib
import gc
import os
import secrets
import signal
import socket
import time
from collections.abc import Iterator

import orjson
import structlog
import uvicorn
import uvloop
from fastapi import FastAPI

from api import logs
from api.fail_closed import PromptProtocol
from api.main import create_admin_app, create_app
from api.metrics import AtWork, Metrics, half_seconds, two_digits
from api.settings import Settings
from api.sparse_areas import load_sparse_areas
from api.supervisor import WorkerContext
from discovery.errors import StateAway
from discovery.hive import Hive, Rules
from discovery.store import keys
from discovery.store.client import State, StateFault
from discovery.store.world import shards_of_a_new_world
from discovery.store.world_record import Moved

_HOST = socket.gethostname()
_STATUS_PERIOD_S = 1.0
_DEMO_POLL_S = 0.05
_START_RETRY_S = 0.2
_SWEEP_PERIOD_S = 60.0
_GONE_MS = 60_000
_FIRST_TICK_S = 5.0  # a leader that was killed is replaced after 2 s
_READY_LOOK_S = 0.01
_LINGER_S = 5.0  # how long idle connections may still bring a request at an orderly end, to be told that they close
_LAST_ANSWERS_S = 4  # and then how long open requests may take: together below the supervisor's 10 s
_LINGER_LOOK_S = 0.02

log = structlog.get_logger("nearhive.worker")


def hive_clock() -> float:
    """Seconds of a clock that is never set and counts suspended time, so that hive time does not fall behind."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def build_hive(state: State, settings: Settings) -> Hive:
    """The hive of one process, as the settings say."""
    assert settings.privacy_secret is not None
    rules = Rules(
        shake_window_ms=round(1000 * settings.shake_window_s),
        require_age=settings.require_age,
        speed_limit=settings.speed_limit,
        exposure_caps=settings.exposure_caps,
        sparse_areas=load_sparse_areas(settings.data_dir) if settings.sparse_areas else None,
        bottle_throws_per_day=settings.bottle_throws_per_day,
        bottle_picks_per_day=settings.bottle_picks_per_day,
        quick_deadline_s=settings.quick_deadline_s,
        erasure_log=settings.erasures,
        reports_per_day=settings.reports_per_day,
        appeal_contact=settings.appeal_contact,
    )
    secret = settings.privacy_secret.get_secret_value().encode()
    return Hive(state, secret, rules, lambda: secrets.randbits(32), secrets.token_bytes, hive_clock)


def worker_main(settings: Settings, demo_run: str, context: WorkerContext) -> None:
    """Run one worker until SIGTERM. With ``demo_run`` it is ready only when that run has built its world."""
    logs.configure(settings.log_level, settings.log_format)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(Worker(settings, demo_run, context).run())


class Worker:
    """The parts of one worker and their life."""

    def __init__(self, settings: Settings, demo_run: str, context: WorkerContext) -> None:
        self._settings = settings
        self._demo_run = demo_run
        self._context = context
        self._state = State(context.state_url)
        self._hive = build_hive(self._state, settings)
        self._metrics = Metrics()
        self._servers: list[tuple[QuietServer, list[socket.socket]]] = []
        self._apps: list[FastAPI] = []
        self._folded = asyncio.Event()
        self._ending: asyncio.Task[None] | None = None
        # Workers of several hosts share the state: the number alone is not a name.
        self._name = f"{context.number}-{self._hive.worker[:4]}"
        self._edge_ms = 0
        self._row_people = 0

    async def run(self) -> None:
        """Serve from the start (503 until the feed is folded), until SIGTERM. A successor serves once it is ready."""
        asyncio.get_running_loop().set_exception_handler(logs.loop_exception_handler)
        self._add_server(create_app(self._hive, self._settings, metrics=self._metrics), self._context.public)
        if self._context.admin is not None:
            admin = create_admin_app(self._hive, self._settings, metrics=self._metrics)
            self._add_server(admin, self._context.admin)
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self._stop)
        living = asyncio.create_task(self._live())
        serving = asyncio.create_task(self._serve())
        try:
            await asyncio.wait({living, serving}, return_when=asyncio.FIRST_COMPLETED)
            if not serving.done():  # a worker that no longer follows the feed must not live on: it ends, another starts
                log.error("worker_failed", exc_info=living.exception())
                self._end(0.0)
            await serving
        finally:
            failed = living.done() and not living.cancelled()
            await self._hive.leave()
            living.cancel()
            await asyncio.gather(living, return_exceptions=True)
            await self._hive.stop()
            await asyncio.gather(*(app.state.text_check.close() for app in self._apps))
            await self._state.close()
        if failed:
            raise SystemExit(1)

    async def _serve(self) -> None:
        if self._context.successor:
            await self._folded.wait()
        await asyncio.gather(*(server.serve(sockets) for server, sockets in self._servers))

    def _add_server(self, app: FastAPI, sockets: list[socket.socket]) -> None:
        config = uvicorn.Config(
            app,
            http=PromptProtocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=_LAST_ANSWERS_S,
        )
        app.state.read_only = self._context.read_only
        self._apps.append(app)
        self._servers.append((QuietServer(config), sockets))

    def _stop(self) -> None:
        """SIGTERM. At Ctrl-C nobody takes over, so there is nothing to wait for."""
        self._end(0.0 if self._context.interrupted() else _LINGER_S)

    def _end(self, linger_s: float) -> None:
        if self._ending is None:
            self._ending = asyncio.create_task(self._drain(linger_s))

    async def _drain(self, linger_s: float) -> None:
        """Take no more connections; each answer from now on closes its own. Then end the servers."""
        for app in self._apps:
            app.state.draining = True
        await asyncio.gather(*(server.linger(linger_s) for server, _ in self._servers))
        for server, _ in self._servers:
            server.should_exit = True
        self._folded.set()  # a successor that never served

    async def _live(self) -> None:
        """Connect, fold, then keep the status row and the metrics fresh."""
        self._hive.hold("whom the log of erasures knows is being erased again")
        await self._start()
        await self._apply_erasures()
        self._hive.release()
        if self._demo_run:
            self._hive.hold("the demo world is being built")
        gc.collect()
        gc.freeze()  # what stands now stays: collections look only at what requests make
        gc.set_threshold(10_000, 50, 100)
        if self._demo_run:
            await self._wait_for_demo()
        await self._wait_until_ready()
        self._folded.set()
        self._context.ready()
        await asyncio.gather(self._report(), self._sweep(), self._hive.followed())

    async def _start(self) -> None:
        """Until the state answers: a server that loads its data, or is being restarted, comes back."""
        while True:
            try:
                if not self._state.is_open:
                    await self._state.open()
                if self._settings.state_url:  # the embedded one takes no write without `always`, also on a full disk
                    await self._state.check_durability(weak=self._settings.durability == "weak")
                await self._hive.start(shards_of_a_new_world(self._settings.state_url))
                self._hive.keep_house(1000 * self._settings.epoch_s)
                return
            except StateAway as error:
                log.warning("waiting_for_state", reason=error.detail)
            except Moved as moved:  # a copy that fails gives the state back
                log.warning("waiting_for_state", reason=str(moved))
            await asyncio.sleep(_START_RETRY_S)

    async def _apply_erasures(self) -> None:
        """Until it is done: before that somebody erased might be shown."""
        while True:
            try:
                await self._hive.erasure.apply_log()
                return
            except (StateAway, StateFault, OSError) as error:
                if self._context.read_only():  # a disk that is full takes neither; nobody is answered until it is not
                    log.warning("erasures_not_applied", reason="the disk is full")
                else:
                    log.warning("erasures_not_applied", error=type(error).__name__, reason=str(error))
            await asyncio.sleep(_START_RETRY_S)

    async def _wait_until_ready(self) -> None:
        """For the first tick and the leases; not long, for a state that takes no writes gives neither."""
        until_s = time.monotonic() + _FIRST_TICK_S
        while not self._hive.ready()[0] and time.monotonic() < until_s and not self._context.read_only():  # noqa: ASYNC110
            await asyncio.sleep(_READY_LOOK_S)

    async def _wait_for_demo(self) -> None:
        while not await self._demo_stands():  # noqa: ASYNC110
            await asyncio.sleep(_DEMO_POLL_S)  # a key of the state: no event of this process tells of it
        self._hive.release()

    async def _demo_stands(self) -> bool:
        with contextlib.suppress(StateAway):
            return bool(await self._state.call("GET", keys.demo_ready()) == self._demo_run.encode())
        return False

    async def _report(self) -> None:
        while True:
            try:
                await self._report_once()
            except (StateAway, StateFault) as error:
                log.warning("status_not_written", error=type(error).__name__)
            await asyncio.sleep(_STATUS_PERIOD_S)

    async def _report_once(self) -> None:
        status = self._hive.status()
        if self._hive.presence.edge_ms != self._edge_ms:
            self._edge_ms = self._hive.presence.edge_ms
            self._row_people = two_digits(self._hive.presence.count_live(self._hive.now_ms))
            self._metrics.at_edge(self._row_people, self._hive.shakes.take_count())
        self._metrics.at_work(self._at_work())
        row = {
            "pid": os.getpid(),
            "host": _HOST,
            "at_ms": time.time_ns() // 1_000_000,
            "people": self._row_people,
            "lag_s": half_seconds(self._hive.lag_s()),
            **status,
        }
        await self._state.call("HSET", keys.workers(), self._name, orjson.dumps(row))

    def _at_work(self) -> AtWork:
        hive = self._hive
        return AtWork(
            workers_ready=hive.ready()[0],
            lag_s=hive.lag_s(),
            leases_missing=len(hive.leases.missing()),
            streams_led=len(hive.led()),
            streams=hive.shards.count + 1,
            read_only=self._context.read_only(),
        )

    async def _forget_the_gone(self) -> None:
        """Rows of workers that were killed: nobody else removes them."""
        flat = await self._state.call("HGETALL", keys.workers())
        oldest_ms = time.time_ns() // 1_000_000 - _GONE_MS
        gone = [name for name, row in zip(flat[::2], flat[1::2], strict=True) if orjson.loads(row)["at_ms"] < oldest_ms]
        if gone:
            await self._state.call("HDEL", keys.workers(), *gone)

    async def _sweep(self) -> None:
        """Where nobody throws or picks, lapsed holds go back to the sea and ended bottles end all the same."""
        while True:
            await asyncio.sleep(_SWEEP_PERIOD_S)
            with contextlib.suppress(StateAway, StateFault):
                await self._hive.bottles.sweep()
                await self._forget_the_gone()


class QuietServer(uvicorn.Server):
    """uvicorn without its own signal handlers: the worker has two servers, and SIGINT belongs to the supervisor."""

    async def linger(self, longest_s: float) -> None:
        """Take no more connections, and wait until those that are open are closed.

        uvicorn's own end closes idle connections at once, also one on which a request is just arriving.
        """
        if not self.started:
            return
        for server in self.servers:
            server.close()
        until_s = time.monotonic() + longest_s
        while self.server_state.connections and time.monotonic() < until_s:  # noqa: ASYNC110 (uvicorn tells nobody)
            await asyncio.sleep(_LINGER_LOOK_S)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals alone."""
        yield
