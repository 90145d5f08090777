"""Export: everything that is kept of a person, by part; only their own acts, never others'.

Every folded column is in it by itself, and every key that names a person belongs to a part here, which a test compares
with ``keys.py``. A further part adds its reader to :attr:`Export.readers`. Names that end in ``_ms`` are times. When a
suspension ends is told to the day: the moment of a hold would tell when somebody reported.
"""

from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
import orjson

from discovery.bottle_records import DAY_MS
from discovery.bottles import Bottles
from discovery.friends import DECLINED, Friendships
from discovery.people import AGES, VISIBILITIES, People
from discovery.positions import Positions
from discovery.presence import Presence
from discovery.request_quota import requests_key
from discovery.safety import Blocks
from discovery.settings import Settings
from discovery.shake_fold import ShakeFold
from discovery.store import keys
from discovery.store.client import State
from discovery.suspensions import is_moderation
from geo import cells

Reader = Callable[[str], Awaitable[Any]]

_CODES = {"visibility": VISIBILITIES, "fallback": VISIBILITIES, "age_app": AGES, "age_claim": AGES}
"""Columns that hold a number for a word."""


class Export:
    """Reads all of one person. ``readers``: part -> what it says of somebody, to which other parts add theirs."""

    def __init__(
        self,
        state: State,
        people: People,
        presence: Presence,
        friendships: Friendships,
        blocks: Blocks,
        settings: Settings,
        positions: Positions,
        bottles: Bottles,
        shakes: ShakeFold,
    ) -> None:
        self._state = state
        self._people = people
        self._presence = presence
        self._friendships = friendships
        self._blocks = blocks
        self._settings = settings
        self._positions = positions
        self._bottles = bottles
        self._shakes = shakes
        self.readers: dict[str, Reader] = {
            "settings": self._settings_of,
            "record": self._record,
            "position": self._position,
            "kept": self._columns,
            "friends": self._friends,
            "precise_shares": self._shares,
            "blocks": self._blocked,
            "mutes": self._muted,
            "bottles": self._own_bottles,
            "friend_requests": self._requests,
            "bottle_quota": self._quota,
            "bottles_seen": self._seen,
            "shakes": self._own_shakes,
            "idempotency_keys": self._operations,
            "earlier_erasure": self._erasure,
        }

    async def of(self, user: str) -> dict[str, Any]:
        """Every part of what is kept of ``user``. Raises StateAway."""
        return {part: await read(user) for part, read in self.readers.items()}

    # --- what is folded ---

    async def _settings_of(self, user: str) -> Any:
        view, slot = self._settings.view(user), self._people.slot(user)
        zones = () if slot is None else self._people.quiet_zones.of(slot)
        closed = self._people.closed_to(user)
        return {
            "visibility": view.visibility,
            "visible_until_ms": view.visible_until_ms,
            "bottles": "on" if view.bottles else "off",
            "quiet_zones": [cells.to_hex(zone) for zone in zones],
            "suspensions": [{"feature": name, "until_ms": _day_after(end_ms)} for name, end_ms in closed.items()],
            "person": None if slot is None else self._people.persons.get(slot),
        }

    async def _position(self, user: str) -> Any:
        """The cells: shown to strangers, shown to friends at most, shown from the next edge on; kept as anchor."""
        slot = self._people.slot(user)
        if slot is None or slot >= len(self._presence.published) or not self._presence.published[slot]:
            return None
        live = self._presence.is_live(slot, self._positions.now_ms)
        return {
            "live": live,
            "expires_ms": int(self._presence.live_until_ms[slot]) if live else None,
            "strangers": cells.to_hex(self._presence.stranger_cell(slot)),
            "friends_at_most": cells.to_hex(int(self._presence.published[slot])),
            "pending": cells.to_hex(int(self._presence.pending[slot])),
            "precise": _cell(self._friendships.precise.cell(slot)),
        }

    async def _columns(self, user: str) -> Any:
        """Every column as it stands, cells as hex."""
        slot = self._people.slot(user)
        self._presence.fit()
        if slot is None:
            return {}
        found = {name: _value(name, getattr(self._people, name)[slot]) for name in People.FOLDED}
        return found | {name: _value(name, getattr(self._presence, name)[slot]) for name in Presence.FOLDED}

    async def _friends(self, user: str) -> Any:
        """What this person shows, asked or refused; what others show is theirs."""
        slot = self._people.slot(user)
        halves = {} if slot is None else self._friendships.standing().get(slot, {})
        return [
            {"user": self._people.ids[other], "refused": half.precision == DECLINED, **half._asdict()}
            for other, half in halves.items()
        ]

    async def _shares(self, user: str) -> Any:
        slot = self._people.slot(user)
        others = [] if slot is None else self._friendships.precise.others(slot)
        return [self._people.ids[other] for other in others]

    async def _blocked(self, user: str) -> Any:
        slot = self._people.slot(user)
        return [] if slot is None else self._blocks.names(slot)

    async def _muted(self, user: str) -> Any:
        slot = self._people.slot(user)
        return [] if slot is None else list(self._people.mutes.of(slot))

    async def _own_shakes(self, user: str) -> Any:
        return [{"at_ms": at_ms, "cell": cells.to_hex(cell)} for at_ms, cell in self._shakes.shakes_of(user)]

    async def _erasure(self, user: str) -> Any:
        tombstone = self._people.tombstone(user)
        return None if tombstone is None else {"at_ms": tombstone.at_ms}

    # --- what is stored ---

    async def _record(self, user: str) -> Any:
        """The record as stored: consent and what the app set among it."""
        flat = await self._state.call("HGETALL", self._people.shards.person(user))
        found = {name.decode(): _loaded(value) for name, value in zip(flat[::2], flat[1::2], strict=True)}
        return {name: _day_after(value) if is_moderation(name) else value for name, value in found.items()}

    async def _own_bottles(self, user: str) -> Any:
        """Own words alone: of a bottle that was picked, the own replies."""
        found = []
        for entry in await self._state.call("ZRANGE", keys.sea_mine(user), 0, -1):
            record = await self._bottles.record(entry[1:].decode())
            if record is None or user not in (record.author, record.holder):
                continue
            thrown = record.author == user
            found.append(
                {
                    "bottle_id": record.bottle_id,
                    "role": "thrown" if thrown else "picked",
                    "text": record.text if thrown else None,
                    "language": record.language if thrown else None,
                    "thrown_ms": record.thrown_at_ms if thrown else None,
                    "replies": [
                        {"at_ms": at_ms, "text": text}
                        for by_author, at_ms, text in record.replies
                        if by_author == thrown
                    ],
                }
            )
        return found

    async def _requests(self, user: str) -> Any:
        """How many friendships this human asked for on the day of the last request: of whom only hashes are kept."""
        key = requests_key(self._people, user)
        return max(0, await self._state.call("HLEN", key) - 1)

    async def _quota(self, user: str) -> Any:
        flat = await self._state.call("HGETALL", self._bottles.quota_key(user))
        return {name.decode(): int(value) for name, value in zip(flat[::2], flat[1::2], strict=True)}

    async def _seen(self, user: str) -> Any:
        """Ids of bottles that this human threw or was given, so that none comes twice."""
        seen = await self._state.call("ZRANGE", keys.sea_seen(self._people.person_key(user)), 0, -1)
        return [bottle_id.decode() for bottle_id in seen]

    async def _operations(self, user: str) -> Any:
        """What was done under which kind of key in the last 24 hours; of the key itself only a hash is kept."""
        flat = await self._state.call("ZRANGE", self._people.shards.operations(user), 0, -1, "WITHSCORES")
        rows = flat if flat and isinstance(flat[0], list) else zip(flat[::2], flat[1::2], strict=True)
        return [{"operation": _purpose(name.decode()), "kept_until_ms": int(float(ends))} for name, ends in rows]


def _purpose(operation: str) -> str:
    """``{s00}:op:shake:hash:user`` and such: what stands before the hash."""
    return ":".join(operation.split(":")[1:3])


def _day_after(end_ms: int) -> int:
    """The end of a suspension, to the whole day (UTC) upwards: a hold's is as long after the third report as any, and
    would tell its reporter's moment. 0, which lifts, stays."""
    return -(-end_ms // DAY_MS) * DAY_MS


def _value(name: str, value: Any) -> Any:
    if isinstance(value, np.uint64):
        return _cell(int(value))
    if name in _CODES:
        return _CODES[name][int(value)]
    plain: bool | int = value.item()
    return plain


def _cell(cell: int) -> str | None:
    return cells.to_hex(cell) if cell else None


def _loaded(value: bytes) -> Any:
    try:
        return orjson.loads(value)
    except ValueError:
        return value.decode()
