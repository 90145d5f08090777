"""Every key that a world has is one of ``discovery/store/keys.py``, with its type, its TTL and its hash tag.

The patterns come from the functions themselves: each is called with placeholders. What a function's docstring says of
type and TTL stands in a table here as well, and each must agree with the other.
"""

import asyncio
import inspect
import io
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

import pytest

from discovery.hive import Hive
from discovery.moderation import Decision
from discovery.reporting import Target
from discovery.request_quota import RequestQuota
from discovery.store import keys
from discovery.store.client import State
from discovery.store.stream_rewrite import Page, StreamRewrite
from discovery.stores import shelves
from discovery.stores.changing import Changing
from tests.footings import Footing
from tests.model.acts import Act
from tests.model.machine import run_acts
from tests.model.product import Product
from tests.world import PARIS

HOUR_S, DAY_S = 3600, 86_400
READY_S = 60.0

Ttl = Literal["never", "always", "sometimes"]


@dataclass(frozen=True)
class Rule:
    """What keys of one function look like. ``most_s``: the longest TTL that one may have."""

    kind: str
    ttl: Ttl
    most_s: int = 0


RULES = {
    "Shards.person": Rule("hash", "never"),
    "Shards.friend_halves": Rule("hash", "never"),
    "Shards.blocks": Rule("hash", "never"),
    "requests": Rule("hash", "always", 2 * DAY_S),
    "Shards.operation": Rule("string", "always", DAY_S),
    "Shards.operations": Rule("zset", "always", DAY_S),
    "Shards.mutes": Rule("hash", "never"),
    "Shards.reports": Rule("hash", "always", 90 * DAY_S),
    "Shards.case": Rule("hash", "always", 90 * DAY_S),
    "cases": Rule("zset", "never"),
    "moderation_log": Rule("stream", "never"),
    "report_target": Rule("string", "always", 90 * DAY_S),
    "sea_case": Rule("hash", "always", 90 * DAY_S),
    "world": Rule("hash", "never"),
    "workers": Rule("hash", "never"),
    "demo_ready": Rule("string", "always", DAY_S),
    "feed": Rule("stream", "never"),
    "feed_copy": Rule("stream", "always", 10),
    "feed_lock": Rule("string", "always", 10),
    "leader": Rule("string", "never"),
    "fence": Rule("string", "never"),
    "leases": Rule("hash", "never"),
    "tombstones": Rule("hash", "never"),
    "erasing": Rule("hash", "never"),
    "checkpoint": Rule("hash", "never"),
    "checkpoint_chunk": Rule("string", "sometimes", HOUR_S),
    "sea_index": Rule("hash", "never"),
    "sea_holds": Rule("zset", "never"),
    "sea_ends": Rule("zset", "never"),
    "sea_bottle": Rule("hash", "sometimes", 6 * DAY_S),
    "sea_replies": Rule("list", "always", 6 * DAY_S),
    "sea_seen": Rule("zset", "always", 6 * DAY_S),
    "sea_quota": Rule("hash", "always", DAY_S + HOUR_S),
    "sea_operation": Rule("string", "always", DAY_S),
    "sea_mine": Rule("zset", "always", 6 * DAY_S),
    "sea_withheld": Rule("hash", "never"),
    "brands": Rule("set", "never"),
    "stores_changing": Rule("set", "never"),
    "brand_meta": Rule("hash", "never"),
    "brand_keys": Rule("hash", "never"),
    "brand_usage": Rule("hash", "always", 92 * DAY_S),
    "demand_key": Rule("string", "always", 2 * DAY_S),
    "demand_days": Rule("hash", "never"),
    "demand_counts": Rule("hash", "always", 3 * DAY_S),
    "demand_searchers": Rule("set", "always", 3 * DAY_S),
    "demand_rows": Rule("string", "always", 400 * DAY_S),
    "brand_versions": Rule("string", "never"),
    "brand_current": Rule("hash", "never"),
    "brand_chunk": Rule("string", "sometimes", HOUR_S),
    "brand_zones": Rule("hash", "never"),
    "brand_zone_order": Rule("zset", "never"),
}

_ID = r"[A-Za-z0-9][A-Za-z0-9._:@|=+-]{0,127}"
_HEX_32, _HEX_16 = "[0-9a-f]{32}", "[0-9a-f]{16}"
PARAMETERS = {
    "user": _ID,
    "person": f"(?:person )?{_ID}",
    "purpose": "[a-z]+",
    "key_hash": _HEX_16,
    "tag": r"s\d\d|shake|sea",
    "version": r"[A-Za-z0-9-]+",
    "index": r"\d+",
    "bottle_id": _HEX_32,
    "report_id": _HEX_32,
    "operation_hash": _HEX_32,
    "quota_name": _HEX_32,
    "brand": _ID,
    "day": r"\d+",
}
NO_KEYS = {"shard_tag", "Shards.of", "Shards.all"}


# --- the functions and their patterns ---


def functions() -> dict[str, Callable[..., str]]:
    """Every public function of the module and of ``Shards`` that names a key."""
    found = {
        name: each for name, each in inspect.getmembers(keys, inspect.isfunction) if each.__module__ == keys.__name__
    }
    found |= {f"Shards.{name}": each for name, each in inspect.getmembers(keys.Shards, inspect.isfunction)}
    return {name: each for name, each in found.items() if not each.__name__.startswith("_") and name not in NO_KEYS}


def arguments(function: Callable[..., str]) -> list[str]:
    return [name for name in inspect.signature(function).parameters if name != "self"]


def named(name: str, shards: keys.Shards, values: dict[str, Any]) -> str:
    """The key of a function for these arguments."""
    function = functions()[name]
    return function(shards, **values) if name.startswith("Shards.") else function(**values)


def pattern(name: str) -> re.Pattern[str]:
    """The function's key with placeholders, made a regular expression."""
    wanted = arguments(functions()[name])
    template = re.escape(named(name, keys.Shards(1), {each: f"<{each}>" for each in wanted}))
    if name.startswith("Shards."):  # the tag follows from the person: checked by naming the key again
        template = template.replace(re.escape("{s00}"), r"\{s\d\d\}", 1)
    for each in wanted:
        template = template.replace(re.escape(f"<{each}>"), f"(?P<{each}>{PARAMETERS[each]})", 1)
    return re.compile(template)


def matching(key: str, shards: keys.Shards) -> list[str]:
    """Names of the functions that give this very key."""
    found = []
    for name, each in PATTERNS.items():
        match = each.fullmatch(key)
        if match is not None and named(name, shards, match.groupdict()) == key:
            found.append(name)
    return found


PATTERNS = {name: pattern(name) for name in functions()}


# --- what stands in the state ---


async def all_keys(state: State) -> list[str]:
    """On all masters."""
    found: set[str] = set()
    for master in state.masters():
        cursor = b"0"
        while True:
            cursor, some = await state.call_at(master, "SCAN", cursor, "COUNT", 500)
            found.update(key.decode() for key in some)
            if cursor in (b"0", 0):
                break
    return sorted(found)


async def fault(state: State, key: str, shards: keys.Shards) -> str | None:
    """What is wrong with a key, None when nothing is."""
    names = matching(key, shards)
    if len(names) != 1:
        return f"{key} is a key of {names or 'no function'}"
    rule = RULES[names[0]]
    kind, left_ms = (await state.call("TYPE", key)), await state.call("PTTL", key)
    if left_ms == -2:
        return None  # it ended since it was listed
    kind = kind.decode() if isinstance(kind, bytes) else kind
    if kind != rule.kind:
        return f"{key} is a {kind}, not a {rule.kind}"
    lasting = rule.ttl == "never" or (rule.ttl == "sometimes" and await stays(state, names[0], key))
    if lasting != (left_ms == -1):
        return f"{key} has {left_ms} ms to live"
    return f"{key} lives for {left_ms} ms" if left_ms > 1000 * rule.most_s and not lasting else None


async def stays(state: State, name: str, key: str) -> bool:
    """Whether a key that has a TTL at times should have none now."""
    match = PATTERNS[name].fullmatch(key)
    assert match is not None
    if name == "sea_bottle":
        return await state.call("HGET", key, "state") in (b"f", b"p")
    version = match["version"].encode()
    if name == "brand_chunk":
        return bool(await state.call("HGET", keys.brand_current(match["brand"]), "version") == version)
    return bool(await state.call("HGET", keys.checkpoint(match["tag"]), "version") == version)


async def faults(state: State, shards: int) -> tuple[list[str], set[str]]:
    """All that is wrong with the keys that stand now, and the functions that named the others."""
    found, seen = [], set()
    for key in await all_keys(state):
        wrong = await fault(state, key, keys.Shards(shards))
        if wrong is not None:
            found.append(wrong)
        seen.update(matching(key, keys.Shards(shards)))
    return found, seen


# --- every feature once ---


def act(name: str, u: int = 0, **args: Any) -> Act:
    return name, {"w": 0, "u": u, **args}


def every_feature() -> list[Act]:
    everybody = [
        each
        for u in range(4)
        for each in (
            act("move", u, point=PARIS, accuracy_m=None, ttl_s=7200),
            act("settings", u, visibility="everyone", until_s=None, bottles=True),
        )
    ]
    rows = [{"u": 4, "point": PARIS, "accuracy_m": None, "ttl_s": 7200}]
    bottles = [act("throw", u, text="x", again=False) for u in (0, 0, 1)]
    bottles += [act("pick", u, again=False) for u in (2, 3)]
    bottles.append(act("reply", 2, n=0, by="holder", text="y", again=False))
    bottles += [act("reply", 2, n=n, by="holder", text="y", again=False) for n in (1, 2)]
    bottles += [act("throw", 5, text="z", again=False), act("delete_bottle", n=0, by="author"), act("end", n=1)]
    checkpoint = act("checkpoint", share=1.0)
    return [
        *everybody,
        act("befriend", 0, v=1, precision="near", until_s=None, both=True),
        act("block", 0, v=3),
        act("app_positions", rows=rows),
        act("app_pairs", rows=[{"a": 1, "b": 2, "op": "add", "guardian": False}]),
        act("app_user", 5, visibility="nobody", consent=True, age="adult", suspended={"radar": 60}),
        act("settings", 5, visibility=None, until_s=None, bottles=True),
        act("shake", 0, others=[1], point=PARIS, reach="nearby", limit=5, again=False),
        *bottles,
        act("block_other", 2, n=3, by="holder"),
        act("throw", 1, text="x", again=False),
        act("pick", 2, again=False),
        checkpoint,
        act("clear", 1),
        checkpoint,
        act("restart", which=[0, 1]),
        *(act(name, u) for name in ("friends", "blocks", "see_position") for u in (0, 1)),
        act("nearby", radius_m=5000, limit=30),
        act("radar", radius_m=5000),
        act("my_bottles", limit=100),
    ]


async def run_moderation(product: Product) -> None:
    """A person and a bottle reported, decided and appealed against."""
    hive = product.workers[0].hive
    users = [user for user in hive.people.ids if hive.presence.is_live(slot_of(hive, user), hive.now_ms)][:2]
    thrown = await hive.bottles.throw(users[0], "report me", "x", None)
    bottle = (await hive.bottles.pick(users[1], "to report")).bottle
    found = thrown.bottle_id if bottle is None else bottle.bottle_id
    for target in (Target("user", users[0]), Target("bottle", found)):
        report_id = await hive.reports.report(users[1], f"of {target.name}", target, "spam", "")
        await hive.moderation.decide(Decision("admin", report_id, "suspend"))
    await hive.moderation.appeal(users[0], "why?")
    for target_id in ("someone", "else"):
        await hive.reports.report(users[1], target_id, Target("user", target_id), "spam", "")
    third = next(user for user in hive.people.ids if user not in users)
    await hive.reports.report(third, "third", Target("user", users[1]), "spam", "")
    await hive.bottles.sweep()  # tells the sea who is withheld


async def run_rights(product: Product) -> None:
    """A friendship asked for where requests are counted; a person mutes another, and a third one is erased, and the
    shake stream is being written anew."""
    hive = product.workers[0].hive
    await RequestQuota(hive.people, hive.writer, on=True).take("asking", "asked")
    await hive.safety.mute("muting", "muted")
    await hive.safety.block("erased", "other")
    await hive.erasure.erase("erased", int(1000 * time.time()))
    [(first, _)] = await product.state.call("XRANGE", keys.feed(keys.SHAKE_TAG), "-", "+", "COUNT", 1)
    assert await StreamRewrite(product.state, keys.SHAKE_TAG, "begun").step(b"", Page(first, []))


def slot_of(hive: Hive, user: str) -> int:
    slot = hive.people.slot(user)
    assert slot is not None
    return slot


async def run_stores(product: Product) -> None:
    """A brand, its key, two imports; an import that ended before its set was made current; a change not yet told."""
    stores = product.workers[0].hive.stores
    await stores.put_brand("acme", "Acme")
    await stores.new_key("acme")
    stores.usage.charge("acme", "k_1", None)
    await stores.usage.flush()
    hive = product.workers[0].hive
    await hive.demand.flush()
    hive.demand.note("acme", 1.0, 1.0, ["wifi"], "somebody")
    await hive.demand.flush()
    await product.state.call("SET", keys.demand_rows("acme", 1), b"x", "EX", HOUR_S)
    for lat in (1, 2):
        await stores.import_stores("acme", "text/csv", io.BytesIO(b"store_id,lat,lon\na,%d,1\n" % lat))
    await stores.put_zone("acme", "a", {"type": "Polygon", "coordinates": [[[0, 0], [2, 0], [2, 3], [0, 0]]]})
    await shelves.write_set(product.state, "acme", [b"left behind"])
    await Changing(product.state, os.urandom).begin("acme")


async def run_demo(url: str, folder: Path, state: State) -> None:
    """A service with the living demo, as small as can be, until its world stands and its workers have said so."""
    settings = {"STATE_URL": url, "DATA_DIR": str(folder), "EPOCH_S": "1", "QUICK_DEADLINE_S": "3"}
    environment = {name: value for name, value in os.environ.items() if not name.startswith("NEARHIVE_")}
    environment |= {f"NEARHIVE_{name}": value for name, value in settings.items()}
    with (folder / "demo.log").open("wb") as log:
        service = await asyncio.to_thread(_start_demo, environment, log)
    try:
        until_s = time.monotonic() + READY_S
        while not (await state.call("GET", keys.demo_ready()) and await state.call("HLEN", keys.workers())):
            assert service.poll() is None, (folder / "demo.log").read_text()[-3000:]
            assert time.monotonic() < until_s, (folder / "demo.log").read_text()[-3000:]
            await asyncio.sleep(0.1)
    finally:
        if service.poll() is None:
            os.killpg(service.pid, signal.SIGINT)
        await asyncio.to_thread(service.wait, 30)


def _start_demo(environment: dict[str, str], log: IO[bytes]) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tests.api.demo_service"]
    return subprocess.Popen(command, env=environment, stdout=log, stderr=log, process_group=0)


# --- tests ---


def test_the_table_and_the_module_know_the_same_functions() -> None:
    assert RULES.keys() == functions().keys()
    assert {each for function in functions().values() for each in arguments(function)} == PARAMETERS.keys()


@pytest.mark.parametrize("name", RULES)
def test_the_docstring_says_what_the_table_says(name: str) -> None:
    text, rule = inspect.getdoc(functions()[name]) or "", RULES[name]
    assert text.partition(".")[0].lower() == rule.kind
    assert "TTL" in text, "it says how long the key lives"
    assert ("No TTL" in text) >= (rule.ttl == "never")
    assert ("No TTL" in text) <= (rule.ttl != "always")


@pytest.mark.timeout(200)
async def test_no_other_key_ever_appears(footing: Footing, footing_state: State, tmp_path: Path, scale: int) -> None:
    """A whole service as well: embedded and on Cluster; in nightly runs, for it takes 8 s, everywhere."""
    shards = 16 if footing.name == "cluster" else 4
    product = Product(footing_state, tmp_path, shards, random.Random(1))
    await product.open()
    try:
        await run_acts(product, every_feature())
        await run_stores(product)
        await run_moderation(product)
        await run_rights(product)
        wrong, seen = await faults(footing_state, shards)
    finally:
        await product.close()
    assert wrong == []
    if scale == 1 and footing.name not in ("embedded", "cluster"):
        assert seen == RULES.keys() - {"workers", "demo_ready"}
        return
    await run_demo(footing.url, tmp_path, footing_state)
    wrong, seen_later = await faults(footing_state, shards)
    assert wrong == []
    assert seen | seen_later == RULES.keys(), "each function named a key"


@pytest.mark.parametrize(
    "planted",
    [
        ("SET", "{s00}:other", "x"),
        ("SET", "{s01}:p:ann", "x"),
        ("SET", "{s00}:p:ann", "x"),
        ("SET", "{s00}:leader", "x", "PX", 5000),
        ("SET", "{s00}:op:shake:0123456789abcdef:ann", "x"),
        ("SET", "{s00}:op:shake:0123456789abcdef:ann", "x", "EX", 2 * DAY_S),
        ("HSET", "{sea}:bottle:0123456789abcdef0123456789abcdef", "state", "e"),
        ("SET", "loose", "x"),
    ],
)
async def test_a_key_that_should_not_be_is_found(state: State, planted: tuple[str | int, ...]) -> None:
    await state.call("HSET", keys.world(), "format", 2)
    assert await faults(state, 1) == ([], {"world"})
    await state.call(*planted)
    wrong, _ = await faults(state, 1)
    assert len(wrong) == 1
