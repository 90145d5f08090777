"""Hive time: the clock that a feed carries, so that workers at one entry hold one time; and the ticks that set it."""

import struct
from dataclasses import dataclass

STEP_MS = 1000  # id time this far from where it was due = the server's clock was stepped

_LAYOUT = struct.Struct("<qq")


class HiveTime:
    """The fold of entry ids and ticks: max(previous, id_ms + offset of the last tick), in ms since 1970.

    Only a tick may move it on by more than a second. An ordinary entry further ahead than that came in after a step of
    the server's clock, or after a silence without a leader: which of the two, only the leader's clock can tell, so hive
    time waits for the next tick, which carries the right offset. Every worker folds alike. What stands here
    (``now_ms``, ``offset_ms``) is therefore part of a checkpoint: the newest entry and its offset do not give it.
    """

    __slots__ = ("now_ms", "offset_ms")

    def __init__(self) -> None:
        self.now_ms = 0
        self.offset_ms = 0

    def set_offset(self, offset_ms: int) -> None:
        """Take the offset of a tick; it counts from that tick's own id on, so call it before :meth:`advance`."""
        self.offset_ms = offset_ms

    def advance(self, id_ms: int, is_tick: bool) -> int:
        """Fold an entry's id and return hive time; it never runs back, whatever the server's clock did.

        A stream that has no time yet takes it from its first entry, whatever that is.
        """
        reached_ms = id_ms + self.offset_ms
        if is_tick or self.now_ms == 0 or reached_ms - self.now_ms <= STEP_MS:
            self.now_ms = max(self.now_ms, reached_ms)
        return self.now_ms


@dataclass(frozen=True, slots=True)
class Tick:
    """What a tick entry says: hive time = id_ms + ``offset_ms`` from here on; edges are multiples of ``epoch_ms``."""

    offset_ms: int
    epoch_ms: int


def pack_tick(tick: Tick) -> bytes:
    """Field ``d`` of an entry of kind ``t``: two little-endian int64, as ``lua/tick.lua`` packs them."""
    return _LAYOUT.pack(tick.offset_ms, tick.epoch_ms)


def unpack_tick(payload: bytes) -> Tick:
    """The inverse of :func:`pack_tick`. Raises struct.error for a payload of another length."""
    return Tick(*_LAYOUT.unpack(payload))
