"""What an acknowledgement of the state means, by how its servers are set up."""

from dataclasses import dataclass

from discovery.store.lane import Ack

_WAIT_S = 1.0  # a replica answers within its link's round trip; one that does not is not there
_WAITAOF_S = 60.0  # `everysec` syncs once a second, later on a busy disk: as long as the deadline allows


class DurabilityRefused(Exception):
    """A server given by URL that does not keep what it acknowledges."""


@dataclass(frozen=True, slots=True)
class Server:
    """How one server keeps what it is told; None where it does not let itself be asked."""

    appendonly: str | None
    appendfsync: str | None
    knows_waitaof: bool

    @property
    def syncs_first(self) -> bool:
        return self.appendonly == "yes" and self.appendfsync == "always"

    @property
    def tells_sync(self) -> bool:
        """Whether WAITAOF can tell that a write is on disk."""
        return self.syncs_first or (self.appendonly == "yes" and self.appendfsync == "everysec" and self.knows_waitaof)


@dataclass(frozen=True, slots=True)
class Durability:
    """``name`` for display, and what must end each batch of writes."""

    name: str
    ack: Ack | None


WEAK = Durability("weak", None)


def one_server(server: Server) -> Durability:
    """Of the only server."""
    if server.syncs_first:
        return Durability("always", None)
    return Durability("waitaof", Ack("WAITAOF", (1, 0), _WAITAOF_S)) if server.tells_sync else WEAK


def of_cluster(servers: list[Server]) -> Durability:
    """Of a Cluster, by every server that is or may become a master: its disk and the memory or disk of a replica."""
    if servers and all(server.syncs_first for server in servers):
        return Durability("always+wait1", Ack("WAIT", (1,), _WAIT_S))
    if servers and all(server.tells_sync and server.knows_waitaof for server in servers):
        return Durability("waitaof1+1", Ack("WAITAOF", (1, 1), _WAITAOF_S))
    return WEAK


def refused(servers: list[Server]) -> DurabilityRefused:
    """Says what is wrong and the two ways out."""
    bad = next(server for server in servers if not server.tells_sync) if servers else Server(None, None, False)
    found = {"appendonly": bad.appendonly, "appendfsync": bad.appendfsync}
    shown = ", ".join(f"{name} = {value or 'not readable'}" for name, value in found.items())
    return DurabilityRefused(
        f"the state server answers before its data is on disk ({shown}); set 'appendonly yes' and "
        "'appendfsync always' there, or accept the loss of acknowledged writes with NEARHIVE_DURABILITY=weak"
    )
