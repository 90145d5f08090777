"""Random histories of people over shards, folded part by part without any feed: settings, reports, friends, blocks."""

import random
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson

from discovery.exposure import Exposure, Look
from discovery.friends import Friendships
from discovery.people import People
from discovery.presence import Presence
from discovery.reports import CLAIM_ADULT, CLAIM_KNOWN, CLAIM_TOLD, JUMP, OWN, Report, pack, unpack
from discovery.safety import Blocks
from discovery.sealed import Sealer
from discovery.shard_packing import ShardState
from discovery.shard_packing import pack as pack_state
from discovery.shard_packing import unpack as unpack_state
from discovery.shard_state import ShardedPeople, Snapshot, state_of
from discovery.store.feed import Place
from discovery.store.keys import Shards
from geo import cells

SECRET = b"secret of the shard tests, of 32 bytes"
SEALER = Sealer(SECRET)
EPOCH_MS = 900_000
STRANGER_EPOCH_MS = 3 * EPOCH_MS
START_MS = 1_800_000_000_000 // STRANGER_EPOCH_MS * STRANGER_EPOCH_MS
USERS = [f"u{n}" for n in range(14)]
ZONE = cells.cell_of(48.8566, 2.3522, 5)
CELLS8 = [int(cell) for cell in cells.disk(cells.cell_of(48.8566, 2.3522, 8), 6000.0)[0]][::7]
ELSEWHERE = next(cells.parent(cell, 5) for cell in CELLS8 if cells.parent(cell, 5) != ZONE)


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a shard's feed; ``content`` as the fold of its ``kind`` takes it, '' for a tick."""

    now_ms: int
    kind: str
    content: Any


class Folded:
    """Everything folded of people in one worker."""

    def __init__(self, shards: int, sealer: Sealer = SEALER, known: Iterable[str] = ()) -> None:
        self.people = People(sealer, require_age=True, shards=Shards(shards))
        self.presence = Presence(self.people, sealer.epoch_key)
        self.blocks = Blocks(self.people)
        self.friendships = Friendships(self.people, self.blocks)
        self.sharded = ShardedPeople(self.people, self.presence, self.friendships, self.blocks)
        self.exposure = Exposure(self.people)
        self.people.slots_or_new(list(known))

    def fold(self, shard: int, entry: Entry) -> None:
        now_ms, content = entry.now_ms, entry.content
        if entry.kind == "r":
            self.presence.fold_reports(unpack(pack(content)), now_ms, shard)
        elif entry.kind == "s":
            self.fold_settings(content, now_ms)
        elif entry.kind == "f":
            self.friendships.fold(orjson.dumps(content), now_ms)
        elif entry.kind == "x":
            pair = self.blocks.fold(orjson.dumps(content), now_ms)
            if pair is not None:
                self.friendships.decline(*pair, now_ms)
        elif entry.kind == "m":
            self.people.fold_mute(content)
        elif entry.kind == "c":
            self.presence.fold_clear(content, now_ms)
            self.friendships.precise.end_all(self.people.slot_or_new(content))
        elif entry.kind == "p":
            self.friendships.precise.fold_share(orjson.dumps(content), now_ms)
        elif entry.kind == "l":
            self.friendships.precise.fold_cells(orjson.dumps(content), now_ms)
        elif entry.kind == "v":
            self.exposure.fold(orjson.dumps(content))

    def fold_settings(self, change: dict[str, Any], now_ms: int) -> None:
        hidden = not self.people.visibility_at(self.people.slot_or_new(change["u"]), now_ms)
        slot = self.people.fold_settings(change, now_ms)
        self.presence.refresh_one(slot, now_ms)
        self.friendships.fold_settings(slot, now_ms, was_hidden=hidden)

    def replay(self, shard: int, entries: Iterable[Entry], epoch_ms: int = EPOCH_MS) -> None:
        """Fold a part of one shard's feed, which crosses its edges alone."""
        for entry in entries:
            self.presence.on_time(entry.now_ms, epoch_ms, shard)
            self.fold(shard, entry)

    def snapshot(self, shard: int, now_ms: int = START_MS) -> Snapshot:
        """``now_ms`` in front of the end of every precise share, so that none is left out."""
        epochs = self.presence.edges(shard).epochs
        where = place(now_ms, epochs.epoch_ms if epochs else 0)
        return self.sharded.snapshot(shard, where, self.sharded.room(shard))

    def packed(self, shard: int, now_ms: int = START_MS) -> list[bytes]:
        return pack_state(state_of(self.snapshot(shard, now_ms)))

    def load(self, packed: list[bytes]) -> ShardState:
        state = unpack_state(packed)
        self.sharded.load(state)
        return state

    # --- what can be told apart, by id ---

    def facts(self) -> dict[str, Any]:
        """Everything folded of everybody, as far as it still means anything."""
        ids = self.people.ids
        found: dict[str, dict[str, Any]] = {}
        self.presence.fit()
        columns = {name: getattr(self.people, name) for name in People.FOLDED}
        columns.update({name: getattr(self.presence, name) for name in Presence.FOLDED})
        for name, column in columns.items():
            for slot in np.flatnonzero(column[: len(ids)]).tolist():
                found.setdefault(ids[slot], {})[name] = int(column[slot])
        for slot, person in self.people.persons.items():
            found.setdefault(ids[slot], {})["person"] = person
        for slot, human in self.people.humans.erased().items():
            found.setdefault(ids[slot], {})["once of"] = human
        for slot, zones in self.people.quiet_zones.standing().items():
            found.setdefault(ids[slot], {})["quiet zones"] = zones
        for slot, others in self.people.mutes.standing().items():
            found.setdefault(ids[slot], {})["mutes"] = others
        for slot, until in self.people.suspensions.items():
            lasting = {key: end_ms for key, end_ms in until.items() if end_ms > self.presence.stranger_edge_ms}
            if lasting:
                found.setdefault(ids[slot], {})["suspensions"] = lasting
        crossed_ms = max(self.presence.edges(shard).edge_ms for shard in self.people.shards.all())
        for slot, precise in self.friendships.precise.standing(crossed_ms).items():
            shares = {ids[other]: share for other, share in precise.shares.items()}
            found.setdefault(ids[slot], {})["precise"] = (precise.cell, shares)
        for slot, today in self.people.shown.items():
            if today.day >= self.presence.stranger_edge_ms // 86_400_000:
                found.setdefault(ids[slot], {})["was shown"] = (today.day, today.marks.tolist())
        for slot, shown in self.friendships.standing().items():
            found.setdefault(ids[slot], {})["shows"] = {ids[other]: half for other, half in shown.items()}
        for slot, names in self.blocks.standing().items():
            found.setdefault(ids[slot], {})["blocks"] = {
                name: (ids[block.blocked], block.order) for name, block in names.items()
            }
        edges = {shard: self.presence.edges(shard) for shard in self.people.shards.all()}
        return {**found, "edges": edges, "counts": [self.blocks.count(shard) for shard in edges]}

    def answers(self, now_ms: int) -> dict[str, Any]:
        """What people are told."""
        crowd = self.presence.crowd(now_ms)
        told: dict[str, Any] = {"live": self.presence.count_live(now_ms), "crowd": len(crowd)}
        for user in USERS:
            slot = self.people.slot_or_new(user)
            shown_ms = int(self.presence.shown_until_ms[slot]) if slot < len(self.presence.shown_until_ms) else 0
            told[user] = {
                "shown": shown_ms > now_ms and shown_ms,
                "in crowd": slot in crowd,
                "adult": self.people.is_adult(slot),
                "visibility": self.people.visibility_at(slot, now_ms),
                "quiet": self.presence.in_quiet_zone(slot),
                "accounts": self.named(self.people.accounts(slot)),
                "list": self.friendships.listed(slot, now_ms),
                "precise": self.friendships.shares_precisely(slot, now_ms),
                "friends": self.named(self.friendships.friends(slot)),
                "hidden": self.named(self.friendships.hidden_between(slot)),
                "blocked names": self.blocks.names(slot),
                "blocked": self.named(self.blocks.either_way(slot)),
                "newest": self.by_newest(slot),
                "muted": self.named(self.people.muted(slot)),
                "withheld": self.people.withheld(slot, "nearby", now_ms),
            }
        return told

    def named(self, slots: Iterable[int]) -> list[str]:
        return sorted(self.people.ids[slot] for slot in slots)

    def by_newest(self, slot: int) -> list[str]:
        return [self.people.ids[other] for other in self.blocks.newest_first(slot)]

    def digest(self) -> int:
        """Of everybody, whatever the edges say."""
        self.presence._take_digest(-1)
        return self.presence.digests.pop(-1)


def place(now_ms: int = START_MS, epoch_ms: int = EPOCH_MS) -> Place:
    return Place((now_ms, 3), 0xDEADBEEF, now_ms, -5, epoch_ms)


class History:
    """Feeds of all shards, drawn at random; hive time of the shards runs a little apart."""

    def __init__(self, draws: random.Random, shards: int, acts: int) -> None:
        self.draws = draws
        self.shards = Shards(shards)
        self.feeds: list[list[Entry]] = [[] for _ in range(shards)]
        self.now_ms = START_MS + 1000
        for _ in range(acts):
            self.now_ms += draws.choice([0, 1, 700, 60_000, 60_000, EPOCH_MS // 2, EPOCH_MS, STRANGER_EPOCH_MS])
            user = draws.choice(USERS)
            self.add(self.shards.of(user), *self.act(user))
        self.now_ms += STRANGER_EPOCH_MS
        for shard in self.shards.all():
            self.add(shard, "", None)

    def add(self, shard: int, kind: str, content: Any) -> None:
        before_ms = self.feeds[shard][-1].now_ms if self.feeds[shard] else 0
        now_ms = max(before_ms, self.now_ms + self.draws.choice([0, 0, 3, 40]))
        self.feeds[shard].append(Entry(now_ms, kind, content))

    def act(self, user: str) -> tuple[str, Any]:
        kind = self.draws.choice(
            ["reports"] * 4
            + [
                "shake",
                "settings",
                "settings",
                "app",
                "half",
                "half",
                "share",
                "share",
                "block",
                "clear",
                "mute",
                "moderated",
                "look",
            ]
        )
        return getattr(self, f"_{kind}")(user)  # type: ignore[no-any-return]

    def _reports(self, user: str) -> tuple[str, Any]:
        same = [other for other in USERS if self.shards.of(other) == self.shards.of(user)]
        who = [user, *self.draws.sample(same, self.draws.randrange(len(same)))]
        return "r", [self._report(other, self.draws.choice([60_000, EPOCH_MS, 40_000_000])) for other in who]

    def _shake(self, user: str) -> tuple[str, Any]:
        return "r", [self._report(user, 0)]

    def _report(self, user: str, ttl_ms: int) -> Report:
        flags = (
            self.draws.choice([0, OWN, OWN, CLAIM_TOLD | CLAIM_KNOWN, JUMP]) | CLAIM_TOLD | CLAIM_KNOWN | CLAIM_ADULT
        )
        expiry_ms = self.now_ms + ttl_ms if ttl_ms else 0
        return Report(user, self.draws.choice(CELLS8), expiry_ms, flags if ttl_ms else flags & ~OWN)

    def _settings(self, user: str) -> tuple[str, Any]:
        change: dict[str, Any] = {"u": user}
        if self.draws.random() < 0.7:
            change["visibility"] = self.draws.choice(["everyone", "everyone", "friends", "nobody"])
            change["until"] = self.draws.choice([0, 0, self.now_ms + 2 * EPOCH_MS])
        if self.draws.random() < 0.3:
            change["bottles"] = self.draws.random() < 0.7
        if self.draws.random() < 0.3:
            change["person"] = self.draws.choice(["human", "other human", f"only {user}"])
        if self.draws.random() < 0.3:
            change["quiet_zones"] = self.draws.choice([[], [ZONE], [ZONE, ELSEWHERE], [ELSEWHERE]])
        return "s", change

    def _app(self, user: str) -> tuple[str, Any]:
        until_ms = self.now_ms + self.draws.choice([-1, 1000, 40_000_000])
        suspended = self.draws.choice([{}, {"nearby": until_ms}, {"shake": until_ms, "nearby": self.now_ms + 5}])
        return "s", {"u": user, "age": self.draws.choice([None, "adult", "adult", "minor"]), "suspended": suspended}

    def _half(self, user: str) -> tuple[str, Any]:
        other = self.draws.choice([other for other in USERS if other != user])
        precision = self.draws.choice(["hidden", "city", "area", "near", "near", "declined", None])
        until_ms = self.now_ms + 2 * EPOCH_MS if precision == "near" else 0
        return "f", [[user, other, precision, until_ms, self.draws.random() < 0.2]]

    def _share(self, user: str) -> tuple[str, Any]:
        if self.draws.random() < 0.5:
            cell = cells.cell_of(48.8566, self.draws.uniform(2.35, 2.36), 11)
            return "l", [[user, self.draws.choice([cell, cell, 0])]]
        other = self.draws.choice([other for other in USERS if other != user])
        return "p", [user, other, self.now_ms + self.draws.choice([EPOCH_MS, 80_000_000]), self.now_ms]

    def _block(self, user: str) -> tuple[str, Any]:
        other = self.draws.choice([other for other in USERS if other != user])
        name = self.draws.choice([other, other, f"bottle:{self.draws.randrange(3)}"])
        return "x", [user, name, self.draws.choice([other, other, None])]

    def _mute(self, user: str) -> tuple[str, Any]:
        return "m", [user, self.draws.choice([*USERS, "unknown"]), self.draws.random() < 0.7]

    def _moderated(self, user: str) -> tuple[str, Any]:
        until_ms = self.draws.choice([0, self.now_ms + 1000, self.now_ms + 10**12])
        return "s", {"u": user, "moderated": {self.draws.choice(["hold", "moderator nearby"]): until_ms}}

    def _look(self, user: str) -> tuple[str, Any]:
        """At strangers, or a shake, from one of a few cells; perhaps as a new account, of which it counts whom."""
        others = tuple(self.draws.sample([other for other in USERS if other != user], self.draws.choice([0, 0, 1, 4])))
        edge_ms = self.now_ms // STRANGER_EPOCH_MS * STRANGER_EPOCH_MS
        return "v", [tuple(Look(user, edge_ms, self.draws.random() < 0.8, self.draws.randrange(1, 4), others))]

    def _clear(self, user: str) -> tuple[str, Any]:
        return "c", user
