"""Drift Bottle: a text goes to one random person, who answers it or gives it back to the sea.

A bottle has exactly one owner at a time: the sea, one holder, or (once answered) the two of them. Every change is one
script on the ``{sea}`` slot (``store/lua/bottle_*.lua``), idempotent, on the clock of the server. Age, suspension and
``bottles: on`` are checked by who calls this.

Rules beyond the API contract:
- A repeat of a throw renders the same bottle; of a pick, the same bottle while the caller still has it and neither has
  blocked the other, else none. A pick that found the sea empty took nothing and leaves its key free: it may try again.
- A hold ends after ``hold_s``, or with the bottle. Who once held a bottle never gets it again; a late reply is a
  Conflict, giving back late or twice is done already.
- The first reply takes the bottle out of the sea for good; each reply lets the thread live ``life_s`` from then on.
- An ended bottle stays readable for the two of them for one day, then all of it goes.
"""

import hashlib
import hmac
from collections.abc import Callable, Set
from typing import Any, NoReturn, Protocol

from discovery.bottle_records import (
    DAY_MS,
    BottleView,
    MineItem,
    MineRow,
    Picked,
    Record,
    Thrown,
    check_language,
    check_text,
    is_bottle_id,
    read_mine,
    read_record,
)
from discovery.errors import Conflict, Erased, KeyReused, NotFound, QuotaExceeded, StateAway
from discovery.store import keys
from discovery.store.client import State
from discovery.store.life_script import ERASED
from discovery.store.scripts import Script
from discovery.store.sea_script import SeaScript
from discovery.withheld import WithheldNow

REPLIES_MAX = 200  # a thread is one answer of state and of the API: 200 texts of 500 characters are 0.4 MB at most

_RANDOMS = 20  # 16 draws, 4 for the choice after an enumeration
_ROUNDS = (
    3  # then enumerate whatever the size: 16 misses in a sea of > 4x the exclusions happen once in 2^32, and 48 in
)
# one of which withheld authors, whom the script does not count, wrote up to nine tenths, once in 157
_TELLS = 20  # workers that have not folded the same yet may each write their own set of withheld people, for some ms
_WITHHELD = b"withheld"

_THROW = SeaScript("bottle_throw", "life")
_PICK = SeaScript("bottle_pick", "life", "withheld")
_RELEASE = SeaScript("bottle_release")
_THROW_BACK = SeaScript("bottle_throw_back")
_REPLY = SeaScript("bottle_reply", "life", "withheld")
_OTHER = SeaScript("bottle_other")
_GET = SeaScript("bottle_get")
_MINE = SeaScript("bottle_mine")
_DELETE = SeaScript("bottle_delete")
_SWEEP = SeaScript("bottle_sweep")
_ERASE = SeaScript("sea_erase")
_TELL_WITHHELD = Script("sea_withheld")

_SEA = (keys.sea_index(), keys.sea_holds(), keys.sea_ends())


class PeopleView(Protocol):
    """What bottles need to know about people."""

    def person_key(self, user: str) -> str:
        """The human behind ``user``, on whom quotas and "seen" act; the user itself when nothing more is known."""
        ...

    def blocked_either_way(self, user: str) -> frozenset[str]:
        """Users whom ``user`` may never meet."""
        ...

    def withheld(self) -> WithheldNow:
        """Users whom nobody may meet in the sea: by moderation."""
        ...

    def is_gone(self, user: str) -> bool:
        """Whether ``user`` was erased, and the sea perhaps not cleared of them yet."""
        ...

    def life_arguments(self, user: str) -> list[str | int]:
        """Behind the arguments of a script by which ``user`` acts: see ``lua/life.lua``."""
        ...

    def muted(self, user: str) -> frozenset[str]:
        """Users whose bottles ``user`` is not to be given."""
        ...


class Bottles:
    """The sea as one worker sees it; holds no state of its own."""

    def __init__(
        self,
        state: State,
        people: PeopleView,
        random: Callable[[], int],
        secret: bytes,
        throws_per_day: int = 20,
        picks_per_day: int = 20,
        hold_s: float = 86_400,
        life_s: float = 259_200,
        read_within_s: float = 0.3,
    ) -> None:
        """``random`` returns uniform integers below 2^32; ``secret`` names bottles and operations; reads that change
        nothing wait ``read_within_s`` for the state."""
        self._read_within_s = read_within_s
        self._state = state
        self._people = people
        self._random = random
        self._secret = secret
        self._throws_per_day = throws_per_day
        self._picks_per_day = picks_per_day
        self._hold_ms = round(hold_s * 1000)
        self._life_ms = round(life_s * 1000)

    async def throw(self, caller: str, key: str, text: str, language: str | None) -> Thrown:
        """Throw a bottle. Raises Invalid, KeyReused, QuotaExceeded, StateAway."""
        text, language = check_text(text), check_language(language)
        person = self._people.person_key(caller)
        bottle_id = self._named("bottle", caller, key)
        status, now_ms, used, ends_ms = await self._act(
            _THROW,
            caller,
            [
                keys.sea_bottle(bottle_id),
                self._operation(caller, key),
                self.quota_key(caller),
                keys.sea_seen(person),
                keys.sea_mine(caller),
            ],
            bottle_id,
            self._mac("throw", text, language or ""),
            caller,
            person,
            text,
            language or "",
            self._life_ms,
            self._throws_per_day,
        )
        if status != b"ok":
            _refuse(status, now_ms)
        return Thrown(bottle_id, ends_ms, max(0, self._throws_per_day - used), _next_day_ms(now_ms))

    async def pick(self, caller: str, key: str) -> Picked:
        """Take one bottle, uniform over those the caller may have. Raises KeyReused, QuotaExceeded, StateAway."""
        never: set[str] = set()
        status, now_ms, used, raw = await self._draw(caller, key, never)
        while status == b"ok" and self._blocked(caller, record := _known(raw)):
            await self._release(caller, key, record.bottle_id)
            never.add(record.author)  # who was erased is in no worker's set, and their bottles may float on for a while
            status, now_ms, used, raw = await self._draw(caller, key, never)
        if status not in {b"ok", b"same", b"empty"}:
            _refuse(status, now_ms)
        record_or_none = read_record(raw) if raw else None
        if record_or_none is not None and self._hidden_from(caller, record_or_none):
            record_or_none = None
        return Picked(
            bottle=None if record_or_none is None else record_or_none.view(caller),
            reason="sea_empty" if status == b"empty" else None,
            picks_left=max(0, self._picks_per_day - used),
            resets_at_ms=_next_day_ms(now_ms),
        )

    async def throw_back(self, caller: str, bottle_id: str) -> None:
        """Give an unanswered bottle back. Raises NotFound, Conflict (not the caller's to give, or answered)."""
        status = await self._on_bottle(_THROW_BACK, caller, bottle_id)
        if status != b"ok":
            _refuse(status)

    async def reply(self, caller: str, key: str, bottle_id: str, text: str) -> BottleView:
        """Add to the thread. Raises Invalid, NotFound, KeyReused, Conflict (hold lapsed, unanswered, ended, full)."""
        check_text(text)
        _require_id(bottle_id)
        person = self._people.person_key(caller)
        status, *rest = await self._meet(
            _REPLY,
            caller,
            [
                keys.sea_bottle(bottle_id),
                self._operation(caller, key),
                keys.sea_seen(person),
                keys.sea_replies(bottle_id),
            ],
            bottle_id,
            self._mac("reply", bottle_id, text),
            caller,
            person,
            text,
            self._life_ms,
            REPLIES_MAX,
            *self._people.blocked_either_way(caller),
        )
        if status != b"ok":
            _refuse(status)
        record = _known(rest[0])
        if self._blocked(caller, record):  # folded since: as the script would say now
            _refuse(b"none" if caller == record.author else b"conflict")
        return record.view(caller)

    async def block_other(self, caller: str, bottle_id: str) -> str:
        """The id of the other of the two, for the block that the caller of this makes; never for an answer.

        An unanswered bottle that the caller holds goes back to the sea. Raises NotFound, Conflict (nobody answered).
        """
        status, *rest = await self._on_bottle(_OTHER, caller, bottle_id)
        if status != b"ok":
            _refuse(status)
        other: bytes = rest[0]
        return other.decode()

    async def get(self, caller: str, bottle_id: str) -> BottleView:
        """A bottle and its thread, for its author and its holder. Raises NotFound for anybody else."""
        _require_id(bottle_id)
        record = read_record(await self._read(_GET, [keys.sea_bottle(bottle_id)], bottle_id))
        if record is None or caller not in {record.author, record.holder} or record.hidden_from(caller):
            raise _not_found()
        if self._blocked(caller, record) and not (caller == record.author and record.state == "p"):
            raise _not_found()
        return record.view(caller)

    async def record(self, bottle_id: str) -> Record | None:
        """A bottle as stored, both people named, None when it is gone: for an export. Raises StateAway."""
        return read_record(await self._read(_GET, [keys.sea_bottle(bottle_id)], bottle_id))

    async def mine(self, caller: str, limit: int, after: int | None) -> tuple[list[MineItem], int | None]:
        """The caller's bottles, newest throw or pick first, from below ``after``; and the next page's ``after``."""
        never = self._people.blocked_either_way(caller), self._people.withheld().users
        rows: list[MineRow] = []
        before = after
        while len(rows) <= limit:
            page = await self._read(
                _MINE, [keys.sea_mine(caller)], "+inf" if before is None else f"({before}", limit + 1
            )
            found = [row for raw in page if (row := read_mine(raw, caller)) is not None]
            rows += [row for row in found if not self._hides(row, *never)]
            if len(page) <= limit:
                break
            before = int(page[-1][1])
        more = len(rows) > limit
        return [row.item for row in rows[:limit]], rows[limit - 1].score if more else None

    async def delete(self, caller: str, bottle_id: str) -> None:
        """Take back a bottle that nobody has picked. Raises NotFound unless the author's, Conflict once picked."""
        _require_id(bottle_id)
        status = await self._run(_DELETE, [keys.sea_bottle(bottle_id)], bottle_id, caller)
        if status != b"ok":
            _refuse(status)

    async def erase(self, user: str, human: str, name: str, life: int) -> None:
        """Take one person out of the sea: own bottles that nobody answered go, what they hold goes back, of threads the
        other's words stay. ``human``: key of the human behind the account, '' while that has others. ``name``: of the
        tombstone; done once for each ``life``. Raises StateAway."""
        # Versions up to 2026-11-22 counted throws and picks under the id itself, for a day: until 2027 they go, too.
        own = [of(person) for person in (user, human) if person for of in (keys.sea_seen, keys.sea_quota)]
        names = [keys.tombstones(keys.SEA_TAG), keys.sea_withheld(), keys.sea_mine(user), *own]
        await self._run(_ERASE, names, user, name, life)

    async def sweep(self) -> int:
        """Return lapsed holds, bury ended bottles and tell who is withheld, where no traffic does it; how many bottles
        this call handled (<= 32)."""
        handled: int = await self._run(_SWEEP, [])
        stamp = self._people.withheld().stamp
        if (await self._state.call("HGET", keys.sea_withheld(), "") or b"").decode() != stamp:
            await self._tell()
        return handled

    async def _draw(self, caller: str, key: str, never: Set[str]) -> tuple[bytes, int, int, Any]:
        """Rounds of the pick script until it claims, repeats, refuses, or knows that the sea has nothing. ``never``:
        further authors whose bottles it is not to draw.

        Ends: from round ``_ROUNDS`` on each round enumerates, and can only be sent again while lapsed holds wait to
        be swept, 16 of them a round.
        """
        person = self._people.person_key(caller)
        names = [
            self._operation(caller, key),
            self.quota_key(caller),
            keys.sea_seen(person),
            keys.sea_mine(caller),
        ]
        fingerprint = self._mac("pick")
        rounds = 0
        while True:
            status, now_ms, used, *rest = await self._meet(
                _PICK,
                caller,
                names,
                fingerprint,
                caller,
                person,
                self._hold_ms,
                self._life_ms,
                self._picks_per_day,
                int(rounds >= _ROUNDS),
                *(self._random() for _ in range(_RANDOMS)),
                *(self._people.blocked_either_way(caller) | self._people.muted(caller) | never),
            )
            if status != b"again":
                return status, now_ms, used, rest[0] if rest else None
            rounds += 1

    async def _release(self, caller: str, key: str, bottle_id: str) -> None:
        person = self._people.person_key(caller)
        names = [
            keys.sea_bottle(bottle_id),
            self._operation(caller, key),
            self.quota_key(caller),
            keys.sea_seen(person),
        ]
        await self._run(_RELEASE, names, bottle_id, caller)

    async def _on_bottle(self, script: SeaScript, caller: str, bottle_id: str) -> Any:
        _require_id(bottle_id)
        person = self._people.person_key(caller)
        return await self._run(script, [keys.sea_bottle(bottle_id), keys.sea_seen(person)], bottle_id, caller, person)

    async def _meet(self, script: SeaScript, caller: str, names: list[str], *args: str | int) -> Any:
        """An act that those withheld are kept from; the sea is told of them where it has others. Raises Erased."""
        for _ in range(_TELLS):
            stamp = self._people.withheld().stamp
            reply = await self._act(script, caller, [*names, keys.sea_withheld()], *args, stamp)
            if reply != _WITHHELD:
                return reply
            await self._tell()
        raise StateAway("workers do not agree yet who is withheld from the sea")

    async def _tell(self) -> None:
        """Nothing is written when another worker came first: the act is tried again anyhow."""
        flat = await self._state.call("HGETALL", keys.sea_withheld())
        withheld = self._people.withheld()  # as it is by now: set and stamp of one moment
        told = dict(zip(map(bytes.decode, flat[::2]), flat[1::2], strict=True))
        stamp: bytes = told.pop("", b"")
        leave, come = told.keys() - withheld.users, withheld.users - told.keys()
        args: list[bytes | str | int] = [stamp, withheld.stamp, len(leave), *leave, *come]
        await self._state.run(_TELL_WITHHELD, [keys.sea_withheld()], args)

    async def _act(self, script: SeaScript, caller: str, names: list[str], *args: str | int) -> Any:
        """A script that nobody erased may run. Raises Erased."""
        names, life = [*names, keys.tombstones(keys.SEA_TAG)], self._people.life_arguments(caller)
        reply = await self._run(script, names, *args, *life)
        if reply == ERASED:
            raise Erased("the person was erased meanwhile")
        return reply

    async def _run(self, script: SeaScript, names: list[str], *args: str | int) -> Any:
        return await self._state.run(script, [*_SEA, *names], args)

    async def _read(self, script: SeaScript, names: list[str], *args: str | int) -> Any:
        return await self._state.run(script, [*_SEA, *names], args, within_s=self._read_within_s)

    def _blocked(self, caller: str, record: Record) -> bool:
        other, people = record.other(caller), self._people
        if other is None:
            return False
        return other in people.withheld().users or other in people.blocked_either_way(caller) or people.is_gone(other)

    def _hides(self, row: MineRow, *never: Set[str]) -> bool:
        """Another whom the caller never meets hides a bottle; not from its author while that holder is not known."""
        unknown_holder = row.item.role == "thrown" and row.item.state == "picked"
        if row.other is None or unknown_holder:
            return False
        return any(row.other in users for users in never) or self._people.is_gone(row.other)

    def _hidden_from(self, caller: str, record: Record) -> bool:
        return record.hidden_from(caller) or self._blocked(caller, record)

    def _operation(self, caller: str, key: str) -> str:
        return keys.sea_operation(self._named("op", caller, key))

    def quota_key(self, caller: str) -> str:
        """Where the throws and picks of this human's day are counted, in whatever life of the id."""
        return keys.sea_quota(self._mac("quota", self._people.person_key(caller)))

    def _named(self, purpose: str, caller: str, key: str) -> str:
        """A key that an earlier life of the caller's id used names something else in this one."""
        life = self._people.life_arguments(caller)[1]
        return self._mac(purpose, caller, key, *([str(life)] if life else []))

    def _mac(self, *parts: str) -> str:
        """First 16 bytes, as hex, of HMAC-SHA256 over the parts, each with its length before it."""
        message = b"".join(len(raw).to_bytes(4, "big") + raw for raw in map(str.encode, parts))
        return hmac.new(self._secret, message, hashlib.sha256).digest()[:16].hex()


def _known(raw: Any) -> Record:
    record = read_record(raw)
    assert record is not None, "a script answered with a bottle that is not there"
    return record


def _not_found() -> NotFound:
    """One answer for a bottle that is not there, deleted, another's, or of somebody blocked."""
    return NotFound("no such bottle")


def _require_id(bottle_id: str) -> None:
    if not is_bottle_id(bottle_id):
        raise _not_found()


def _next_day_ms(now_ms: int) -> int:
    return (now_ms // DAY_MS + 1) * DAY_MS


def _refuse(status: bytes, now_ms: int = 0) -> NoReturn:
    """Raise what a script's status means."""
    if status == b"quota":
        resets_at_ms = _next_day_ms(now_ms)
        raise QuotaExceeded("daily bottles are used up", resets_at_ms, -((now_ms - resets_at_ms) // 1000))
    if status == b"reused":
        raise KeyReused("this Idempotency-Key was used for another request")
    if status == b"full":
        raise Conflict(f"the thread has its {REPLIES_MAX} replies")
    if status == b"conflict":
        raise Conflict("the bottle is not in a state that allows this")
    raise _not_found()
