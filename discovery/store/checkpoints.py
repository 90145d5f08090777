"""Checkpoints of one shard on the server: written by the shard's leader, read by whoever starts or lost its place.

A checkpoint is immutable chunks under a version of their own and a hash that names the current one. One fenced script
flips the hash and trims the feed up to where the checkpoint *before* stood: then whoever is still reading that one, or
was at the end of the feed a moment ago, goes on without a gap. Chunks of a leader that died before the flip expire.
"""

import asyncio
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import orjson

from discovery.errors import StateAway
from discovery.store import keys
from discovery.store.client import State
from discovery.store.feed import EntryId, parse_id
from discovery.store.scripts import Script

NEW_CHUNK_TTL_MS = 3_600_000  # until made current
REPLACED_CHUNK_TTL_MS = 60_000  # who is reading them ends in peace
LEAST_TAIL_BYTES = 16_000_000  # about a second of folding reports
ENTRY_AS_BYTES = 320  # any entry is 20 us of folding beside its bytes
LEAST_PAUSE_S = 10.0
EPOCHS_APART = 2
_READ_AT_ONCE = 4  # chunks: more in one batch would hold up everybody else's calls
_READ_TRIES = 5

_FLIP = Script("checkpoint")
_TRIM = Script("checkpoint_trim")

Outcome = Literal["ok", "fenced", "changed", "behind", "lost", "lapsed"]


class CheckpointBroken(Exception):
    """The current checkpoint lacks a chunk or does not fit its checksum: the shard cannot be restored from it."""


@dataclass(frozen=True, slots=True)
class Current:
    """The current checkpoint without its chunks. ``offset``: the last entry folded; ``meta``: what the writer said."""

    version: str
    chunks: int
    bytes: int
    checksum: int
    offset: EntryId
    meta: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Loaded:
    """The current checkpoint, whole."""

    current: Current
    chunks: list[bytes]


@dataclass(frozen=True, slots=True)
class Written:
    """What :meth:`Checkpoints.write` did. Anything but ``ok`` changed nothing: ``fenced`` another leads, ``changed``
    another checkpoint was made current meanwhile, ``behind`` the current one stands further on, ``lost`` the entry that
    it stands on is not in the feed (a failover lost it, or the state was emptied), ``lapsed`` a new chunk expired
    before the flip. ``trimmed``: entries that left the feed."""

    outcome: Outcome
    trimmed: int


@dataclass(frozen=True, slots=True)
class Progress:
    """What has happened in a shard since its current checkpoint, as its leader sees it.

    ``pause_s``: seconds since one was written, or this leader last tried to, whichever is later. ``entries`` folded
    since then other than ticks, ``tail_bytes`` of all. ``last_bytes`` and ``last_edge_ms``: size of the current
    checkpoint and the edge at which it stands, 0 = there is none. ``erasing``: somebody erased is in an entry or a
    checkpoint that stands.
    """

    pause_s: float
    entries: int
    tail_bytes: int
    last_bytes: int
    edge_ms: int
    last_edge_ms: int
    epoch_ms: int
    erasing: bool = False


def is_due(since: Progress) -> bool:
    """Whether to write a checkpoint now: the tail has outgrown it, or two epochs have passed in which anything changed.

    Never within 10 s of the one before: the feed is trimmed to where that one stood, and a follower that was at its end
    just now relies on finding its place again.
    """
    outgrown = since.tail_bytes + ENTRY_AS_BYTES * since.entries > max(LEAST_TAIL_BYTES, since.last_bytes)
    first = since.last_bytes == 0
    if since.pause_s < LEAST_PAUSE_S and not (first and outgrown):
        return False
    if outgrown or since.erasing:
        return True
    return since.entries > 0 and since.edge_ms - since.last_edge_ms >= EPOCHS_APART * since.epoch_ms > 0


class Checkpoints:
    """The checkpoints of the stream of ``tag``. Each method raises StateAway when the state is away."""

    def __init__(self, state: State, tag: str) -> None:
        self._state = state
        self._tag = tag

    async def current(self) -> Current | None:
        """What the current checkpoint is, without reading it."""
        reply = await self._state.call("HGETALL", keys.checkpoint(self._tag))
        fields = dict(zip(reply[::2], reply[1::2], strict=True))
        if not fields:
            return None
        return Current(
            version=fields[b"version"].decode(),
            chunks=int(fields[b"chunks"]),
            bytes=int(fields[b"bytes"]),
            checksum=int(fields[b"checksum"]),
            offset=parse_id(fields[b"offset"]),
            meta=orjson.loads(fields[b"meta"]),
        )

    async def write(
        self,
        token: str,
        version: str,
        chunks: Sequence[bytes],
        offset: EntryId,
        meta: dict[str, Any],
        *,
        replaced_ttl_ms: int = REPLACED_CHUNK_TTL_MS,
    ) -> Written:
        """Make ``chunks`` the current checkpoint, of the state at ``offset``, if ``token`` (``worker|token``) still
        leads. The chunks that it replaces stay for ``replaced_ttl_ms``.

        ``version``: never used before, by any leader; each try takes a new one. ValueError when it was. After
        StateAway(outcome_unknown) the checkpoint may be current: ``current`` tells.
        """
        before = await self.current()
        await self._put_chunks(version, chunks)
        outcome, *trimmed = await self._flip(token, version, chunks, offset, meta, before, replaced_ttl_ms)
        written = Written(outcome.decode(), trimmed[0] if trimmed else 0)
        if written.outcome != "ok":
            for name in self._chunk_keys(version, len(chunks)):
                await self._state.call("UNLINK", name)
        return written

    async def _put_chunks(self, version: str, chunks: Sequence[bytes]) -> None:
        """One call each: a server that is given 100 MB at once answers nobody else meanwhile."""
        for name, chunk in zip(self._chunk_keys(version, len(chunks)), chunks, strict=True):
            # NX: an expiry given to a chunk of the current checkpoint would be the end of it.
            if await self._state.call("SET", name, chunk, "NX", "PX", NEW_CHUNK_TTL_MS) is None:
                raise ValueError(f"checkpoint version {version} was used before")

    async def _flip(
        self,
        token: str,
        version: str,
        chunks: Sequence[bytes],
        offset: EntryId,
        meta: dict[str, Any],
        before: Current | None,
        replaced_ttl_ms: int,
    ) -> list[Any]:
        names = [keys.leader(self._tag), keys.checkpoint(self._tag), keys.feed(self._tag)]
        names += self._chunk_keys(version, len(chunks))
        names += self._chunk_keys(before.version, before.chunks) if before else []
        args: list[bytes | str | int] = [token, before.version if before else "", version, len(chunks)]
        args += [sum(map(len, chunks)), _checksum(chunks), "{}-{}".format(*offset), orjson.dumps(meta)]
        reply: list[Any] = await self._state.run(_FLIP, names, [*args, replaced_ttl_ms])
        return reply

    async def read(self) -> Loaded | None:
        """The current checkpoint, None if there is none. One that is replaced meanwhile is read anew.

        Raises CheckpointBroken when the one that stays current is not whole.
        """
        for _ in range(_READ_TRIES):
            current = await self.current()
            if current is None:
                return None
            chunks = await self._chunks(current)
            if chunks is not None:
                return Loaded(current, chunks)
            if await self.current() == current:
                raise CheckpointBroken(f"checkpoint {current.version} of {self._tag} is not whole")
        raise StateAway(f"the checkpoint of {self._tag} was replaced {_READ_TRIES} times while it was read")

    async def _chunks(self, current: Current) -> list[bytes] | None:
        """All chunks, None unless they are those that were written."""
        names = self._chunk_keys(current.version, current.chunks)
        found: list[bytes] = []
        for start in range(0, len(names), _READ_AT_ONCE):
            some = names[start : start + _READ_AT_ONCE]
            found += await asyncio.gather(*(self._state.call("GET", name) for name in some))
            if None in found:
                return None
        return found if _checksum(found) == current.checksum else None

    async def trim_before(self, token: str, entry: EntryId) -> int | None:
        """Remove the entries before ``entry`` from a feed that has no checkpoints, the shakes: how many went, None when
        ``token`` does not lead. Never for a people shard: nothing but its checkpoints says what may go."""
        names = [keys.leader(self._tag), keys.feed(self._tag)]
        trimmed: int | None = await self._state.run(_TRIM, names, [token, "{}-{}".format(*entry)])
        return trimmed

    def _chunk_keys(self, version: str, count: int) -> list[str]:
        return [keys.checkpoint_chunk(self._tag, version, index) for index in range(count)]


def _checksum(chunks: Sequence[bytes]) -> int:
    """CRC-32 of the chunks end to end: 30 ms for 100 MB."""
    crc = 0
    for chunk in chunks:
        crc = zlib.crc32(chunk, crc)
    return crc
