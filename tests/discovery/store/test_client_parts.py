"""The pure parts of the state client: breaker, routing of commands, URLs, and what ends a batch of writes."""

from collections.abc import Callable

import pytest
from redis.exceptions import ReadOnlyError, ResponseError

from discovery.store import durability
from discovery.store.breaker import OPENS_AFTER_S, PROBE_EVERY_S, Breaker
from discovery.store.calls import Command, key_of, refusal
from discovery.store.durability import Server
from discovery.store.lane import Ack
from discovery.store.scripts import Script
from discovery.store.topology import StateUrlRefused, is_cluster, parse_cluster_url


class Clock:
    """Timers of a clock that the test moves."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self._timers: list[tuple[float, Callable[[], None]]] = []

    def later(self, delay_s: float, act: Callable[[], None]) -> "Entry":
        timer = (self.now_s + delay_s, act)
        self._timers.append(timer)
        return Entry(self._timers, timer)

    def sleep(self, delay_s: float) -> None:
        self.now_s += delay_s
        for timer in [timer for timer in self._timers if timer[0] <= self.now_s + 1e-9]:
            self._timers.remove(timer)
            timer[1]()


class Entry:
    """A timer of Clock."""

    def __init__(self, timers: list[tuple[float, Callable[[], None]]], timer: tuple[float, Callable[[], None]]) -> None:
        self._timers = timers
        self._timer = timer

    def cancel(self) -> None:
        if self._timer in self._timers:
            self._timers.remove(self._timer)


def test_the_breaker_opens_after_half_a_second_of_failures() -> None:
    clock = Clock()
    breaker = Breaker(clock.later)
    assert not breaker.failed()
    clock.sleep(OPENS_AFTER_S - 0.01)
    assert not breaker.failed()
    assert breaker.admits()
    clock.sleep(0.01)
    assert breaker.admits(), "silence alone opens nothing"
    assert breaker.failed()
    assert breaker.is_open
    assert not breaker.failed(), "it is open already"
    admitted = []
    for _ in range(11):
        admitted.append(breaker.admits())
        clock.sleep(PROBE_EVERY_S / 5)
    assert admitted == [False] * 5 + [True] + [False] * 4 + [True]
    assert breaker.replied()
    assert not breaker.is_open
    assert breaker.admits()
    assert not breaker.replied(), "it is closed already"


def test_a_reply_in_between_keeps_the_breaker_closed() -> None:
    clock = Clock()
    breaker = Breaker(clock.later)
    for _ in range(100):
        assert not breaker.failed()
        clock.sleep(OPENS_AFTER_S * 0.8)
        assert not breaker.failed()
        breaker.replied()
    assert not breaker.is_open


@pytest.mark.parametrize(
    ("command", "key"),
    [
        (("GET", "{a}:b"), "{a}:b"),
        (("get", b"{a}:b"), "{a}:b"),
        (("XADD", "{a}:s", "*", "k", "v"), "{a}:s"),
        (("XREAD", "COUNT", 5, "BLOCK", 10, "STREAMS", "{a}:s", "0"), "{a}:s"),
        (("XREAD", "streams", "{a}:s", "0"), "{a}:s"),
        (("XINFO", "STREAM", "{a}:s"), "{a}:s"),
        (("EVALSHA", "00", 1, "{a}:s", "x"), "{a}:s"),
        (("TIME",), None),
        (("INFO", "server"), None),
        (("SCAN", 0), None),
        (("RANDOMKEY",), None),
    ],
)
def test_a_command_is_routed_by_its_key(command: Command, key: str | None) -> None:
    assert key_of(command) == key


def test_only_an_error_before_the_script_began_is_not_run() -> None:
    assert refusal(ReadOnlyError("You can't write", status_code="READONLY")) == "READONLY"
    assert refusal(ResponseError("OOM command not allowed")) == "OOM"
    assert refusal(ResponseError("OOM command not allowed script: 6b1b, on @user_script:1.")) is None
    assert refusal(ResponseError("ERR no such key")) is None


def test_a_cluster_url_names_seeds_login_and_options() -> None:
    url = parse_cluster_url("rediss+cluster://me:p%40ss@one:7000,[::1]:7001,three?ssl_cert_reqs=none")
    assert url.seeds == ("one:7000", "::1:7001", "three:6379")
    assert url.of_node("10.0.0.1:7002") == "rediss://me:p%40ss@10.0.0.1:7002?ssl_cert_reqs=none"
    assert url.of_node("::1:7001") == "rediss://me:p%40ss@[::1]:7001?ssl_cert_reqs=none"
    assert is_cluster("redis+cluster://h")
    assert not is_cluster("redis://h")
    with pytest.raises(StateUrlRefused):
        is_cluster("unix+cluster:///x")


ALWAYS = Server("yes", "always", knows_waitaof=False)
EACH_SECOND = Server("yes", "everysec", knows_waitaof=True)
EACH_SECOND_7_0 = Server("yes", "everysec", knows_waitaof=False)
MEMORY = Server("no", "always", knows_waitaof=True)
HIDDEN = Server(None, None, knows_waitaof=True)


@pytest.mark.parametrize(
    ("servers", "name"),
    [
        ([ALWAYS], "always"),
        ([EACH_SECOND], "waitaof"),
        ([EACH_SECOND_7_0], "weak"),
        ([MEMORY], "weak"),
        ([HIDDEN], "weak"),
        ([ALWAYS, ALWAYS, ALWAYS], "always+wait1"),
        ([EACH_SECOND, EACH_SECOND, Server("yes", "always", knows_waitaof=True)], "waitaof1+1"),
        ([ALWAYS, EACH_SECOND, EACH_SECOND], "weak"),
        ([ALWAYS, ALWAYS, MEMORY], "weak"),
        ([], "weak"),
    ],
)
def test_durability_is_that_of_the_weakest_server(servers: list[Server], name: str) -> None:
    judged = durability.one_server(servers[0]) if len(servers) == 1 else durability.of_cluster(servers)
    assert judged.name == name
    assert (judged.ack is None) == (name in ("always", "weak"))


def test_an_acknowledgement_counts_every_copy_that_was_asked_for() -> None:
    wait, both = Ack("WAIT", (1,), 1.0), Ack("WAITAOF", (1, 1), 60.0)
    assert wait.packed(3.0) == b"*3\r\n$4\r\nWAIT\r\n$1\r\n1\r\n$4\r\n1000\r\n"
    assert wait.packed(0.5).endswith(b"$3\r\n450\r\n"), "the answer must come before the deadline"
    assert wait.packed(0.0001).endswith(b"$1\r\n1\r\n"), "0 would wait for ever"
    assert [wait.is_met(reply) for reply in (0, 1, 2, ResponseError("ERR"))] == [False, True, True, False]
    assert [both.is_met(reply) for reply in ([1, 0], [0, 1], [1, 1], [1, 2])] == [False, False, True, True]


def test_a_script_writes_unless_it_says_otherwise() -> None:
    assert Script("tick").lasting
    assert not Script("tick", lasting=False).lasting
