"""A Cluster of 3 + 3 and a service, each of the seven on a host of its own (see ``netns``)."""

import asyncio
import contextlib
import subprocess
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from discovery.store.embedded import find_binary
from tests import service as service_module
from tests.cluster_servers import ClusterServers, cluster_options
from tests.faults.netns import Network, network
from tests.faults.subject import LIMITS_OFF, MANY_BOTTLES, Subject
from tests.servers import Server, _die_with_this_process
from tests.service import NEARHIVE, _free_ports

NODES = 6
APP = NODES + 1  # number of the service's host


class HostServer(Server):
    """A server on host ``host`` of a network."""

    def __init__(self, net: Network, host: int, folder: Path) -> None:
        super().__init__(find_binary(), folder, *cluster_options(), "--protected-mode", "no")
        self._net = net
        self.host = host

    @property
    def name(self) -> str:
        return f"{self._net.address(self.host)}:{self.port}"

    def spawn(self) -> None:
        assert threading.current_thread() is threading.main_thread(), "servers are started from the main thread"
        arguments = [self._net.address(self.host) if one == "127.0.0.1" else one for one in self._arguments()]
        with (self.folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                self._net.command(self.host, [str(self._binary), *arguments]),
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                preexec_fn=_die_with_this_process,
            )

    def ask(self, *command: str | int, timeout_s: float = 2.0) -> Any:
        with redis.Redis(
            host=self._net.address(self.host),
            port=self.port,
            protocol=2,
            retry=Retry(NoBackoff(), 0),
            socket_timeout=timeout_s,
            decode_responses=True,
            driver_info=None,
        ) as client:
            client.response_callbacks.clear()
            return client.execute_command(*command)


class HostCluster(ClusterServers):
    """Six servers on hosts 1 to 6."""

    def __init__(self, net: Network, folder: Path) -> None:
        self.hosts = [HostServer(net, host, folder / str(host)) for host in range(1, NODES + 1)]
        self.nodes = self.hosts

    def host_of(self, server: Server) -> int:
        """The number of its host."""
        return next(node.host for node in self.hosts if node is server)

    def host_of_replica(self, master: Server) -> int:
        """The number of the host of a master's replica."""
        return self.host_of(self.replicas_of(master)[0])


@contextlib.contextmanager
def clustered(folder: Path) -> Iterator[tuple[Network, HostCluster]]:
    """The network with a started Cluster."""
    with network(APP) as net:
        cluster = HostCluster(net, folder)
        try:
            cluster.start()
            yield net, cluster
        finally:
            net.heal()
            cluster.stop()


@contextlib.asynccontextmanager
async def hosted(
    net: Network, cluster: HostCluster, folder: Path, monkeypatch: pytest.MonkeyPatch, **settings: str
) -> AsyncIterator[Subject]:
    """The service on its host; its ports are reached through loopback, as those of any other."""
    wrapper = folder / "nearhive"
    inside = " ".join(net.command(APP, [str(NEARHIVE)]))
    wrapper.write_text(f'#!/bin/sh\nexec {inside} "$@" --host {net.address(APP)}\n')
    wrapper.chmod(0o755)
    monkeypatch.setattr(service_module, "NEARHIVE", wrapper)
    chosen = LIMITS_OFF | MANY_BOTTLES | {"log_level": "warning", "epoch_s": "1", "state_url": cluster.url}
    service = Subject(folder, chosen | settings)
    service.port, service.admin_port = _free_ports(2)
    try:
        async with _forwarded(service.port, net.address(APP)):
            await asyncio.to_thread(service.start)
            yield service
    finally:
        await asyncio.to_thread(service.end)


@contextlib.asynccontextmanager
async def _forwarded(port: int, address: str) -> AsyncIterator[None]:
    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            there = await asyncio.open_connection(address, port)
            await asyncio.gather(_copy(reader, there[1]), _copy(there[0], writer))

    server = await asyncio.start_server(forward, "127.0.0.1", port)
    try:
        yield
    finally:
        server.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    finally:
        writer.close()
