"""One worker's whole world: it follows the feeds, folds them into arrays, and offers each feature by name.

Nothing here decides a rule: this module wires the parts and routes each kind of feed entry to the part that folds it.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from discovery.app_backend import AppBackend
from discovery.bottles import Bottles
from discovery.friends import Friends, Friendships
from discovery.nearby import Nearby
from discovery.people import People
from discovery.people_fold import PeopleFold
from discovery.positions import Positions
from discovery.presence import Presence
from discovery.radar import Radar
from discovery.report_queue import ReportQueues
from discovery.safety import Blocks, Safety
from discovery.sealed import Sealer
from discovery.settings import Settings
from discovery.shake import Shakes
from discovery.shake_fold import ShakeFold
from discovery.store import keys
from discovery.store.client import State
from discovery.store.feed import EntryId, Follower, Place
from discovery.store.feeds import Feeds
from discovery.store.writer import Writer
from discovery.stores.catalogue import Catalogue
from discovery.stores.news import StoreNews
from discovery.stores.service import Stores

log = structlog.get_logger("nearhive.hive")


@dataclass(slots=True, frozen=True)
class Rules:
    """Settings of a deployment that the features need."""

    shake_window_ms: int = 5000
    require_age: bool = True
    bottle_throws_per_day: int = 20
    bottle_picks_per_day: int = 20
    quick_deadline_s: float = 0.3  # for reads of the state and class C; who answers later answers nobody
    ticks_missed_after_s: float = 3.0  # without ticks nothing expires or lapses: then people reads are refused


class _Alone:
    async def everyone_folded(self, shard: int, entry: EntryId, deadline_s: float) -> None:
        return

    async def everyone_loaded(self, shard: int, entry: EntryId, deadline_s: float) -> None:
        return


class Hive:
    """All features on one state client. ``random32`` gives uniform 32-bit integers, ``random_bytes`` n random bytes.

    ``monotonic`` (seconds) only measures how long nothing was read; every rule runs on hive time.
    """

    def __init__(
        self,
        state: State,
        secret: bytes,
        rules: Rules,
        random32: Callable[[], int],
        random_bytes: Callable[[int], bytes],
        monotonic: Callable[[], float],
    ) -> None:
        self.state = state
        self.rules = rules
        self.sealer = Sealer(secret)
        self.shards = keys.Shards()
        self.people = People(self.sealer, require_age=rules.require_age, shards=self.shards)
        self.blocks = Blocks(self.people)
        self.friendships = Friendships(self.people, self.blocks)
        self.presence = Presence(self.people, self.sealer.epoch_key)
        fold = PeopleFold(self.people, self.presence, self.friendships, self.blocks, self._on_class_a, self._on_stores)
        self.feeds = Feeds(state, self.shards, fold, self._restore, monotonic)
        self.writer = Writer(state, self.feeds, _Alone())
        self.settings = Settings(self.people, self.writer)
        queues = ReportQueues(self.writer, monotonic, rules.quick_deadline_s)
        self.positions = Positions(self.people, self.presence, self.friendships, self.writer, queues)
        self.friends = Friends(self.friendships, self.people, self.writer)
        self.safety = Safety(self.blocks, self.people, self.writer)
        self.app = AppBackend(self.people, self.writer)
        self.nearby = Nearby(self.people, self.presence, self.friendships, self.blocks, self.positions, self.sealer)
        self.radar = Radar(self.people, self.presence, self.friendships, self.positions)
        self._shake_fold = ShakeFold(self.sealer.epoch_key, epoch_ms=1000)
        self.shake_feed = Follower(state, keys.feed(keys.SHAKE_TAG), self._fold_shake, self._on_shake_time, monotonic)
        self.shakes = Shakes(
            self.people,
            self.presence,
            self.friendships,
            self.blocks,
            self.positions,
            self.writer,
            self.shake_feed,
            self._shake_fold,
            self.sealer,
            rules.shake_window_ms,
            rules.quick_deadline_s,
        )
        self.bottles = Bottles(
            state,
            self,
            random32,
            secret,
            rules.bottle_throws_per_day,
            rules.bottle_picks_per_day,
            read_within_s=rules.quick_deadline_s,
        )
        self.catalogue = Catalogue()
        self.store_news = StoreNews(state, self.feeds, self.writer.leases, self._load_stores)
        self.stores = Stores(state, self.catalogue, self.store_news.announce, random_bytes)
        self._held_for = ""
        self._tasks: list[asyncio.Task[None]] = []

    # --- life ---

    @property
    def now_ms(self) -> int:
        """Hive time of this worker."""
        return self.feeds.now_ms

    async def start(self) -> None:
        """Fold everything that stands, then follow."""
        await self.feeds.start()
        await self.shake_feed.catch_up()
        await self.stores.load_all()
        self.presence.keep_digests()
        self._tasks = [asyncio.create_task(self.feeds.follow()), asyncio.create_task(self.shake_feed.follow())]

    async def followed(self) -> None:
        """Wait while the feeds are followed; raises what ended it (an entry that cannot be folded)."""
        await asyncio.gather(*self._tasks)

    async def stop(self) -> None:
        """Stop following; the state client stays open."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.store_news.stop()

    def hold(self, reason: str) -> None:
        """Not ready, whatever is folded, until ``release``."""
        self._held_for = reason

    def release(self) -> None:
        """End ``hold``."""
        self._held_for = ""

    def ready(self) -> tuple[bool, str]:
        """Whether people reads may be answered, and if not, why."""
        if not self.feeds.restored:
            return False, "the feed is still being folded"
        for follower in (*self.feeds.followers, self.shake_feed):
            if not follower.caught_up:
                return False, "the feed is still being folded"
            if not follower.connected:
                return False, "the state is not answering"
            if follower.idle_s() > self.rules.ticks_missed_after_s:
                return False, "time stands still: no ticks come"
        if self._held_for:
            return False, self._held_for
        return (True, "") if self.feeds.epoch_ms else (False, "no tick has been seen yet")

    def lease_generation(self) -> int | None:
        """A number that changes whenever the right to answer about people was lost; None while it is not held."""
        return 0

    def status(self) -> dict[str, object]:
        """What this worker has folded: for `doctor` and the status row."""
        return {
            "offsets": ["{}-{}".format(*follower.position) for follower in self.feeds.followers],
            "hive_ms": self.now_ms,
            "epoch_ms": self.feeds.epoch_ms,
            "digests": {str(edge): f"{digest:016x}" for edge, digest in self.presence.digests.items()},
            "shake_offset": "{}-{}".format(*self.shake_feed.position),
            "shake_digest": f"{self._shake_fold.digest():016x}",
        }

    # --- shakes ---

    def _fold_shake(self, kind: str, payload: bytes, now_ms: int) -> None:
        if kind == "s":
            self.shakes.fold_entry(payload, now_ms)

    def _on_shake_time(self, now_ms: int, epoch_ms: int) -> bool:
        if epoch_ms:
            self._shake_fold.set_epoch(epoch_ms)
        self._shake_fold.tick(now_ms)
        return True

    # --- people ---

    def _on_class_a(self, shard: int, kind: str, payload: bytes, now_ms: int) -> None:
        """Somebody may be waiting for this worker to have folded it."""

    def _on_stores(self, payload: bytes) -> None:
        self.store_news.fold(payload)

    async def _load_stores(self, brand: str, version: int) -> None:
        await self.stores.load(brand, version)

    async def _restore(self, shard: int) -> Place | None:
        return None

    # --- what bottles ask about people ---

    def person_key(self, user: str) -> str:
        """The human behind an account where the app told us, else the account."""
        return self.people.person_key(user)

    def blocked_either_way(self, user: str) -> frozenset[str]:
        """Ids of everyone whom this person must never meet."""
        slot = self.people.slot(user)
        if slot is None:
            return frozenset()
        return frozenset(self.people.ids[other] for other in self.blocks.either_way(slot))
