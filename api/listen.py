"""Listening sockets, bound before anything else is started, so that a taken port leaves nothing behind."""

import errno
import os
import socket

_BACKLOG = 2048


class PortRefused(Exception):
    """An address that cannot be listened on; the text names it."""


def listen(host: str, port: int) -> list[socket.socket]:
    """Sockets that listen on every address of ``host``. Port 0 takes a free one. Raises PortRefused.

    They listen at once: of two processes that only bound the port with SO_REUSEADDR, both would believe to have it.
    """
    sockets: list[socket.socket] = []
    try:
        for family, address in _addresses(host, port):
            opened = _listen_on(family, address)
            if opened is not None:
                sockets.append(opened)
            if port == 0 and sockets:
                break  # a second address would get another port
        if not sockets:
            raise PortRefused(f"cannot listen on {host}:{port}: no such address on this machine")
    except BaseException:
        close_all(sockets)
        raise
    return sockets


def close_all(sockets: list[socket.socket]) -> None:
    """Close every socket of the list and empty it."""
    while sockets:
        sockets.pop().close()


def port_of(sockets: list[socket.socket]) -> int:
    """The port that the first socket listens on."""
    port: int = sockets[0].getsockname()[1]
    return port


def _addresses(host: str, port: int) -> list[tuple[int, tuple[str, int]]]:
    try:
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (socket.gaierror, UnicodeError) as error:
        raise PortRefused(f"cannot listen on {host}:{port}: {error}") from None
    return list(dict.fromkeys((int(row[0]), (str(row[4][0]), int(row[4][1]))) for row in found))


def _listen_on(family: int, address: tuple[str, int]) -> socket.socket | None:
    """A listening socket, or None for an address family or address that this machine does not have."""
    shown = f"[{address[0]}]:{address[1]}" if family == socket.AF_INET6 else f"{address[0]}:{address[1]}"
    try:
        opened = socket.create_server(address, family=family, backlog=_BACKLOG)
    except OSError as error:
        if error.errno in {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}:
            return None
        if error.errno == errno.EADDRINUSE:
            raise PortRefused(f"cannot listen on {shown}: the port is taken") from None
        raise PortRefused(f"cannot listen on {shown}: {os.strerror(error.errno or 0)}") from None
    opened.setblocking(False)
    return opened
