"""The one process that starts, watches and ends all others of ``nearhive serve``.

Order of start: ports, data directory, state server, first ticks, workers and demo; of the end: the other way round.
Children are forked between event loops, never inside one: a fork of a running loop would share its epoll descriptor,
its connections and its signal pipe. So each session of the loop ends when a child must be started again.
"""

import asyncio
import contextlib
import resource
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import structlog

from api.children import Lifeline, Main, Ready, SharedFlag, Slot
from api.listen import PortRefused, close_all, listen, port_of
from api.metrics import forget_process
from discovery.errors import StateAway
from discovery.store import keys, world_record
from discovery.store.client import DurabilityRefused, State, StateFault, StateUrlRefused
from discovery.store.data_dir import DataDir, DataDirBusy, DataDirUnsafe
from discovery.store.embedded import EmbeddedServer, ServerFailed, ServerMissing
from discovery.store.world import WorldTooNew, open_world, shards_of_a_new_world
from discovery.store.written_by import ServerMismatch

REFUSED = 2  # exit status: nothing was started
FAILED = 1  # exit status: started, but could not go on

_LOOK_S = 0.05
_DRAIN_S = 10.0
_STATE_RETRY_S = 1.0
_SPACE_LOOK_S = 0.25
_START_FAILURES = 3  # workers that never became ready and failed this often will not start by trying again

_START_REFUSALS = (
    PortRefused,
    DataDirBusy,
    DataDirUnsafe,
    ServerMissing,
    ServerMismatch,
    ServerFailed,
    DurabilityRefused,
    StateAway,
    StateFault,
    StateUrlRefused,
    WorldTooNew,
    world_record.Moved,
    world_record.Unfinished,
)

log = structlog.get_logger("nearhive.supervisor")


@dataclass(frozen=True, slots=True)
class Plan:
    """What to run. Empty ``state_url`` = the embedded server in ``data_dir``, run by ``valkey_bin`` if not empty."""

    host: str
    port: int
    workers: int
    admin_host: str
    admin_port: int
    data_dir: Path
    state_url: str
    valkey_bin: str
    epoch_ms: int
    demo: bool
    durability_weak: bool


@dataclass(frozen=True, slots=True)
class WorkerContext:
    """What a worker gets. ``ready`` is to be called once, when requests are answered.

    A ``successor`` takes no connection before it is ready: until then the one that it replaces serves, under the same
    number. ``read_only`` says that the disk is full, ``interrupted`` that the end was asked for by Ctrl-C.
    """

    number: int
    workers: int
    public: list[socket.socket]
    admin: list[socket.socket] | None
    state_url: str
    durability: str
    ready: Ready
    successor: bool = False
    read_only: SharedFlag = field(default_factory=SharedFlag)
    interrupted: SharedFlag = field(default_factory=SharedFlag)


@dataclass(frozen=True, slots=True)
class DemoContext:
    """What the demo process gets. ``ready`` is to be called once, when its world stands."""

    state_url: str
    public_port: int
    ready: Ready


@dataclass(frozen=True, slots=True)
class Running:
    """What ``on_ready`` is told: all workers, and the demo if there is one, are ready."""

    public_port: int
    admin_port: int
    state_url: str
    embedded: EmbeddedServer | None
    durability: str


def serve(
    plan: Plan,
    worker_main: Callable[[WorkerContext], None],
    demo_main: Callable[[DemoContext], None] | None = None,
    on_ready: Callable[[Running], None] = lambda _: None,
    prepare: Callable[[], None] = lambda: None,
) -> int:
    """Run until SIGINT, SIGTERM or SIGHUP; returns the exit status. To be called from the main thread.

    SIGUSR1 replaces the workers one after the other. SIGTERM and SIGHUP leave idle connections some seconds, so that
    the next answer on each can say that it closes; Ctrl-C (SIGINT) closes them at once.

    ``prepare`` imports what the children need, once for all of them, while the state server loads its data.
    """
    _keep_no_cores()
    supervisor = Supervisor(plan, worker_main, demo_main if plan.demo else None, on_ready, prepare)
    with supervisor.signals():
        try:
            return supervisor.run()
        except _START_REFUSALS as refusal:
            if supervisor.stopping:
                return 0
            print(f"nearhive: {refusal}", file=sys.stderr, flush=True)
            return REFUSED


def _keep_no_cores() -> None:
    """A core file would hold exact points and keys. The children inherit the limit, the state server too."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))


class Supervisor:
    """One run of ``serve``."""

    def __init__(
        self,
        plan: Plan,
        worker_main: Callable[[WorkerContext], None],
        demo_main: Callable[[DemoContext], None] | None,
        on_ready: Callable[[Running], None],
        prepare: Callable[[], None],
    ) -> None:
        self._plan = plan
        self._worker_main = worker_main
        self._demo_main = demo_main
        self._on_ready = on_ready
        self._prepare = prepare
        self._announced = False
        self._stop_requests = 0
        self._public: list[socket.socket] = []
        self._admin: list[socket.socket] = []
        self._data_dir: DataDir | None = None
        self._server: EmbeddedServer | None = None
        self._server_due_s = 0.0
        self._space_due_s = 0.0
        self._read_only = SharedFlag()
        self._interrupted = SharedFlag()
        self._to_replace: list[Slot] = []
        self._lifeline = Lifeline()
        self._workers = [
            Slot(f"worker {number}", self._worker(number), on_end=forget_process) for number in range(plan.workers)
        ]
        self._demo = [Slot("demo", self._run_demo, may_finish=True)] if demo_main else []
        self._ending: tuple[list[Slot], float] | None = None  # the group that was told to end, and until when

    @property
    def stopping(self) -> bool:
        return self._stop_requests > 0

    @contextlib.contextmanager
    def signals(self) -> Iterator[None]:
        """Count requests to stop. Nothing is raised from a handler, so no step is ever left half done."""
        before: dict[signal.Signals, Any] = {}
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:  # nohup
                before[number] = signal.signal(number, self._request_stop)
        before[signal.SIGUSR1] = signal.signal(signal.SIGUSR1, self._request_replacement)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _request_stop(self, number: int, _frame: FrameType | None) -> None:
        self._interrupted.set(number == signal.SIGINT)
        self._stop_requests += 1

    def _request_replacement(self, _number: int, _frame: FrameType | None) -> None:
        self._to_replace = list(self._workers)

    def run(self) -> int:
        """Start everything, watch it, end everything. Raises one of the refusals before any child was forked."""
        with ExitStack() as stack:
            stack.callback(self._lifeline.close)
            self._open_ports(stack)
            self._open_state(stack)
            stack.callback(self._end_children)
            return self._watch()

    def _open_ports(self, stack: ExitStack) -> None:
        stack.callback(self._close_ports)
        self._public = listen(self._plan.host, self._plan.port)
        self._admin = listen(self._plan.admin_host, self._plan.admin_port)

    def _close_ports(self) -> None:
        close_all(self._public)
        close_all(self._admin)

    def _open_state(self, stack: ExitStack) -> None:
        if self._plan.state_url:
            self._prepare()
        url = self._plan.state_url or self._start_server(stack)
        self._state = State(url)
        self._durability = asyncio.run(self._check_state())
        self._running = Running(port_of(self._public), port_of(self._admin), url, self._server, self._durability)

    def _start_server(self, stack: ExitStack) -> str:
        self._data_dir = DataDir.take(self._plan.data_dir, time.monotonic)
        stack.callback(self._data_dir.release)
        self._server = EmbeddedServer(self._data_dir, time.monotonic, binary=self._plan.valkey_bin)
        stack.callback(self._server.stop)
        self._server.start(on_progress=_say, given_up=lambda: self.stopping, meanwhile=self._prepare)
        self._read_only.set(self._server.read_only)
        return self._server.url

    async def _check_state(self) -> str:
        """Refuse a server that does not keep what it acknowledges, and data of a later version.

        One that is away now is waited for by the workers, who refuse alike.
        """
        try:
            await self._state.open()
            if self._read_only():  # nothing can be written, and the workers will find what there is
                return "always"
            durability = await self._state.check_durability(weak=self._plan.durability_weak)
            await world_record.refuse_elsewhere(self._state)
            shards = await open_world(self._state, shards=shards_of_a_new_world(self._plan.state_url))
            if self._server is not None:
                await self._forget_the_dead(keys.Shards(shards))
        except StateAway as away:
            if self._server is not None:
                raise
            _say(f"{away.detail}: waiting for it; until then all answers about people are 503")
            return "unknown"
        finally:
            await self._state.close()
        return durability

    async def _forget_the_dead(self, shards: keys.Shards) -> None:
        """No worker of an embedded state outlives its supervisor, so nobody need wait 2 s for those of the last run."""
        for tag in (*map(keys.shard_tag, shards.all()), keys.SHAKE_TAG):
            await self._state.call("DEL", keys.leader(tag), keys.leases(tag))

    def _watch(self) -> int:
        while True:
            if self._ended():
                return 0
            if not self.stopping:
                self._start_what_is_missing()
            if asyncio.run(self._session()) is FAILED:
                return FAILED

    def _start_what_is_missing(self) -> None:
        now_s = time.monotonic()
        if self._server is not None and not self._server.running and now_s >= self._server_due_s:
            self._restart_server(self._server)
        for slot in self._slots():
            if slot.due(now_s):
                slot.start(self._lifeline, now_s)
        if self._replacement_is_due():
            self._to_replace.pop(0).replace(self._lifeline, now_s)

    def _restart_server(self, server: EmbeddedServer) -> None:
        log.error("state_server_ended", restarting=True)
        try:
            server.stop()
            server.start(wary=True, on_progress=_say, given_up=lambda: self.stopping)
        except (ServerFailed, ServerMismatch) as error:
            log.error("state_server_start_failed", error=str(error))
        self._read_only.set(server.read_only)
        self._server_due_s = time.monotonic() + _STATE_RETRY_S

    async def _session(self) -> int | None:
        """Look after the children until something must be forked or everything has ended."""
        while not self._ended():
            now_s = time.monotonic()
            self._look_at(self._slots(), now_s)
            self._keep_space(now_s)
            if not self.stopping:
                self._announce()
                if self._hopeless():
                    return FAILED
                if self._something_is_due(now_s):
                    return None
            await asyncio.sleep(_LOOK_S)
        return None

    def _look_at(self, slots: list[Slot], now_s: float) -> None:
        for slot in slots:
            if not slot.look(now_s, stopping=self.stopping, drain_s=_DRAIN_S):
                self._to_replace.clear()  # a new worker does not start, so the old ones stay
                log.error("replacement_given_up")

    def _keep_space(self, now_s: float) -> None:
        if self._server is not None and now_s >= self._space_due_s:
            self._space_due_s = now_s + _SPACE_LOOK_S
            if self._server.keep_space():
                self._read_only.set(self._server.read_only)

    def _something_is_due(self, now_s: float) -> bool:
        server_due = self._server is not None and not self._server.running and now_s >= self._server_due_s
        return server_due or any(slot.due(now_s) for slot in self._slots()) or self._replacement_is_due()

    def _replacement_is_due(self) -> bool:
        """One worker at a time, and only while all others stand."""
        if any(slot.changing or slot.child is None or not slot.child.ready for slot in self._workers):
            return False
        return bool(self._to_replace)

    def _slots(self) -> list[Slot]:
        return [*self._workers, *self._demo]

    def _announce(self) -> None:
        if not self._announced and all(slot.was_ready for slot in self._slots()):
            self._announced = True
            self._on_ready(self._running)

    def _hopeless(self) -> bool:
        never_ready = not any(slot.was_ready for slot in self._workers)
        if never_ready and any(slot.failures >= _START_FAILURES for slot in self._workers):
            print("nearhive: the workers do not start; see the messages above", file=sys.stderr, flush=True)
            return True
        return False

    def _ended(self) -> bool:
        """One step of the orderly end, workers before the demo; True when all children are gone."""
        if not self.stopping:
            return False
        self._close_ports()
        group = next((g for g in (self._workers, self._demo) if not all(slot.empty for slot in g)), None)
        if group is None:
            return True
        now_s = time.monotonic()
        if self._ending is None or self._ending[0] is not group:
            self._ending = (group, now_s + _DRAIN_S)
            _signal_all(group, signal.SIGTERM)
        if self._stop_requests > 1 or now_s > self._ending[1]:
            _signal_all(group, signal.SIGKILL)
        return False

    def _end_children(self) -> None:
        """For every way out of :meth:`run`: no child is left when it returns."""
        self._stop_requests = max(self._stop_requests, 1)
        while not self._ended():
            self._look_at(self._slots(), time.monotonic())
            threading.Event().wait(_LOOK_S)

    def _close_in_child(self) -> None:
        if self._server is not None:
            self._server.close_in_child()
        if self._data_dir is not None:
            self._data_dir.close_in_child()

    def _worker(self, number: int) -> Main:
        def main(ready: Ready, successor: bool) -> None:
            self._close_in_child()
            admin = self._admin if number == 0 else None
            if admin is None:
                close_all(self._admin)
            url, durability = self._running.state_url, self._durability
            count = self._plan.workers
            flags = (self._read_only, self._interrupted)
            self._worker_main(
                WorkerContext(number, count, self._public, admin, url, durability, ready, successor, *flags)
            )

        return main

    def _run_demo(self, ready: Ready, _successor: bool) -> None:
        public_port = self._running.public_port
        self._close_in_child()
        self._close_ports()
        if self._demo_main is not None:
            self._demo_main(DemoContext(self._running.state_url, public_port, ready))


def _signal_all(slots: list[Slot], number: signal.Signals) -> None:
    for slot in slots:
        slot.signal(number)


def _say(progress: str) -> None:
    print(f"nearhive: {progress}", file=sys.stderr, flush=True)
