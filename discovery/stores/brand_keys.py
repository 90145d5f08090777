"""API keys of a brand: made, listed, revoked. At most two of a kind live at once, so that one can follow the other."""

import re
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager

import orjson

from discovery.errors import Conflict, Invalid, NotFound
from discovery.store import keys
from discovery.store.client import State
from discovery.store.scripts import Script
from discovery.stores.catalogue import Brand, BrandKey, hash_key

LIVE_KEYS = 2
"""Of a kind: the old one answers until every page and server has the new one."""
MAX_ORIGINS = 20
MAX_QUOTA = 10**9

_BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_KEY_BYTES = 20
_KEY_CHARS = 27  # 62**27 > 2**160
_KEY_ID_BYTES = 8
_PREFIXES = {"secret": "nh_sk_", "publishable": "nh_pk_"}
_ADD = Script("brand_key")
# RFC 6454: scheme, host and port; a host may begin with one "*." for all names below it.
_ORIGIN = re.compile(
    r"(https?)://((?:\*\.)?[a-z0-9](?:[a-z0-9.-]{0,250}[a-z0-9])?|\[[0-9a-f:.]{2,45}\])(?::(\d{1,5}))?"
)
_DEFAULT_PORTS = {"http": "80", "https": "443"}


class BrandKeys:
    """``require(brand)`` gives the brand as the state has it, or raises ``NotFound``; ``told(brand)`` is entered around
    a change that all workers must know on leaving; ``random(n)`` gives n unpredictable bytes."""

    def __init__(
        self,
        state: State,
        require: Callable[[str], Awaitable[Brand]],
        told: Callable[[str], AbstractAsyncContextManager[None]],
        random: Callable[[int], bytes],
    ) -> None:
        self._state = state
        self._require = require
        self._told = told
        self._random = random

    async def make(
        self, brand: str, kind: str, origins: Sequence[str] = (), quota_per_day: int | None = None, now_ms: int = 0
    ) -> tuple[str, str, BrandKey]:
        """A new key: its id, the key itself, which is kept nowhere, and what is kept of it.

        Raises ``NotFound`` (brand), ``Invalid`` (kind, origins, quota), ``Conflict`` when two of the kind live.
        """
        prefix = _PREFIXES.get(kind)
        if prefix is None:
            raise Invalid("must be secret or publishable", "kind")
        bound = _checked_origins(kind, origins)
        if quota_per_day is not None and not 1 <= quota_per_day <= MAX_QUOTA:
            raise Invalid(f"must be from 1 to {MAX_QUOTA}", "quota_per_day")
        await self._require(brand)
        key_id = "k_" + self._random(_KEY_ID_BYTES).hex()
        key = prefix + base62(self._random(_KEY_BYTES), _KEY_CHARS)
        kept = BrandKey(kind, hash_key(key), bound, quota_per_day, now_ms)
        async with self._told(brand):
            await self._write(brand, key_id, kept)
        return key_id, key, kept

    async def _write(self, brand: str, key_id: str, key: BrandKey) -> None:
        both = [keys.brand_meta(brand), keys.brand_keys(brand)]
        done = int(await self._state.run(_ADD, both, [key_id, _row_of(key), key.kind, LIVE_KEYS]))
        if done < 0:
            raise NotFound("no such brand")
        if done == 0:
            raise Conflict(f"{LIVE_KEYS} {key.kind} keys of this brand live already: revoke one first")

    async def of(self, brand: str) -> dict[str, BrandKey]:
        """Key id -> key, the oldest first. Raises ``NotFound``."""
        found = (await self._require(brand)).keys
        return dict(sorted(found.items(), key=lambda row: (row[1].made_ms, row[0])))

    async def revoke(self, brand: str, key_id: str) -> None:
        """End a key: no worker takes it when this returns. Raises ``NotFound`` (brand or key), ``StateAway``."""
        if key_id not in (await self._require(brand)).keys:
            raise NotFound("no such key")
        async with self._told(brand):
            await self._state.call("HDEL", keys.brand_keys(brand), key_id)


def key_of(row: str) -> BrandKey:
    """The key of a row of the state; rows of earlier versions have a kind and a hash alone."""
    fields = orjson.loads(row)
    return BrandKey(
        fields["kind"],
        bytes.fromhex(fields["sha256"]),
        tuple(fields.get("origins", ())),
        fields.get("quota_per_day"),
        fields.get("made_ms", 0),
    )


def _row_of(key: BrandKey) -> bytes:
    return orjson.dumps(
        {
            "kind": key.kind,
            "sha256": key.sha256.hex(),
            "origins": key.origins,
            "quota_per_day": key.quota_per_day,
            "made_ms": key.made_ms,
        }
    )


def origin_of(text: str) -> str | None:
    """An origin as browsers write it: lower case, without the scheme's own port. None for anything else."""
    match = _ORIGIN.fullmatch(text.lower())
    if match is None or int(match[3] or 1) not in range(1, 65_536):
        return None
    scheme, host, port = match.groups()
    return f"{scheme}://{host}" + (f":{int(port)}" if port and port != _DEFAULT_PORTS[scheme] else "")


def may_use(key: BrandKey, origin: str) -> bool:
    """Whether a page of this origin may use a publishable key."""
    presented = origin_of(origin)
    return presented is not None and "*" not in presented and any(_covers(one, presented) for one in key.origins)


def _covers(bound: str, presented: str) -> bool:
    before, star, after = bound.partition("*")
    return bound == presented if not star else presented.startswith(before) and presented.endswith(after)


def _checked_origins(kind: str, origins: Sequence[str]) -> tuple[str, ...]:
    if kind == "secret":
        if origins:
            raise Invalid("go with publishable keys: a secret key is for servers", "origins")
        return ()
    if not 1 <= len(origins) <= MAX_ORIGINS:
        raise Invalid(f"must be 1 to {MAX_ORIGINS} origins of the pages that will use the key", "origins")
    found = [origin_of(origin) for origin in origins]
    if None in found:
        raise Invalid("must be origins, as https://www.example.com or https://*.example.com", "origins")
    return tuple(dict.fromkeys(origin for origin in found if origin is not None))


def base62(data: bytes, length: int) -> str:
    """The number that ``data`` is (big-endian) in base 62, with leading zeros to ``length`` characters."""
    value, digits = int.from_bytes(data, "big"), ""
    for _ in range(length):
        value, digit = divmod(value, 62)
        digits = _BASE62[digit] + digits
    return digits
