"""People in plain dicts: ages, visibility, blocks, friends. Each rule once, the obvious way."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
MONTH_MS = 30 * DAY_MS
VISIBILITIES = ("nobody", "friends", "everyone")
PRECISIONS = ("hidden", "city", "area", "near")


class Refusal(Exception):
    """The answer is a problem."""

    def __init__(self, status: int, code: str) -> None:
        super().__init__(status, code)
        self.status = status
        self.code = code


def invalid() -> Refusal:
    return Refusal(422, "invalid")


def instant(time_ms: int | None) -> str | None:
    """RFC 3339; the fraction only where there is one."""
    if time_ms is None:
        return None
    text = datetime.fromtimestamp(time_ms // 1000, UTC).isoformat().removesuffix("+00:00")
    return text + (f".{time_ms % 1000:03d}Z" if time_ms % 1000 else "Z")


@dataclass(frozen=True)
class Token:
    """What somebody's tokens always say."""

    age: str | None
    person: str | None


@dataclass
class Shown:
    """A visibility with its lapse (0 = none), and to what."""

    setting: str = "nobody"
    until_ms: int = 0
    fallback: str = "nobody"


@dataclass
class Half:
    """What one shows another; ``declined`` where that was ended. ``day``: when it was said last; the app says none."""

    precision: str
    until_ms: int = 0
    since_ms: int = 0
    asked_ms: int = 0
    guardian: bool = False
    day: int | None = None
    said_guardian: bool = False  # by the last who wrote this half

    @property
    def active(self) -> bool:
        return self.precision != "declined"

    def at(self, now_ms: int) -> str:
        return "area" if self.until_ms and now_ms >= self.until_ms else self.precision


class PeopleModel:
    """Who is who, and what they set about each other. ``now_ms`` is moved by the owner."""

    def __init__(self, tokens: dict[str, Token]) -> None:
        self.tokens = tokens
        self.now_ms = 0
        self.stranger_edge_ms = 0
        self.claims: dict[str, str | None] = {}  # as the feed was told
        self.app_ages: dict[str, str] = {}
        self.persons: dict[str, str] = {}
        self.shown: dict[str, Shown] = {}
        self.bottles_on: set[str] = set()
        self.suspended: dict[str, dict[str, int]] = {}
        self.blocks: dict[str, dict[str, str]] = {}  # blocker -> name on their list -> who
        self.halves: dict[tuple[str, str], Half] = {}

    # --- who ---

    def take_part(self, user: str) -> None:
        """The first act by which somebody takes part tells which human it is; each, an age that hides them."""
        person = self.tokens[user].person
        if person is not None:
            self.persons[user] = person
        if self.is_adult(user) and not self.may(user):
            self.claims[user] = self.tokens[user].age

    def human(self, user: str) -> str:
        person = self.persons.get(user)
        return user if person is None else f"person {person}"

    def accounts(self, user: str) -> set[str]:
        return {user} | {other for other in self.persons if self.human(other) == self.human(user)}

    def adult_by(self, app: str | None, claim: str | None) -> bool:
        """The lower of both; nothing known is a minor."""
        return "minor" not in (app, claim) and "adult" in (app, claim)

    def is_adult(self, user: str) -> bool:
        return self.adult_by(self.app_ages.get(user), self.claims.get(user))

    def may(self, user: str) -> bool:
        """Whether somebody calls as an adult."""
        return self.adult_by(self.app_ages.get(user), self.tokens[user].age)

    def require(self, user: str, feature: str) -> None:
        if not self.may(user):
            raise Refusal(403, "adults_only")
        self.require_not_suspended(user, feature)

    def require_not_suspended(self, user: str, feature: str) -> None:
        if self.suspended.get(user, {}).get(feature, 0) > self.now_ms:
            raise Refusal(403, "suspended")

    # --- settings ---

    def visibility(self, user: str) -> str:
        shown = self.shown.get(user, Shown())
        return shown.fallback if shown.until_ms and self.now_ms >= shown.until_ms else shown.setting

    def settings(self, user: str) -> dict[str, Any]:
        until_ms = self.shown.get(user, Shown()).until_ms
        return {
            "visibility": self.visibility(user),
            "visible_until": instant(until_ms if until_ms > self.now_ms else None),
            "quiet_zones": [],
            "bottles": "on" if user in self.bottles_on else "off",
        }

    def show(self, user: str, setting: str, until_ms: int) -> None:
        before = self.visibility(user)
        fallback = self.shown.get(user, Shown()).fallback
        if setting != "everyone":
            fallback = "nobody"
        elif before != "everyone":
            fallback = before
        self.shown[user] = Shown(setting, until_ms, fallback)

    def change_settings(self, user: str, visibility: str | None, until_ms: int | None, bottles: bool | None) -> Any:
        self.take_part(user)
        setting = visibility
        if until_ms is not None:
            setting = visibility or self.visibility(user)
        chosen_ms = 0
        if visibility is not None:
            chosen_ms = self._until(setting, until_ms)
        if (visibility == "everyone" or bottles) and not self.may(user):
            raise Refusal(403, "adults_only")
        if visibility is None and until_ms is not None:
            chosen_ms = self._until(setting, until_ms)
        if setting is None and bottles is None:
            return self.settings(user)
        if setting is not None:
            self.show(user, setting, chosen_ms)
        if bottles is not None:
            (self.bottles_on.add if bottles else self.bottles_on.discard)(user)
        self.claims[user] = self.tokens[user].age
        return self.settings(user)

    def _until(self, setting: str | None, until_ms: int | None) -> int:
        if until_ms is None:
            return self.now_ms + 8 * HOUR_MS if setting == "everyone" else 0
        if setting == "nobody" or not self.now_ms < until_ms <= self.now_ms + DAY_MS:
            raise invalid()
        return until_ms

    def change_by_app(
        self, user: str, visibility: str | None, consent: bool, age: str | None, suspended: dict[str, int] | None
    ) -> Any:
        if visibility == "everyone":
            app = self.app_ages.get(user) if age is None else age
            if not self.adult_by(app, self.claims.get(user)):
                raise Refusal(403, "adults_only")
        if visibility is not None:
            self._show_by_app(user, visibility, consent)
        if age is not None:
            self.app_ages[user] = age
        if suspended is not None:
            self.suspended[user] = suspended
        until_ms = self.shown.get(user, Shown()).until_ms
        until = instant(until_ms if until_ms > self.now_ms else None)
        return {"user": user, "visibility": self.visibility(user), "visible_until": until}

    def _show_by_app(self, user: str, visibility: str, consent: bool) -> None:
        """Without consent nobody is shown to more people, nor longer."""
        before, lapses_ms = self.visibility(user), self.shown.get(user, Shown()).until_ms
        until_ms = self._until(visibility, None)
        if not consent:
            if VISIBILITIES.index(visibility) > VISIBILITIES.index(before):
                raise invalid()
            if visibility == before and lapses_ms > self.now_ms:
                until_ms = min(until_ms or lapses_ms, lapses_ms)
        self.show(user, visibility, until_ms)

    # --- blocks ---

    def block(self, user: str, target: str, name: str | None = None) -> None:
        self.take_part(user)
        if user == target:
            return
        for a in self.accounts(user):
            for b in self.accounts(target):
                if (a, b) != (user, target) and self.half(a, b) is not None:
                    self.halves[a, b] = Half("declined", asked_ms=self.now_ms)
        mine, shown = self.blocks.setdefault(user, {}), name or target
        if shown in mine and (mine[shown] == target or shown == target):
            return
        mine[shown] = target
        if (user, target) in self.halves:
            self.halves[user, target] = Half("declined", asked_ms=self.now_ms)

    def unblock(self, user: str, name: str) -> None:
        self.blocks.get(user, {}).pop(name, None)

    def blocked(self, a: str, b: str) -> bool:
        """Either human blocked the other."""
        ones, others = self.accounts(a), self.accounts(b)
        return any(target in others for one in ones for target in self.blocks.get(one, {}).values()) or any(
            target in ones for other in others for target in self.blocks.get(other, {}).values()
        )

    # --- friends ---

    def half(self, owner: str, other: str) -> Half | None:
        found = self.halves.get((owner, other))
        return found if found is not None and found.active else None

    def accepted(self, a: str, b: str) -> bool:
        mine, theirs = self.half(a, b), self.half(b, a)
        if mine is None or theirs is None or self.blocked(a, b):
            return False
        if self.is_adult(a) == self.is_adult(b) or mine.guardian or theirs.guardian:
            return True
        minor, adult = (theirs, mine) if self.is_adult(a) else (mine, theirs)
        return minor.since_ms < adult.since_ms

    def friends(self, user: str) -> list[str]:
        return [other for owner, other in self.halves if owner == user and self.accepted(user, other)]

    def seen_at(self, a: str, b: str) -> str:
        """Of two friends."""
        coarser = min((self.halves[pair].at(self.now_ms) for pair in ((a, b), (b, a))), key=PRECISIONS.index)
        return "area" if coarser == "near" and not (self.is_adult(a) and self.is_adult(b)) else coarser

    def hidden_between(self, a: str, b: str) -> bool:
        return self.accepted(a, b) and self.seen_at(a, b) == "hidden"

    def friend_row(self, user: str, other: str) -> dict[str, Any] | None:
        mine = self.half(user, other)
        if mine is None:
            incoming = self._asks(other, user)
            row = {"user": other, "state": "incoming", "i_show": None, "shows_me": None, "until": None}
            return row if incoming else None
        accepted = self.accepted(user, other)
        return {
            "user": other,
            "state": "accepted" if accepted else "requested",
            "i_show": mine.at(self.now_ms),
            "shows_me": self._shown_by(other, user) if accepted else None,
            "until": instant(mine.until_ms if mine.until_ms > self.now_ms else None),
        }

    def _shown_by(self, other: str, user: str) -> str:
        precision = self.halves[other, user].at(self.now_ms)
        return "area" if precision == "near" and not self.is_adult(other) else precision

    def _asks(self, other: str, user: str) -> bool:
        theirs = self.half(other, user)
        if theirs is None or self.blocked(user, other):
            return False
        declined = self.halves.get((user, other))
        return declined is None or theirs.asked_ms > declined.asked_ms + MONTH_MS

    def friend_list(self, user: str) -> dict[str, Any]:
        others = {b for a, b in self.halves if a == user} | {a for a, b in self.halves if b == user}
        rows = [row for other in sorted(others) if (row := self.friend_row(user, other)) is not None]
        return {"friends": rows}

    def befriend(self, user: str, other: str, precision: str, until_ms: int | None) -> Any:
        self.take_part(user)
        self.claims[user] = self.tokens[user].age
        if user == other:
            raise invalid()
        if precision != "near" and until_ms is not None:
            raise invalid()
        if precision == "near":
            if not self.may(user):
                raise Refusal(403, "adults_only")
            if until_ms is not None and not self.now_ms < until_ms <= self.now_ms + MONTH_MS:
                raise invalid()
            until_ms = until_ms or self.now_ms + MONTH_MS
        self._say(user, other, precision, until_ms or 0)
        return self.friend_row(user, other)

    def unfriend(self, user: str, other: str) -> None:
        if self.half(user, other) or self.half(other, user):
            self._say(user, other, "declined", 0)

    def _say(self, user: str, other: str, precision: str, until_ms: int) -> None:
        """A person's own word; the same word twice in a day is said once."""
        day, old = self.now_ms // DAY_MS, self.halves.get((user, other))
        if old and (old.precision, old.until_ms, old.day, old.said_guardian) == (precision, until_ms, day, False):
            return
        self._set(user, other, precision, until_ms, guardian=False)
        self.halves[user, other].day = day

    def _set(self, user: str, other: str, precision: str, until_ms: int, *, guardian: bool) -> None:
        old, now_ms = self.half(user, other), self.now_ms
        vouched = precision != "declined" and (guardian or (old is not None and old.guardian))
        since_ms = old.since_ms if old else now_ms
        self.halves[user, other] = Half(precision, until_ms, since_ms, now_ms, vouched, None, guardian)

    def pair_by_app(self, rows: list[dict[str, Any]]) -> Any:
        skipped = []
        for index, row in enumerate(rows):
            code = self._pair_by_app(row["a"], row["b"], row["op"], row["guardian"])
            if code is not None:
                skipped.append({"index": index, "code": code})
        return {"applied": len(rows) - len(skipped), "skipped": skipped}

    def _pair_by_app(self, a: str, b: str, op: str, guardian: bool) -> str | None:
        if a == b:
            return "self"
        if op == "remove":
            for pair in ((a, b), (b, a)):
                if self.half(*pair):
                    del self.halves[pair]
            return None
        if not guardian and self.is_adult(a) != self.is_adult(b):
            return "guardian_required"
        if self._refuses(a, b) or self._refuses(b, a):
            return "declined_by_person"
        for owner, other in ((a, b), (b, a)):
            old = self.half(owner, other)
            if old is None:
                self._set(owner, other, "area", 0, guardian=guardian)
            elif guardian and not old.said_guardian:
                self._set(owner, other, old.precision, old.until_ms, guardian=True)
        return None

    def _refuses(self, owner: str, other: str) -> bool:
        half = self.halves.get((owner, other))
        declined = half is not None and half.precision in ("declined", "hidden")
        return declined or other in self.blocks.get(owner, {}).values()
