"""What a person, or the app for them, sets: visibility with its lapse, bottles, age, suspensions."""

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import orjson

from discovery.errors import AdultsOnly, Erased, Invalid, StillRunning
from discovery.people import AGE_UNKNOWN, AGES, NOBODY, VISIBILITIES, People
from discovery.quiet_zones import MAX_ZONES
from discovery.store.life_script import LifeScript
from discovery.store.writer import Writer
from geo import cells
from geo.privacy import CITY_RESOLUTION

EVERYONE_LAPSES_MS = 8 * 3_600_000
LONGEST_VISIBLE_MS = 24 * 3_600_000
_JUDGE_TRIES = 3
_SETTINGS = LifeScript("settings")
SUSPENDABLE = ("nearby", "shake", "bottles", "radar")


@dataclass(slots=True, frozen=True)
class SettingsView:
    """A person's own settings as they stand now."""

    visibility: str
    visible_until_ms: int | None
    bottles: bool
    quiet_zones: tuple[int, ...] = ()


class Settings:
    """Reads and changes settings; each change is one record and one feed entry."""

    def __init__(self, people: People, writer: Writer) -> None:
        self._people = people
        self._writer = writer

    @property
    def _now_ms(self) -> int:
        return self._writer.now_ms

    def view(self, user: str) -> SettingsView:
        """Settings of a person; the defaults for who is not known."""
        slot = self._people.slot(user)
        if slot is None:
            return SettingsView("nobody", None, False)
        now_ms, until_ms = self._now_ms, int(self._people.visible_until_ms[slot])
        visibility = VISIBILITIES[self._people.visibility_at(slot, now_ms)]
        lapses_ms = until_ms if until_ms > now_ms else None
        return SettingsView(visibility, lapses_ms, bool(self._people.bottles[slot]), self._people.quiet_zones.of(slot))

    async def change(
        self,
        user: str,
        *,
        visibility: str | None = None,
        visible_until_ms: int | None = None,
        bottles: bool | None = None,
        quiet_zones: Sequence[int] | None = None,
        claim: str | None = None,
    ) -> SettingsView:
        """The person's own change. Widening to strangers is for adults."""
        change: dict[str, Any] = {} if bottles is None else {"bottles": bottles}
        if quiet_zones is not None:
            change["quiet_zones"] = _checked_zones(quiet_zones)
        if visibility is not None:
            change |= self._visibility_change(visibility, visible_until_ms)
        if (visibility == "everyone" or bottles) and not self._people.adult_with(self._people.slot(user), claim):
            raise AdultsOnly("showing to everyone and bottles are for adults")
        if visibility is None and visible_until_ms is not None:
            judge = partial(self._visibility_change, until_ms=visible_until_ms)
            await self._write_judged(user, lambda shown: {**change, **judge(shown), "claim": claim})
        elif change:
            await self._write(user, {**change, "claim": claim})
        return self.view(user)

    def _visibility_change(self, visibility: str, until_ms: int | None) -> dict[str, Any]:
        lapses_ms = self._now_ms + EVERYONE_LAPSES_MS if visibility == "everyone" else 0
        chosen_ms = None if until_ms is None else self._checked_until(visibility, until_ms)
        return {"visibility": visibility, "until": chosen_ms or lapses_ms}

    def _checked_until(self, visibility: str, until_ms: int) -> int:
        if visibility == "nobody":
            raise Invalid("nobody sees you: there is nothing to lapse", field="visible_until")
        if not self._now_ms < until_ms <= self._now_ms + LONGEST_VISIBLE_MS:
            raise Invalid("must be in the future and at most 24 h ahead", field="visible_until")
        return until_ms

    async def note_person(self, user: str, person: str | None) -> None:
        """Remember which human a token says is behind an account: quotas and "seen before" act on the human."""
        slot = self._people.slot(user)
        if person is not None and (slot is None or self._people.persons.get(slot) != person):
            await self._write(user, {"person": person})

    async def note_lower_age(self, user: str, claim: str | None) -> None:
        """Who was an adult and by this token is none is hidden from strangers everywhere before anything is answered.

        What else tells the feed of a token's age, a report, waits for no other worker.
        """
        slot = self._people.slot(user)
        if slot is not None and self._people.is_adult(slot) and not self._people.adult_with(slot, claim):
            await self._write(user, {"claim": claim})

    async def note_age(self, user: str, claim: str | None) -> None:
        """Remember the age that a token states, for whom nothing else tells the feed: friendships depend on it."""
        slot = self._people.slot(user)
        known = AGE_UNKNOWN if slot is None else int(self._people.age_claim[slot])
        if known != AGES.index(claim):
            await self._write(user, {"claim": claim})

    async def change_by_app(
        self,
        user: str,
        *,
        visibility: str | None,
        consent: dict[str, Any] | None,
        age: str | None,
        suspended: dict[str, int] | None,
    ) -> SettingsView:
        """The app narrows freely; widening needs the person's consent, which is recorded."""
        change: dict[str, Any] = {}
        if visibility is not None:
            change |= self._visibility_change(visibility, None)
        if age is not None:
            change["age"] = age
        if visibility == "everyone" and not self._people.adult_after(self._people.slot(user), age):
            raise AdultsOnly("showing to everyone is for adults: set `age` to adult as well")
        if suspended is not None:
            change["suspended"] = suspended
        if consent is not None:
            change["consent"] = consent
        if visibility is not None and consent is None:
            await self._write_judged(user, lambda _: _narrowing(self.view(user), visibility, change))
        elif change:
            await self._write(user, change)
        return self.view(user)

    async def moderate(self, user: str, changed: dict[str, int]) -> None:
        """Change what moderation has closed to a person, by key of ``suspensions.py``; 0 lifts. The app's stays.

        Of who was erased no record is written anew: it stands with the tombstone, for whoever comes under the id.
        """
        names = [self._writer.shards.person(user), self._writer.feed_key(user)]
        payload = orjson.dumps({"u": user, "moderated": changed})
        recorded = [part for key, until_ms in changed.items() for part in (key, until_ms)]
        for _ in range(_JUDGE_TRIES):
            fields = [] if self._people.is_gone(user) else recorded
            with contextlib.suppress(Erased):  # a moment ago, by another worker
                await self._writer.enforce(user, _SETTINGS, names, ["", payload, *fields])
                return
            await self._writer.catch_up(user)
        raise StillRunning("the person is being erased")

    async def _write_judged(self, user: str, judge: Callable[[str], dict[str, Any]]) -> None:
        """Write what ``judge`` makes of the visibility shown now, only if that is what the record holds.

        Another worker may have hidden the person a moment ago: then it is judged again after folding that.
        """
        for _ in range(_JUDGE_TRIES):
            change = judge(self.view(user).visibility)
            if await self._write(user, change, expected=self._stored_visibility(user)):
                return
            await self._writer.catch_up(user)
        raise StillRunning("the person's visibility is being changed")

    def _stored_visibility(self, user: str) -> str:
        slot = self._people.slot(user)
        return VISIBILITIES[NOBODY if slot is None else int(self._people.visibility[slot])]

    async def _write(self, user: str, change: dict[str, Any], expected: str = "") -> bool:
        """Change the record and fold it; False when ``expected`` is not the visibility that stands there."""
        fields = [part for name, value in change.items() for part in (name, _text(value))]
        payload = orjson.dumps({"u": user, **change})
        names = [self._writer.shards.person(user), self._writer.feed_key(user)]
        return bool(await self._writer.enforce(user, _SETTINGS, names, [expected, payload, *fields]))


def _narrowing(standing: SettingsView, visibility: str, change: dict[str, Any]) -> dict[str, Any]:
    """``change`` if it does not widen, and not for longer than stands; else it needs consent."""
    if VISIBILITIES.index(visibility) > VISIBILITIES.index(standing.visibility):
        raise Invalid("widening visibility needs the person's consent", field="consent")
    lapses_ms = standing.visible_until_ms
    if visibility == standing.visibility and lapses_ms is not None:
        return {**change, "until": min(change["until"] or lapses_ms, lapses_ms)}
    return change


def _checked_zones(zones: Sequence[int]) -> list[int]:
    """Each once, in the order given. Only whole cells of resolution 5: a finer hole would draw what it hides."""
    if any(cells.resolution_of(zone) != CITY_RESOLUTION for zone in zones):
        raise Invalid(f"each must be an H3 cell of resolution {CITY_RESOLUTION}", field="quiet_zones")
    found = list(dict.fromkeys(zones))
    if len(found) > MAX_ZONES:
        raise Invalid(f"at most {MAX_ZONES}", field="quiet_zones")
    return found


def _text(value: Any) -> str:
    return value if isinstance(value, str) else orjson.dumps(value).decode()
