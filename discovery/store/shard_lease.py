"""Read leases: a worker answers people only while every other worker waits for it before a class A write is answered.

One hash a shard, worker -> ``folded|loaded|beat|born|since``, beside the feed (``lua/lease.lua``). No row has a TTL:
the server's clock may be stepped. What each worker does:

- **Renew** every 250 ms, and at once after folding a class A entry. ``folded`` = how far this worker has folded.
- **Hold** while the last successful renewal was *sent* at most 1.5 s ago, and everything up to ``since`` is folded, and
  everything that this worker said it had folded, in a row or by answering a class A write.
- **Drop** the row of another whose text has not changed for 2 s of the own clock.
- **Wait**, before a class A write is answered, until every row of others has ``folded`` >= its entry, in a look that
  ran after the entry was appended.

Why no class A entry E is answered while a worker W holds that has not folded it. Let R be W's last successful renewal
and S the ``since`` in its row; the script keeps S while the row stands. (1) E <= S: W holds only with S folded. (2) E >
S: E was appended after the row came to be, so a look after that sees the row, unless it was dropped. While it stands,
the answer waits until it says ``folded`` >= E, which W then has folded, or holds nothing. (3) The row was dropped by X
after R: X had an answer with the text of R, and 2 s of its clock later sent the drop. So the drop ran >= 2 s after R
ran, hence after R was sent, and W has held nothing since 1.5 s after that. A drop compares the text, so one that comes
after a newer renewal does nothing. W is told (a new ``since``) with its next renewal. 1.5 s and 2 s leave room for
clocks whose rates differ by a quarter.

Joining: a worker has no row, and nobody waits for it, until it has folded what stood in the feed less than a second
ago; then it begins a row, and holds once it has folded its ``since``. A worker whose position runs back (its shard is
restored), or that cannot keep up for 3 s, takes its row away and joins anew: else it would hold up everybody.

On Cluster the hash may change hands: a replica that is promoted may lack rows and renewals of the last moment, and the
old master may not know yet (a partition, a pause). Let p be the promotion. So (a) a lease holds at most 1.5 s after
this worker *asked* the masters and most of them named the node of its last renewal as the owner: nobody holds by the
old master later than p + 1.5 s, but for the time in which the news of a promotion reaches those who voted for it. (b)
Who meets another node for the first time counts no look of the next 2 s, so none before p + 2 s. Looks and renewals at
one and the same node are as above. No renewal needs a replica: people are answered while there is none.

A state that was emptied has lost the rows of others too, who may hold for 1.5 s. Who finds its own row gone therefore
counts no look of the next 2 s.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from discovery.store.feed import EntryId, parse_id

RENEW_S = 0.25
VALID_S = 1.5
DEAD_S = 2.0
JOIN_S = 1.0  # who folds what stood in the feed so long ago may join
LAG_S = 3.0  # who cannot leaves; above the 2.5 s that a take-over of another shard may hold up an edge

FOLDED, LOADED = 0, 1  # columns of a row

_ROW = re.compile(rb"(\d+)-(\d+)\|(\d+)-(\d+)\|\d+\|\d+\|\d+-\d+")


@dataclass(frozen=True, slots=True)
class Renewal:
    """One call of ``lease.lua``: ``args`` after the worker's name, and what was known when it was sent."""

    args: list[bytes | str | int]
    asked_s: float
    position: EntryId
    row: bytes  # up to its beat; b"" = no lease wanted
    node: str = ""  # to which it was sent, on Cluster


@dataclass(slots=True)
class ShardLease:
    """The rules of one worker's lease on one shard: no I/O, ``now_s`` of its own clock is passed in.

    Raises ValueError unless ``valid_s < dead_s``, and for a worker name that is empty or has a ``|``.
    """

    worker: str
    valid_s: float = VALID_S
    dead_s: float = DEAD_S
    since: EntryId | None = None  # None: no lease
    generation: int = 0  # how often this worker has joined
    wanted: bool = True
    until_s: float = float("-inf")  # holds at most until then
    floor: EntryId = (0, 0)  # and while at least this is folded: `since`, and what this worker said it had folded
    _said: EntryId = (0, 0)
    _asked_s: float = float("-inf")  # when the last successful renewal was sent
    _goal: tuple[EntryId, float] | None = None  # an end of the feed to reach, and when it was there
    _beat: int = 0
    _born: bytes = b""  # of the own row as last seen
    _rows: dict[bytes, bytes] = field(default_factory=dict)  # of others, as last seen
    _first_seen_s: dict[tuple[bytes, bytes], float] = field(default_factory=dict)
    _newest: EntryId = (0, 0)
    _doubtful_until_s: float = float("-inf")
    _node: str = ""  # that had the last renewal, and when it is known to have been the owner
    _at_node_s: float = float("-inf")  # when the last successful renewal to it was sent
    _owned_s: float = float("inf")

    def __post_init__(self) -> None:
        if not self.valid_s < self.dead_s:
            raise ValueError(f"a lease of {self.valid_s} s must end before it counts as dead, after {self.dead_s} s")
        if not self.worker or "|" in self.worker:
            raise ValueError(f"worker name {self.worker!r} is empty or has a '|'")

    def holds(self, position: EntryId, now_s: float) -> bool:
        """Whether this worker, which has folded up to ``position``, may answer people now."""
        return now_s <= self.until_s and position >= self.floor

    def renewal(self, position: EntryId, loaded: EntryId, now_s: float, node: str = "") -> Renewal:
        """What to send now. ``node``: to which it goes, where there are several."""
        if node != self._node:
            self._node, self._at_node_s, self._owned_s = node, float("-inf"), float("-inf")
            self._doubtful_until_s = now_s + self.dead_s
        if self.since is not None and (position < self._said or not self._keeps_up(position, now_s)):
            self.give_up()
        self._beat += 1
        row = b""
        if self.since is not None or self._may_begin(position, now_s):
            self._said = position
            self.floor = max(self.floor, position)
            row = b"%d-%d|%d-%d" % (*position, *loaded)
        args: list[bytes | str | int] = [row, self._beat, *self._dead_rows(now_s)]
        return Renewal(args, now_s, position, row and b"%s|%d|" % (row, self._beat), node)

    def answered(self, renewal: Renewal, reply: Sequence[bytes | int], now_s: float) -> bool:
        """Take the reply to ``renewal``. False when the state is not the one that was folded: it was emptied, or lost
        its newest entries."""
        born_before, newest, *flat = map(_bytes, reply)
        self._newest = parse_id(newest)
        rows = dict(zip(flat[::2], flat[1::2], strict=True))
        mine = rows.pop(self.worker.encode(), b"")
        self._rows = rows
        self._first_seen_s = {pair: self._first_seen_s.get(pair, now_s) for pair in rows.items()}
        vanished = self._born not in (b"", born_before)
        if vanished:
            self._doubtful_until_s = now_s + self.dead_s
        if vanished or not mine:
            self._born = b""
        if self._newest < renewal.position:
            self.give_up()
            return False
        if self._goal is None or renewal.position >= self._goal[0]:
            self._goal = self._newest, now_s
        too_soon = self.since is not None and now_s - self._asked_s < self.dead_s
        if renewal.row and mine.startswith(renewal.row):
            self._renewed(mine, renewal.asked_s)
        return not (vanished and too_soon)  # nobody may drop a row so soon after it was renewed

    def everyone_has(self, column: int, entry: EntryId, renewal: Renewal, position: EntryId) -> bool:
        """Whether by the look of ``renewal``, the last one answered, nobody needs waiting for.

        ``column``: FOLDED or LOADED. ``position``: where this worker is now; it has to have folded the entry as well,
        and if its position runs back behind what it let pass here, it holds nothing. Who says to have folded what the
        feed does not hold speaks of a feed that is lost.
        """
        if position < entry or renewal.asked_s < self._doubtful_until_s:
            return False
        reached = (_reached(row) for row in self._rows.values())
        if not all(r is not None and r[column] >= entry and r[FOLDED] <= self._newest for r in reached):
            return False
        self._said, self.floor = max(self._said, entry), max(self.floor, entry)
        return True

    def owned_by(self, node: str, asked_s: float) -> None:
        """Most masters, asked at ``asked_s``, say that ``node`` owns this shard."""
        if node == self._node:
            self._owned_s = asked_s
            self._hold_on()

    def _hold_on(self) -> None:
        if self.since is not None:
            self.until_s = max(self.until_s, min(self._at_node_s, self._owned_s) + self.valid_s)

    def give_up(self) -> None:
        """Hold nothing, and take the row away with the next renewal."""
        self.since = self._goal = None
        self.until_s, self.floor = float("-inf"), (0, 0)

    def _renewed(self, row: bytes, asked_s: float) -> None:
        *_, born, since = row.split(b"|")
        if self.since is None or born != self._born:
            self.generation += 1
        self.since, self._born, self._asked_s = parse_id(since), born, asked_s
        self._at_node_s, self.floor = asked_s, max(self.since, self._said)
        self._hold_on()

    def _keeps_up(self, position: EntryId, now_s: float) -> bool:
        return self._goal is None or position >= self._goal[0] or now_s - self._goal[1] <= LAG_S

    def _may_begin(self, position: EntryId, now_s: float) -> bool:
        if not self.wanted or self._goal is None or position < self._goal[0]:
            return False
        if now_s - self._goal[1] <= JOIN_S:
            return True
        self._goal = None  # reached, but too late: there may be much more by now
        return False

    def _dead_rows(self, now_s: float) -> Iterator[bytes]:
        for (worker, row), seen_s in self._first_seen_s.items():
            if now_s - seen_s >= self.dead_s:
                yield worker
                yield row


def _bytes(part: bytes | int) -> bytes:
    return part if isinstance(part, bytes) else b"%d" % part


def _reached(row: bytes) -> tuple[EntryId, EntryId] | None:
    """What a row says to have folded and loaded; None if it is no row of ours."""
    match = _ROW.fullmatch(row)
    if match is None:
        return None
    folded, folded_seq, loaded, loaded_seq = map(int, match.groups())
    return (folded, folded_seq), (loaded, loaded_seq)
