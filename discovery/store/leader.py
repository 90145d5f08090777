"""Leadership of one stream: the one worker that ticks, checkpoints and trims it.

The leader key holds ``worker|token|beat``. It has no TTL, because the server's clock may be stepped. The leader changes
the beat every 500 ms; who sees the very same text for 2 s of its own clock takes over by compare-and-set, with a larger
token. Every write of a leader compares ``worker|token`` in its script, so one that was stopped for long, and does not
know yet that another leads, changes nothing.
"""

from collections.abc import Callable

import structlog

from discovery.store import keys
from discovery.store.client import State
from discovery.store.scripts import Script
from discovery.store.ticker import Sample

RENEW_S = 0.5
DEAD_S = 2.0  # a leader that stood still for so long may be replaced
VALID_S = 1.5  # and by its own clock it stops before: only politeness, for the fence is what protects
WITHIN_S = 0.5  # an answer that took longer says too little about when it was given

_LEAD = Script("lead", lasting=False)
_RESIGN = Script("resign", lasting=False)

log = structlog.get_logger("nearhive.leader")


class Leader:
    """One worker's part in the leadership of the stream of ``tag``.

    ``worker``: a name that no other process has or had, without ``|``. ``monotonic``: seconds, counting suspended time.
    """

    def __init__(self, state: State, tag: str, worker: str, monotonic: Callable[[], float]) -> None:
        """Raises ValueError for a name with ``|``."""
        if "|" in worker or not worker:
            raise ValueError(f"worker name {worker!r} is empty or has a '|'")
        self.tag = tag
        self._state = state
        self._worker = worker
        self._monotonic = monotonic
        self._beat = 0
        self._token: str | None = None
        self._renewed_s = self._asked_s = float("-inf")
        self._other = b""  # text of another leader, and when it was first seen here
        self._other_seen_s = 0.0

    @property
    def token(self) -> str | None:
        """``worker|token`` for fenced scripts while this worker leads, else None."""
        return self._token if self._monotonic() - self._renewed_s <= VALID_S else None

    def due_in_s(self) -> float:
        """Seconds until :meth:`look` is to be called again; <= 0 = now."""
        now_s = self._monotonic()
        if self._token is not None:
            return self._renewed_s + RENEW_S - now_s
        due_s = self._asked_s + RENEW_S
        return (min(due_s, self._other_seen_s + DEAD_S) if self._other else due_s) - now_s

    def next_beat(self) -> int:
        """A number that no renewal had before; a fenced script that carries it renews, see :meth:`renewed`."""
        self._beat += 1
        return self._beat

    async def look(self) -> Sample | None:
        """Renew, take, or take over where the rules allow it; who leads shows in :attr:`token`.

        Returns what the stream looks like, None if the answer took too long to say when. Raises StateAway.
        """
        asked_s = self._asked_s = self._monotonic()
        names = [keys.leader(self.tag), keys.fence(self.tag), keys.feed(self.tag)]
        args: list[bytes | str | int] = [self._worker, self.next_beat(), self._dead_text(asked_s)]
        text, newest, seconds, micros = await self._state.run(_LEAD, names, args, within_s=WITHIN_S)
        self._took(text, asked_s)
        return self.sample(newest, seconds, micros, asked_s)

    def sample(self, newest: bytes, seconds: bytes, micros: bytes, asked_s: float) -> Sample | None:
        """A script's newest id and server TIME as a Sample, None if they came too late to be trusted."""
        if self._monotonic() - asked_s > WITHIN_S:
            return None
        return Sample(int(newest.partition(b"-")[0]), int(seconds) * 1000 + int(micros) // 1000, asked_s)

    def renewed(self, asked_s: float) -> None:
        """A fenced script that renews was sent at ``asked_s`` and found this worker leading."""
        self._renewed_s = max(self._renewed_s, asked_s)

    def lost(self) -> None:
        """A fenced script found another leader, or none."""
        if self._token is not None:
            log.warning("leadership_lost", stream=self.tag)
        self._token = None

    async def resign(self) -> None:
        """Let others lead at once: for a graceful stop. Raises StateAway."""
        token, self._token = self._token, None
        if token is not None:
            await self._state.run(_RESIGN, [keys.leader(self.tag)], [token], within_s=WITHIN_S)

    def _dead_text(self, now_s: float) -> bytes:
        """The other leader's text if it stood still long enough.

        It was seen first in an answer that came ``DEAD_S`` before this call is sent. So the script that compares it
        runs at least that long after the one that read it, and the leader has renewed in neither nor between: beats do
        not repeat.
        """
        return self._other if self._other and now_s - self._other_seen_s >= DEAD_S else b""

    def _took(self, text: bytes, asked_s: float) -> None:
        holder, _, _ = text.rpartition(b"|")
        if holder.startswith(f"{self._worker}|".encode()):
            if self._token != holder.decode():
                log.info("leadership_taken", stream=self.tag, token=holder.decode())
            self._token, self._renewed_s, self._other = holder.decode(), asked_s, b""
        else:
            self.lost()
            if text != self._other:
                self._other, self._other_seen_s = text, self._monotonic()
