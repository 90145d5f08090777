"""Hosts on one bridge as network namespaces, and what can go wrong between them. Needs root, ``ip`` and ``nft``.

Host n has the address 10.213.X.n; the test itself is 10.213.X.254 and reaches all of them whatever is cut. Cuts are
dropped packets at the receiver, so each is one way: nobody is told anything, as with a pulled cable.
"""

import contextlib
import os
import shutil
import subprocess
from collections.abc import Collection, Iterable, Iterator, Sequence

_TABLE = """
table inet faults {
  set away { type ipv4_addr; }
  chain input { type filter hook input priority 0; policy accept; ip saddr @away drop; }
}
"""


def available() -> bool:
    """Whether this process may make network namespaces here."""
    if os.geteuid() != 0 or shutil.which("ip") is None or shutil.which("nft") is None:
        return False
    name = f"nh-try-{os.getpid()}"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True).returncode == 0
    if made:
        subprocess.run(["ip", "netns", "delete", name], capture_output=True, check=True)
    return made


def left_over() -> list[str]:
    """Namespaces of this process that still stand."""
    label = f"nh{os.getpid() % 0xFFFF:04x}-"
    done = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True)
    return [line for line in done.stdout.splitlines() if line.startswith(label)]


class Network:
    """``count`` hosts, numbered from 1."""

    def __init__(self, count: int) -> None:
        self._label = f"{os.getpid() % 0xFFFF:04x}"
        self._subnet = f"10.213.{os.getpid() % 250}"
        self._bridge = f"nh{self._label}br"
        self.hosts = range(1, count + 1)

    # --- life ---

    def open(self) -> None:
        """Make bridge, namespaces and links."""
        _run("ip", "link", "add", self._bridge, "type", "bridge")
        _run("ip", "address", "add", f"{self._subnet}.254/24", "dev", self._bridge)
        _run("ip", "link", "set", self._bridge, "up")
        for host in self.hosts:
            self._add(host)

    def _add(self, host: int) -> None:
        name, inside, outside = self.name(host), f"nh{self._label}i{host}", f"nh{self._label}o{host}"
        _run("ip", "netns", "add", name)
        _run("ip", "link", "add", outside, "type", "veth", "peer", "name", inside)
        _run("ip", "link", "set", inside, "netns", name)
        _run("ip", "link", "set", outside, "master", self._bridge, "up")
        for command in (
            ("address", "add", f"{self.address(host)}/24", "dev", inside),
            ("link", "set", inside, "up"),
            ("link", "set", "lo", "up"),
        ):
            _run("ip", "-netns", name, *command)
        self._nft(host, _TABLE)

    def close(self) -> None:
        """Take everything away, whatever stands; processes inside must have ended."""
        for host in self.hosts:
            subprocess.run(["ip", "netns", "delete", self.name(host)], capture_output=True)
            subprocess.run(["ip", "link", "delete", f"nh{self._label}o{host}"], capture_output=True)
        subprocess.run(["ip", "link", "delete", self._bridge], capture_output=True)

    # --- hosts ---

    def name(self, host: int) -> str:
        """Of the namespace."""
        return f"nh{self._label}-{host}"

    def address(self, host: int) -> str:
        """IPv4, for everybody on the bridge and for the test."""
        return f"{self._subnet}.{host}"

    def command(self, host: int, command: Sequence[str]) -> list[str]:
        """``command`` as it is run on ``host`` (``ip`` replaces itself by it, so that its pid is the command's)."""
        return ["ip", "netns", "exec", self.name(host), *command]

    # --- faults ---

    def cut(self, senders: Iterable[int], receivers: Collection[int]) -> None:
        """What ``senders`` send no longer reaches ``receivers``; the other way still works."""
        gone = ", ".join(self.address(host) for host in senders)
        for host in receivers:
            self._nft(host, f"add element inet faults away {{ {gone} }}")

    def split(self, one: Collection[int], other: Collection[int]) -> None:
        """Nothing passes between the two groups, either way."""
        self.cut(one, other)
        self.cut(other, one)

    def alone(self, group: Collection[int]) -> None:
        """``group`` apart from all other hosts."""
        self.split(group, [host for host in self.hosts if host not in group])

    def heal(self) -> None:
        """Everything passes again."""
        for host in self.hosts:
            self._nft(host, "flush set inet faults away")

    def _nft(self, host: int, rules: str) -> None:
        _run("ip", "netns", "exec", self.name(host), "nft", "-f", "-", given=rules)


@contextlib.contextmanager
def network(count: int) -> Iterator[Network]:
    """An open network of ``count`` hosts; taken away again whatever happens."""
    opened = Network(count)
    try:
        opened.open()
        yield opened
    finally:
        opened.close()


def _run(*command: str, given: str = "") -> None:
    done = subprocess.run(command, input=given, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")
