"""Hive time: the clock that the feed carries, so that workers at one entry hold one time."""


class HiveTime:
    """The fold of entry ids and ticks: max(previous, id_ms + offset of the last tick), in ms since 1970."""

    __slots__ = ("now_ms", "offset_ms")

    def __init__(self) -> None:
        self.now_ms = 0
        self.offset_ms = 0

    def set_offset(self, offset_ms: int) -> None:
        """Take the offset of a tick; it counts from that tick's own id on, so call it before :meth:`advance`."""
        self.offset_ms = offset_ms

    def advance(self, id_ms: int) -> int:
        """Fold an entry's id and return hive time; it never runs back, whatever the server's clock did."""
        self.now_ms = max(self.now_ms, id_ms + self.offset_ms)
        return self.now_ms
