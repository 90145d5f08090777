"""Shake: people who shake at the same moment find each other. Shaking is the consent: no position is needed.

A shake moves the person's one state machine but makes no presence; then it enters the one ordered shake stream, which
every worker folds with the same matching (``shake_fold``). The answer comes when this worker has folded its own entry.
"""

import asyncio
import re
from dataclasses import dataclass

from discovery.errors import KeyReused, NotFound, StateAway
from discovery.exposure_caps import ExposureCaps
from discovery.friends import Friendships
from discovery.people import People
from discovery.positions import Positions, check_accuracy, claim_flags
from discovery.presence import Presence
from discovery.reports import Report, pack
from discovery.safety import Blocks
from discovery.sealed import Sealer
from discovery.shake_entries import MAX_EXCLUDED, Shake, pack_shakes
from discovery.shake_fold import Match, ShakeFold
from discovery.store.feed import Follower
from discovery.store.life_script import LifeScript
from discovery.store.writer import FOLD_DEADLINE_S, Writer, append, look_again
from geo import cells
from geo.mixed_bands import first_band_m
from geo.privacy import FRIEND_RESOLUTION, ExactPoint, snap

OPERATION_TTL_MS = 86_400_000
REACHES = ("nearby", "anywhere")
ANYWHERE_BAND = 2
_BORDERS_M = {0: (0, 3000), 1: (3000, 5000), 3: (0, first_band_m(6)), 4: (0, first_band_m(5))}
_TICK_S = 0.3  # a tick moves hive time at least every 250 ms

_OPEN = LifeScript("shake_open")
_ID = re.compile(r"[0-9a-f]{32}")


@dataclass(slots=True, frozen=True)
class ShakeMatch:
    """Somebody who shook too; ``anywhere`` shows no distance."""

    user: str
    distance_min_m: int | None
    distance_max_m: int | None


@dataclass(slots=True, frozen=True)
class ShakeAnswer:
    """State of one shake for its owner."""

    shake_id: str
    state: str
    matches: list[ShakeMatch]
    closes_at_ms: int
    moves_at_ms: int


@dataclass(slots=True, frozen=True)
class ShakeRequest:
    """What the person asked for."""

    point: ExactPoint
    reach: str
    limit: int


class Shakes:
    """Opens shakes and answers for them; ``fold`` is this worker's copy of the one stream."""

    def __init__(
        self,
        people: People,
        presence: Presence,
        friendships: Friendships,
        blocks: Blocks,
        positions: Positions,
        writer: Writer,
        shake_follower: Follower,
        fold: ShakeFold,
        caps: ExposureCaps,
        sealer: Sealer,
        window_ms: int,
        within_s: float,
    ) -> None:
        self._people = people
        self._presence = presence
        self._friendships = friendships
        self._blocks = blocks
        self._positions = positions
        self._writer = writer
        self._follower = shake_follower
        self._fold = fold
        self._caps = caps
        self._sealer = sealer
        self._window_ms = window_ms
        self._within_s = within_s
        self._watchers: dict[int, set[asyncio.Future[None]]] = {}
        self._folded = 0

    # --- fold ---

    def fold_entry(self, payload: bytes, hive_ms: int) -> None:
        """Fold one stream entry and wake the long polls of the shakes that it changed."""
        self._folded += 1
        for shake_hash in self._fold.fold(payload, hive_ms):
            for watcher in self._watchers.pop(shake_hash, ()):
                if not watcher.done():
                    watcher.set_result(None)

    def forget_person(self, user: str) -> None:
        """Somebody was erased: their shakes stay in the fold without a name, so that what others were given stands."""
        self._fold.forget_person(user)

    def take_count(self) -> int:
        """Entries folded since the last call, for the metrics of an epoch."""
        count, self._folded = self._folded, 0
        return count

    # --- acts ---

    async def shake(self, user: str, key: str, request: ShakeRequest, claim: str | None) -> ShakeAnswer:
        """Shake once. The same ``key`` again renders the first shake as it stands now.

        Raises KeyReused, ImplausibleMove, CellsUsedUp, StateAway.
        """
        check_accuracy(request.point)
        shake_id = self._shake_id(user, key)
        shake_hash = _hash_in(shake_id)
        cell, jump = await self._cell(user, request, repeated=self._fold.shake(shake_hash) is not None)
        report = Report(user, cell, 0, claim_flags(claim) | self._writer.lives.flags(user) | jump)
        first_ms = await self._open(user, key, request, report)
        if self._fold.shake(shake_hash) is None:
            if self._writer.now_ms > first_ms + self._window_ms:
                self._require_whole()
                raise NotFound("that shake is over and no longer readable")
            await self._append(self._counted(self._entry(user, shake_hash, request)))
        return self._answer(user, shake_id)

    def _counted(self, shake: Shake) -> Shake:
        """Raises CellsUsedUp."""
        slot = self._people.slot(shake.person)
        assert slot is not None
        self._caps.ask(slot, shake.cell7, self._presence.stranger_edge_ms, self._writer.now_ms, looks=False)
        return shake

    async def _cell(self, user: str, request: ShakeRequest, *, repeated: bool) -> tuple[int, int]:
        """The cell to keep and its flag. A repeat moves nobody, however far its point is by now."""
        if repeated:
            return snap(request.point, self._positions.kept_cell(self._people.slot(user))), 0
        return await self._positions.candidate(user, request.point)

    async def _open(self, user: str, key: str, request: ShakeRequest, report: Report) -> int:
        """Idempotency row and report in one script, then fold the report; returns the hive time of the first call."""
        row = self._writer.shards.operation(user, "shake", f"{self._sealer.hash64('operation', user, key):016x}")
        operations = self._writer.shards.operations(user)
        now_ms = self._writer.now_ms
        args: list[bytes | str | int] = [self._fingerprint(request), OPERATION_TTL_MS, pack([report]), now_ms]
        status, entry, first_ms = await self._writer.run(
            _OPEN, [row, self._writer.feed_key(user), operations], args, self._within_s, of=(user,)
        )
        if status == b"other":
            raise KeyReused("this Idempotency-Key was used for another shake")
        await self._writer.folded(user, entry, FOLD_DEADLINE_S)
        self._writer.lives.require(user)
        return int(first_ms)

    def _fingerprint(self, request: ShakeRequest) -> str:
        """Over the request after snapping, so that no exact point is stored, not even hashed."""
        cell = cells.cell_of(request.point.lat, request.point.lon, FRIEND_RESOLUTION)
        return f"{self._sealer.hash64('fingerprint', cells.to_hex(cell), request.reach, str(request.limit)):016x}"

    def _entry(self, user: str, shake_hash: int, request: ShakeRequest) -> Shake:
        slot = self._people.slot(user)
        assert slot is not None
        return Shake(
            shake_hash=shake_hash,
            person=user,
            person_hash=self._human_hash(slot),
            cell7=self._presence.stranger_cell(slot),
            reach=REACHES.index(request.reach),
            limit=request.limit,
            adult=self._people.is_adult(slot),
            window_ms=self._window_ms,
            excluded=self._excluded(slot),
        )

    def _human_hash(self, slot: int) -> int:
        """Two accounts of one human never match."""
        return self._people.hash_of(self._people.person_key(self._people.ids[slot]))

    def _excluded(self, slot: int) -> tuple[int, ...]:
        """Hashes of whom this person must not meet; of more than 256 the newest stay, answers drop the rest."""
        never = [*self._blocks.newest_first(slot), *self._friendships.hidden_between(slot)]
        return tuple(sorted({self._human_hash(other) for other in never[:MAX_EXCLUDED]}))

    async def _append(self, shake: Shake) -> None:
        entry = await append(self._writer.state, self._follower.key, "s", pack_shakes([shake]), self._within_s)
        await self._follower.folded(entry, FOLD_DEADLINE_S)

    # --- answers ---

    async def look(self, user: str, shake_id: str, wait_s: float) -> ShakeAnswer:
        """The shake as it stands, after waiting up to ``wait_s`` while it is `waiting`. Raises NotFound."""
        await self._require_readable(user, shake_id)
        answer = self._answer(user, shake_id)
        if answer.state == "waiting" and wait_s > 0:
            await self._watch(_hash_in(shake_id), wait_s, answer.closes_at_ms)
            answer = self._answer(user, shake_id)
        return answer

    async def _require_readable(self, user: str, shake_id: str) -> None:
        if _ID.fullmatch(shake_id) is None or self._shake_id_of(user, _hash_in(shake_id)) != shake_id:
            raise NotFound("no such shake")
        if self._fold.shake(_hash_in(shake_id)) is None:
            await look_again(self._follower)
        if self._fold.shake(_hash_in(shake_id)) is None:
            self._require_whole()
            raise NotFound("no such shake")

    def _require_whole(self) -> None:
        """Nothing is known to be missing while the stream is folded anew. Raises StateAway."""
        if not self._follower.caught_up:
            raise StateAway("shakes are being restored")

    async def _watch(self, shake_hash: int, wait_s: float, closes_at_ms: int) -> None:
        """Until the matches change, the shake closes, or the time is over."""
        watcher = asyncio.get_running_loop().create_future()
        self._watchers.setdefault(shake_hash, set()).add(watcher)
        until_closed_s = (closes_at_ms - self._follower.now_ms) / 1000 + _TICK_S
        try:
            await asyncio.wait_for(watcher, min(wait_s, max(until_closed_s, _TICK_S)))
        except TimeoutError:
            pass
        finally:
            self._forget(shake_hash, watcher)

    def _forget(self, shake_hash: int, watcher: asyncio.Future[None]) -> None:
        watchers = self._watchers.get(shake_hash, set())
        watchers.discard(watcher)
        if not watchers:
            self._watchers.pop(shake_hash, None)

    def _answer(self, user: str, shake_id: str) -> ShakeAnswer:
        view = self._fold.shake(_hash_in(shake_id))
        if view is None or view.person != user:  # of an earlier life
            raise NotFound("no such shake")
        matches = self._matches(user, _hash_in(shake_id))
        closed = self._follower.now_ms > view.closes_at_ms
        state = "matched" if matches else "nobody" if closed else "waiting"
        moves_at_ms = self._presence.epochs.next_stranger_edge(view.hive_ms)
        return ShakeAnswer(shake_id, state, matches, view.closes_at_ms, moves_at_ms)

    def _matches(self, user: str, shake_hash: int) -> list[ShakeMatch]:
        """The folded matches without anyone blocked, hidden, suspended or erased since."""
        slot = self._people.slot(user)
        never = set() if slot is None else self._blocks.either_way(slot) | self._friendships.hidden_between(slot)
        found = [match for match in self._fold.matches(shake_hash) if match.person]
        return [_shown(match) for match in found if not self._is_hidden(match.person, never)]

    def _is_hidden(self, user: str, never: set[int]) -> bool:
        slot = self._people.slot(user)
        if slot in never or self._people.is_gone(user):
            return True
        return slot is not None and self._people.withheld(slot, "shake", self._writer.now_ms)

    def _shake_id(self, user: str, key: str) -> str:
        """A key that an earlier life of the id used names another shake in this one."""
        life = self._writer.lives.acting_in(user)
        parts = (user, key) if life == 0 else (user, key, str(life))
        return self._shake_id_of(user, self._sealer.hash64("shake", *parts))

    def _shake_id_of(self, user: str, shake_hash: int) -> str:
        """128 bits: the hash that the stream carries, then a proof that the id was made for this person."""
        return f"{shake_hash:016x}{self._sealer.hash64('shake id', user, f'{shake_hash:016x}'):016x}"


def _hash_in(shake_id: str) -> int:
    return int(shake_id[:16], 16)


def _shown(match: Match) -> ShakeMatch:
    if match.band == ANYWHERE_BAND:
        return ShakeMatch(match.person, None, None)
    return ShakeMatch(match.person, *_BORDERS_M[match.band])
