"""What a person, or the app for them, sets: visibility with its lapse, bottles, age, suspensions."""

from dataclasses import dataclass
from typing import Any

import orjson

from discovery.errors import AdultsOnly, Invalid
from discovery.people import EVERYONE, VISIBILITIES, People
from discovery.store import keys
from discovery.store.writer import Writer

EVERYONE_LAPSES_MS = 8 * 3_600_000
LONGEST_VISIBLE_MS = 24 * 3_600_000
SUSPENDABLE = ("nearby", "shake", "bottles", "radar")


@dataclass(slots=True, frozen=True)
class SettingsView:
    """A person's own settings as they stand now."""

    visibility: str
    visible_until_ms: int | None
    bottles: bool


class Settings:
    """Reads and changes settings; each change is one record and one feed entry."""

    def __init__(self, people: People, writer: Writer) -> None:
        self._people = people
        self._writer = writer

    @property
    def _now_ms(self) -> int:
        return self._writer.follower.now_ms

    def view(self, user: str) -> SettingsView:
        """Settings of a person; the defaults for who is not known."""
        slot = self._people.slot(user)
        if slot is None:
            return SettingsView("nobody", None, False)
        now_ms, until_ms = self._now_ms, int(self._people.visible_until_ms[slot])
        visibility = VISIBILITIES[self._people.visibility_at(slot, now_ms)]
        return SettingsView(visibility, until_ms if until_ms > now_ms else None, bool(self._people.bottles[slot]))

    async def change(
        self,
        user: str,
        *,
        visibility: str | None = None,
        visible_until_ms: int | None = None,
        bottles: bool | None = None,
        claim: str | None = None,
    ) -> SettingsView:
        """The person's own change. Widening to strangers is for adults."""
        change: dict[str, Any] = {}
        if visibility is not None or visible_until_ms is not None:
            change |= self._visibility_change(user, visibility or self.view(user).visibility, visible_until_ms)
        if bottles is not None:
            change["bottles"] = bottles
        adults_only = change.get("visibility") == VISIBILITIES[EVERYONE] or bottles
        if adults_only and not self._people.adult_with(self._people.slot(user), claim):
            raise AdultsOnly("showing to everyone and bottles are for adults")
        if claim is not None:
            change["claim"] = claim
        if change:
            await self._write(user, change)
        return self.view(user)

    def _visibility_change(self, user: str, visibility: str, until_ms: int | None) -> dict[str, Any]:
        now_ms = self._now_ms
        if until_ms is not None:
            if visibility == "nobody":
                raise Invalid("nobody sees you: there is nothing to lapse", field="visible_until")
            if not now_ms < until_ms <= now_ms + LONGEST_VISIBLE_MS:
                raise Invalid("must be in the future and at most 24 h ahead", field="visible_until")
        lapses_ms = now_ms + EVERYONE_LAPSES_MS if visibility == "everyone" else 0
        return {"visibility": visibility, "until": until_ms or lapses_ms}

    async def note_person(self, user: str, person: str | None) -> None:
        """Remember which human a token says is behind an account: quotas and "seen before" act on the human."""
        slot = self._people.slot(user)
        if person is not None and (slot is None or self._people.persons.get(slot) != person):
            await self._write(user, {"person": person})

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
            change |= self._visibility_change(user, visibility, None)
            self._check_widening(user, visibility, consent)
        if age is not None:
            change["age"] = age
        if visibility == "everyone" and not self._adult_after(user, age):
            raise AdultsOnly("showing to everyone is for adults: set `age` to adult as well")
        if suspended is not None:
            change["suspended"] = suspended
        if consent is not None:
            change["consent"] = consent
        if change:
            await self._write(user, change)
        return self.view(user)

    def _check_widening(self, user: str, visibility: str, consent: dict[str, Any] | None) -> None:
        wider = VISIBILITIES.index(visibility) > VISIBILITIES.index(self.view(user).visibility)
        if wider and consent is None:
            raise Invalid("widening visibility needs the person's consent", field="consent")

    def _adult_after(self, user: str, age: str | None) -> bool:
        if age == "minor":
            return False
        return self._people.adult_with(self._people.slot(user), age)

    async def _write(self, user: str, change: dict[str, Any]) -> None:
        fields = {
            name: value if isinstance(value, str) else orjson.dumps(value).decode() for name, value in change.items()
        }
        await self._writer.change(keys.person(user), "s", orjson.dumps({"u": user, **change}), fields)
