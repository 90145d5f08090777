"""Nearhive in plain dicts: what every call answers, by the rules in words. No arrays, no feed, no state, no clock.

It shares with the product the public H3 functions and the twins of the tests; nothing that decides.
"""

from functools import lru_cache
from typing import Any

import h3.api.basic_int as h3

from discovery.shake_entries import ANYWHERE, NEARBY, Shake
from tests import naive_geo
from tests.model import keyed
from tests.model.people_model import HOUR_MS, VISIBILITIES, PeopleModel, Refusal, Token, instant
from tests.naive_presence import NaivePresence, Person
from tests.naive_shake import NaiveShake, _meet, shown_matches

BANDS_M = (0, 3000, 5000, 10_000, 20_000, 50_000)
RESOLUTION = {"city": 5, "area": 7, "near": 8}
SHAKE_WINDOW_MS = 5000
SHAKE_READABLE_MS = 600_000
WORST_ACCURACY_M = 600
_UNCLEAR_M = 1.0

Point = tuple[float, float]


@lru_cache(maxsize=100_000)
def distance_m(a: int, b: int) -> float:
    """Between centres of cells."""
    return 0.0 if a == b else naive_geo.distance_m(*h3.cell_to_latlng(a), *h3.cell_to_latlng(b))


def margin_m(accuracy_m: float | None) -> float:
    return 40.0 if accuracy_m is None else max(40.0, min(5 * accuracy_m, 100.0))


@lru_cache(maxsize=100_000)
def outside_m(point: Point, cell: int) -> float:
    """How far a point lies outside of a cell; 0 inside."""
    if h3.latlng_to_cell(*point, 8) == cell:
        return 0.0
    return naive_geo.distance_to_ring_m(*point, h3.cell_to_boundary(cell), parts=80)  # 0.14 m too much, at 40 m


def shown_cell(cell: int) -> dict[str, Any]:
    uncertainty_m = 0.399 * h3.cell_area(cell, "m^2") ** 0.5
    return {"cell": f"{cell:x}", "resolution": h3.get_resolution(cell), "uncertainty_m": round(uncertainty_m, 1)}


class WorldModel(PeopleModel):
    """Everything but bottles."""

    def __init__(self, tokens: dict[str, Token], secret: bytes, epoch_ms: int) -> None:
        super().__init__(tokens)
        self.secret = secret
        self.epoch_ms = epoch_ms
        self.presence = NaivePresence()
        self.extended_ms: dict[str, int] = {}  # the epoch in which an expiry moved last
        self.shakes: dict[tuple[str, str], NaiveShake] = {}
        self.shake_asked: dict[tuple[str, str], tuple[Any, int]] = {}
        self.shake_closes_ms: dict[int, int] = {}

    def at(self, now_ms: int) -> None:
        """Time is now."""
        self.now_ms = now_ms
        self.presence.on_time(now_ms, self.epoch_ms)
        self.stranger_edge_ms = self.presence.stranger_edge_ms

    @property
    def next_stranger_edge_ms(self) -> int:
        return self._next_stranger_edge_ms(self.now_ms)

    def _next_stranger_edge_ms(self, now_ms: int) -> int:
        length_ms = 3 * self.epoch_ms
        return (now_ms // length_ms + 1) * length_ms

    # --- positions ---

    def person(self, user: str) -> Person:
        return self.presence.people.get(user, Person())

    def live(self, user: str) -> bool:
        return self.person(user).live_until_ms > self.now_ms

    def unclear(self, user: str, point: Point, accuracy_m: float | None) -> bool:
        """Whether a point lies so close to the margin of hysteresis that rounding decides."""
        kept = self.person(user).published
        return bool(kept) and abs(outside_m(point, kept) - margin_m(accuracy_m)) < _UNCLEAR_M

    def snapped(self, user: str, point: Point, accuracy_m: float | None) -> int:
        kept = self.person(user).published
        cell = h3.latlng_to_cell(*point, 8)
        stays = kept and outside_m(point, kept) < margin_m(accuracy_m)
        return kept if stays else int(cell)

    def expiry_ms(self, user: str, ttl_s: int) -> int:
        """An edge; moved later by an eighth at least, once an epoch; shortened at once."""
        wanted_ms = -(-(self.now_ms + 1000 * ttl_s) // self.epoch_ms) * self.epoch_ms
        if not self.live(user):
            return wanted_ms
        standing_ms = self.person(user).live_until_ms
        fresh = self.extended_ms.get(user, 0) < self.presence.edge_ms
        extends = fresh and wanted_ms - standing_ms >= 1000 * ttl_s // 8
        return wanted_ms if extends or wanted_ms < standing_ms else standing_ms

    def _report(self, user: str, cell: int, expiry_ms: int, *, own: bool) -> None:
        before_ms = self.person(user).live_until_ms
        self.presence.report(user, cell, expiry_ms, self.now_ms, own=own)
        if expiry_ms and self.person(user).live_until_ms == expiry_ms != before_ms:
            self.extended_ms[user] = self.presence.edge_ms

    def put_position(self, user: str, point: Point, accuracy_m: float | None, ttl_s: int) -> Any:
        self.take_part(user)
        if accuracy_m is not None and accuracy_m > WORST_ACCURACY_M:
            raise Refusal(422, "too_inaccurate")
        self.claims[user] = self.tokens[user].age
        self._report(user, self.snapped(user, point, accuracy_m), self.expiry_ms(user, ttl_s), own=True)
        return self.position(user)

    def app_positions(self, rows: list[dict[str, Any]]) -> Any:
        """Of several rows of one person the last counts."""
        rejected, last = [], {}
        for index, row in enumerate(rows):
            accuracy_m = row.get("accuracy_m")
            if accuracy_m is not None and accuracy_m > WORST_ACCURACY_M:
                rejected.append({"index": index, "field": "accuracy_m", "code": "too_inaccurate"})
            elif row["user"] in self.presence.cleared:
                rejected.append({"index": index, "field": "user", "code": "cleared_by_person"})
            else:
                last[row["user"]] = row
        for user, row in last.items():
            cell = self.snapped(user, (row["lat"], row["lon"]), row.get("accuracy_m"))
            self._report(user, cell, self.expiry_ms(user, row["ttl_s"]), own=False)
        return {"accepted": len(rows) - len(rejected), "rejected": rejected}

    def position(self, user: str) -> Any:
        if not self.live(user):
            raise Refusal(404, "not_found")
        return {
            "expires_at": instant(self.person(user).live_until_ms),
            "next_epoch_at": instant(self.next_stranger_edge_ms),
            "published": shown_cell(self.cell_at(user, "area")),
            "finest": self._finest(user),
            "visibility": self.visibility(user),
            "in_quiet_zone": False,
        }

    def _finest(self, user: str) -> Any:
        seen = {self.seen_at(user, other) for other in self.friends(user)} - {"hidden"}
        if not seen or self.visibility(user) == "nobody":
            return None
        precision = max(seen, key=RESOLUTION.__getitem__)
        return {**shown_cell(self.cell_at(user, precision)), "audience": precision}

    def cell_at(self, user: str, precision: str) -> int:
        """What a friend at a precision sees; strangers see `area`."""
        if precision == "near":
            return self.person(user).published
        return int(h3.cell_to_parent(self.person(user).stranger, RESOLUTION[precision]))

    def clear(self, user: str) -> None:
        self.presence.clear(user, self.now_ms)

    # --- who sees whom ---

    def _require_sight(self, user: str, least: str) -> None:
        if not self.live(user):
            raise Refusal(409, "position_required")
        if VISIBILITIES.index(self.visibility(user)) < VISIBILITIES.index(least):
            raise Refusal(409, "not_visible")

    def shown_to_strangers(self, user: str) -> bool:
        """A suspension of nearby hides to the end of the stranger epoch in which it ends."""
        suspended = self.suspended.get(user, {}).get("nearby", 0) > self.stranger_edge_ms
        return self.live(user) and self.visibility(user) == "everyone" and self.is_adult(user) and not suspended

    def nearby(self, user: str, radius_m: int) -> list[dict[str, Any]]:
        """The whole list: by band, inside a band along the circle from the viewer's own place."""
        self.require(user, "nearby")
        self._require_sight(user, "everyone")
        here, epoch = self.cell_at(user, "area"), self.stranger_edge_ms
        start = keyed.circle_key(self.secret, epoch, user)
        found = []
        for other in self.presence.people:
            if other == user or not self.shown_to_strangers(other):
                continue
            if self.must_not_meet(user, other) or self.accepted(user, other):
                continue
            far_m = distance_m(here, self.cell_at(other, "area"))
            if far_m < radius_m:
                band = next(i for i, end_m in enumerate(BANDS_M[1:]) if far_m < end_m)
                offset = (keyed.circle_key(self.secret, epoch, other) - start) % naive_geo.CIRCLE
                found.append((band, offset, other))
        return [
            {"user": other, "distance_min_m": BANDS_M[band], "distance_max_m": BANDS_M[band + 1]}
            for band, _, other in sorted(found)
        ]

    def must_not_meet(self, user: str, other: str) -> bool:
        return self.blocked(user, other) and other not in self.accounts(user)

    def radar(self, user: str, radius_m: int) -> Any:
        self.require_not_suspended(user, "radar")
        self._require_sight(user, "friends")
        found = []
        for other in self.friends(user):
            precision = self.seen_at(user, other)
            if not self.live(other) or self.visibility(other) == "nobody" or precision == "hidden":
                continue
            cell = self.cell_at(other, precision)
            far_m = distance_m(self.cell_at(user, precision), cell)
            if far_m <= radius_m:
                found.append((round(far_m, 3), other, precision, f"{cell:x}"))
        rows = [
            {"user": other, "precision": precision, "distance_m": far_m, "cell": cell}
            for far_m, other, precision, cell in sorted(found)
        ]
        return {"friends": rows, "epoch_at": instant(self.presence.edge_ms)}

    # --- shakes ---

    def shake(self, user: str, key: str, point: Point, reach: str, limit: int) -> Any:
        self.take_part(user)
        self.require(user, "shake")
        asked = h3.latlng_to_cell(*point, 8), reach, limit
        first = self.shake_asked.setdefault((user, key), (asked, self.now_ms))
        if first[0] != asked:
            raise Refusal(422, "idempotency_key_reused")
        if (user, key) not in self.shakes:
            self.claims[user] = self.tokens[user].age
            self._report(user, self.snapped(user, point, None), 0, own=True)
            self._fold_shake(user, key, reach, limit)
        return self.shake_seen(user, key)

    def _fold_shake(self, user: str, key: str, reach: str, limit: int) -> None:
        never = {self._human_hash(o) for o in self._everybody() if self.must_not_meet(user, o) or self._hidden(user, o)}
        shake = Shake(
            shake_hash=len(self.shakes),
            person=user,
            person_hash=self._human_hash(user),
            cell7=self.cell_at(user, "area"),
            reach=ANYWHERE if reach == "anywhere" else NEARBY,
            limit=limit,
            adult=self.is_adult(user),
            window_ms=SHAKE_WINDOW_MS,
            excluded=tuple(sorted(never)),
        )
        epoch = keyed.epoch_key(self.secret, self.now_ms // (3 * self.epoch_ms))
        newcomer = NaiveShake(shake, self.now_ms, len(self.shakes), epoch)
        for old in self.shakes.values():
            if old.shake.person_hash == shake.person_hash and not old.superseded:
                old.superseded = True
                closes_ms = self.shake_closes_ms[old.position]
                self.shake_closes_ms[old.position] = min(closes_ms, self.now_ms)
        _meet(newcomer, list(self.shakes.values()))
        self.shakes[user, key] = newcomer
        self.shake_closes_ms[newcomer.position] = self.now_ms + SHAKE_WINDOW_MS

    def _everybody(self) -> list[str]:
        return list(self.tokens)

    def _human_hash(self, user: str) -> int:
        return keyed.person_hash(self.secret, self.human(user))

    def _hidden(self, user: str, other: str) -> bool:
        return user != other and self.hidden_between(user, other)

    def shake_read(self, user: str, key: str) -> Any:
        self.require(user, "shake")
        return self.shake_seen(user, key)

    def shake_seen(self, user: str, key: str) -> Any:
        found = self.shakes[user, key]
        if found.hive_ms + SHAKE_READABLE_MS < self.now_ms:
            raise Refusal(404, "not_found")
        ends = {0: (0, 3000), 1: (3000, 5000), 2: (None, None)}
        matches = [
            {"user": other, "distance_min_m": ends[band][0], "distance_max_m": ends[band][1]}
            for other, band in shown_matches(found)
            if not self.must_not_meet(user, other) and not self._hidden(user, other)
        ]
        closes_ms = self.shake_closes_ms[found.position]
        state = "matched" if matches else "nobody" if self.now_ms > closes_ms else "waiting"
        return {
            "state": state,
            "matches": matches,
            "closes_at": instant(closes_ms),
            "moves_at": instant(self._next_stranger_edge_ms(found.hive_ms)),
        }


__all__ = ["HOUR_MS", "Refusal", "Token", "WorldModel", "instant"]
