"""One worker's whole world: it follows the feeds, folds them into arrays, and offers each feature by name.

Nothing here decides a rule: this module wires the parts and routes each kind of feed entry to the part that folds it.
"""

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import structlog

from discovery.app_backend import AppBackend
from discovery.bottles import Bottles
from discovery.crowd_builder import CrowdBuilder
from discovery.erasing import Erasing
from discovery.erasure import Erasure
from discovery.errors import StateAway
from discovery.export import Export
from discovery.exposure_caps import ExposureCaps
from discovery.friends import Friends, Friendships
from discovery.housekeeping import Checkpointer, Housekeeping, ShakeTrimmer
from discovery.lives import Lives
from discovery.moderation import Moderation
from discovery.nearby import Nearby
from discovery.people import People
from discovery.people_fold import PeopleFold
from discovery.positions import Positions
from discovery.precise_channel import PreciseChannel
from discovery.presence import Presence
from discovery.radar import Radar
from discovery.reassert import Reassertion, Remembered
from discovery.report_queue import ReportQueues
from discovery.reporting import Reports
from discovery.request_quota import RequestQuota
from discovery.safety import Blocks, Safety
from discovery.sealed import Sealer
from discovery.settings import Settings
from discovery.shake import Shakes
from discovery.shake_fold import ShakeFold
from discovery.shard_packing import unpack
from discovery.shard_state import ShardedPeople
from discovery.speed_cap import SpeedCap
from discovery.store import keys, world_record
from discovery.store.checkpoints import Checkpoints
from discovery.store.client import State, StateFault
from discovery.store.erasure_log import ErasureLog
from discovery.store.feed import FeedGap, Follower, Place
from discovery.store.feeds import Feeds
from discovery.store.keeper import StreamKeeper
from discovery.store.leases import LEASE, Leases
from discovery.store.shard_lease import DEAD_S, VALID_S
from discovery.store.world import keep_world, open_world
from discovery.store.writer import Writer
from discovery.stores.catalogue import Catalogue
from discovery.stores.demand import Demand
from discovery.stores.demand_days import DemandDays
from discovery.stores.news import NEWS_SHARD, NewsPosition, StoreNews
from discovery.stores.service import Stores
from discovery.stores.tallying import tally
from discovery.withheld import WithheldNow
from geo.sparse import SparseAreas

_RETRY_S = 0.2
_MOVE_LOOK_S = 0.5

log = structlog.get_logger("nearhive.hive")


@dataclass(slots=True, frozen=True)
class Rules:
    """Settings of a deployment that the features need."""

    shake_window_ms: int = 5000
    require_age: bool = True
    speed_limit: bool = False  # refuse impossible moves
    exposure_caps: bool = False  # cap whom, from where and how often one human is shown strangers; friend requests
    sparse_areas: SparseAreas | None = None  # what coarser cells strangers see where few people live
    bottle_throws_per_day: int = 20
    bottle_picks_per_day: int = 20
    reports_per_day: int = 20
    appeal_contact: str = ""  # text or URL shown to who is suspended
    quick_deadline_s: float = 0.3  # for reads of the state and class C; who answers later answers nobody
    lease_valid_s: float = VALID_S
    lease_dead_s: float = DEAD_S
    erasure_log: Path | None = None  # outside of what is copied and put back; None: there is none
    ticks_missed_after_s: float = 3.0  # without ticks nothing expires or lapses: then people reads are refused


class Hive:
    """All features on one state client. ``random32`` gives uniform 32-bit integers, ``random_bytes`` n random bytes.

    ``monotonic`` (seconds, counting suspended time) measures silence, leases and leaderships; every rule of a feature
    runs on hive time.
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
        self.presence = Presence(self.people, self.sealer.epoch_key, rules.sparse_areas)
        fold = PeopleFold(
            self.people,
            self.presence,
            self.friendships,
            self.blocks,
            self._on_class_a,
            self._on_stores,
            self._on_erased,
        )
        self._sharded = ShardedPeople(self.people, self.presence, self.friendships, self.blocks)
        self.feeds = Feeds(state, self.shards, fold, self._restore, monotonic, self._on_restored)
        self._monotonic = monotonic
        self.worker = random_bytes(8).hex()  # a name that no other process has or had
        self.leases = Leases(
            state, self.worker, monotonic, self.feeds.doubt, valid_s=rules.lease_valid_s, dead_s=rules.lease_dead_s
        )
        self.lives = Lives(self.people)
        self.writer = Writer(state, self.feeds, self.leases, self.lives)
        self._offer_people_features()
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
            self.exposure,
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
        self._offer_rights()
        self._offer_stores(random_bytes)
        self._reassertion = Reassertion(
            self.people,
            self.presence,
            self.friendships,
            self.blocks,
            self.settings,
            self.friends,
            self.safety,
            self.positions,
            self.erasure,
        )
        self._remembered: dict[int, Remembered] = {}
        self._held_for = ""
        self._tasks: list[asyncio.Task[None]] = []
        self._housekeeping: Housekeeping | None = None

    def _offer_stores(self, random_bytes: Callable[[int], bytes]) -> None:
        self.catalogue = Catalogue()
        self.store_news = StoreNews(self.state, self.feeds, self.leases, self._load_stores, self.catalogue.held)
        self.stores = Stores(self.state, self.catalogue, self.store_news.announce, random_bytes, lambda: self.now_ms)
        self.demand = Demand(self.state, lambda: self.now_ms, random_bytes)
        self.demand_days = DemandDays(self.state, self.catalogue, lambda: self.now_ms)

    def _offer_people_features(self) -> None:
        """Positions and all that people do with each other by them."""
        rules = self.rules
        self.settings = Settings(self.people, self.writer)
        queues = ReportQueues(self.writer, self._monotonic, rules.quick_deadline_s)
        speed_cap = SpeedCap(self.presence, on=rules.speed_limit)
        channel = PreciseChannel(self.people, self.friendships, self.writer, rules.quick_deadline_s)
        self.positions = Positions(
            self.people, self.presence, self.friendships, self.writer, queues, speed_cap, channel
        )
        quota = RequestQuota(self.people, self.writer, on=rules.exposure_caps)
        self.friends = Friends(self.friendships, self.people, self.writer, quota)
        self.safety = Safety(self.blocks, self.people, self.writer, self.friends.end)
        self.reports = Reports(self.people, self.presence, self.writer, self.safety, self.sealer, rules.reports_per_day)
        self.moderation = Moderation(self.people, self.settings, self.writer, self.sealer)
        self.app = AppBackend(self.people, self.writer)
        self.exposure = ExposureCaps(
            self.people, self.sealer, self.state, rules.quick_deadline_s, on=rules.exposure_caps
        )
        self._crowd_builder = CrowdBuilder(self.people, self.presence, lambda: self.now_ms)
        self.nearby = Nearby(
            self.people,
            self.presence,
            self.friendships,
            self.blocks,
            self.positions,
            self.sealer,
            self.exposure,
            self._crowd_builder.ready,
        )
        self.radar = Radar(self.people, self.presence, self.friendships, self.positions)

    def _offer_rights(self) -> None:
        """Erasure and export."""
        fingerprint = self.people.secret_fingerprint
        erasures = None if self.rules.erasure_log is None else ErasureLog(self.rules.erasure_log, fingerprint)
        self.erasure = Erasure(self.people, self.writer, self.bottles, erasures, (self.reports.forget,))
        self.export = Export(
            self.state,
            self.people,
            self.presence,
            self.friendships,
            self.blocks,
            self.settings,
            self.positions,
            self.bottles,
            self._shake_fold,
        )
        self.export.readers |= {"reports": self.reports.exported, "appeal": self.moderation.appealed}

    # --- life ---

    @property
    def now_ms(self) -> int:
        """Hive time of this worker."""
        return self.feeds.now_ms

    async def start(self, new_world_shards: int = 1) -> None:
        """Fold everything that stands, take leases, then follow. Raises StateAway, WorldTooNew, Moved, Unfinished.

        ``new_world_shards``: for a state that holds no world yet.
        """
        await world_record.refuse_elsewhere(self.state)
        self.shards.count = await open_world(self.state, shards=new_world_shards)
        self.feeds.open()
        loaded = [NewsPosition(self.store_news, shard) for shard in self.shards.all()]
        await self.leases.start(self.feeds.followers, loaded)
        await self.feeds.start()
        await self._fold_shakes_anew()
        await self.stores.load_all()
        await self.leases.renew()
        self.presence.keep_digests()
        follow = self.feeds.follow, self._follow_shakes, self.leases.run, self._watch_for_a_move, self._tally
        self._tasks = [asyncio.create_task(task()) for task in follow]

    def keep_house(self, epoch_ms: int) -> None:
        """From now on lead what streams nobody leads: tick, write checkpoints, trim. ``epoch_ms`` is announced."""
        self._housekeeping = self._housekeepers(epoch_ms)
        self._tasks.append(asyncio.create_task(self._housekeeping.run()))

    def _housekeepers(self, epoch_ms: int) -> Housekeeping:
        state, worker, clock = self.state, self.worker, self._monotonic
        followers = self.feeds.followers
        tags = [keys.shard_tag(shard) for shard in self.shards.all()]

        def furthest_ms() -> int:
            return max(follower.hive.now_ms for follower in followers)

        def announced_ms() -> int:
            """The first stream's leader decides for all: services with other settings must not pull edges apart."""
            return followers[0].epoch_ms or epoch_ms

        first = StreamKeeper(state, tags[0], worker, followers[0], lambda: epoch_ms, clock, furthest_ms=furthest_ms)
        others = zip(tags[1:], followers[1:], strict=True)
        keepers = [first, *(StreamKeeper(state, t, worker, f, announced_ms, clock, by=first) for t, f in others)]
        checkpointers = [
            Checkpointer(
                state,
                shard,
                keepers[shard],
                followers[shard],
                self._sharded,
                self.presence,
                worker,
                clock,
                Erasing(state, shard, self.erasure.clear, worker),
            )
            for shard in self.shards.all()
        ]
        shakes = StreamKeeper(state, keys.SHAKE_TAG, worker, self.shake_feed, announced_ms, clock)
        trimmer = ShakeTrimmer(state, shakes, self.shake_feed)
        news = keepers[NEWS_SHARD]
        return Housekeeping([*keepers, shakes], checkpointers, trimmer, news, self._keep_shops)

    async def followed(self) -> None:
        """Wait while the tasks of this worker run; raises what ended one (an entry that cannot be folded)."""
        await asyncio.gather(*self._tasks)

    async def stop(self) -> None:
        """Stop following; the state client stays open."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.store_news.stop()
        await self.exposure.stop()
        await self._crowd_builder.stop()
        await self._reassertion.stop()

    async def leave(self) -> None:
        """For an orderly end, before :meth:`stop`: nobody need wait for this worker, and another may lead at once."""
        if self._housekeeping is not None:
            self._tasks[-1].cancel()
            await asyncio.gather(self._tasks[-1], return_exceptions=True)
            await self._housekeeping.resign()
        with contextlib.suppress(StateAway, StateFault):
            await self.leases.leave()

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
            if self._housekeeping is not None and not follower.heard:
                return False, "no tick has come yet: who expired meanwhile is not known"
        if not self.leases.holds():
            return False, "this worker does not hold its lease: others may have changed what it has not folded"
        if self._held_for:
            return False, self._held_for
        return (True, "") if self.feeds.epoch_ms else (False, "no tick has been seen yet")

    def lease_generation(self) -> int | None:
        """A number that changes whenever the right to answer about people was lost; None while it is not held, and
        while a shard is being restored: who was admitted before must not be answered from half of it."""
        return self.leases.generation if self.feeds.whole and self.leases.holds() else None

    def lag_s(self) -> float:
        """Seconds since all that stood in the feeds was folded, of the one that is the furthest behind."""
        return max(self.feeds.lag_s(), self.shake_feed.lag_s())

    def led(self) -> list[str]:
        """Tags of the streams that this worker leads."""
        return self._housekeeping.led if self._housekeeping is not None else []

    def status(self) -> dict[str, object]:
        """What this worker has folded, holds and leads: for `doctor` and the status row."""
        return {
            "id": self.worker,
            "not_ready": self.ready()[1],
            "without_lease": self.leases.missing(),
            "led": self.led(),
            "offsets": ["{}-{}".format(*follower.position) for follower in self.feeds.followers],
            "hive_ms": self.now_ms,
            "epoch_ms": self.feeds.epoch_ms,
            "digests": {str(edge): f"{digest:016x}" for edge, digest in self.presence.digests.items()},
            "shake_offset": "{}-{}".format(*self.shake_feed.position),
            "shake_digest": f"{self._shake_fold.digest():016x}",
        }

    async def _watch_for_a_move(self) -> None:
        """While the state is copied elsewhere nothing is changed here, so that the copy comes to its end.

        That nothing is answered which is not in the copy is seen to by the lease script, which reads the same mark.
        """
        while True:
            await asyncio.sleep(_MOVE_LOOK_S)
            with contextlib.suppress(StateAway, StateFault):
                moved = await self.state.call("HGET", keys.world(), world_record.MOVED_TO)
                self.state.refuse_changes(None if moved is None else "the state is moving to another server", LEASE)

    async def _keep_shops(self) -> None:
        """What the leader does for brands: news that nobody told, days of demand that are over."""
        await self.stores.announce_forgotten()
        await self.demand_days.publish()

    async def _tally(self) -> None:
        await tally([self.stores.usage.flush, self.demand.flush])

    # --- shakes ---

    async def _follow_shakes(self) -> None:
        """Follow; where the place in the stream is lost, fold anew what stands there."""
        while True:
            try:
                await self.shake_feed.follow()
            except FeedGap:
                log.warning("feed_gap", feed=self.shake_feed.key)
                await self._fold_shakes_anew()

    async def _fold_shakes_anew(self) -> None:
        """From the start of the stream, again and again while the state is away or is lost on the way."""
        while True:
            self._shake_fold.clear()
            self.shake_feed.restart(None)
            try:
                await self.shake_feed.catch_up()
                return
            except (FeedGap, StateAway, StateFault) as error:
                log.warning("shakes_not_restored", error=type(error).__name__)
                await asyncio.sleep(_RETRY_S)

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
        self._reassertion.note(shard, kind, payload, now_ms)
        self.leases.nudge(shard)

    def _on_erased(self, user: str) -> None:
        self.shakes.forget_person(user)

    def _on_stores(self, payload: bytes) -> None:
        self.store_news.fold(payload)

    async def _load_stores(self, brand: str, version: int) -> None:
        await self.stores.load(brand, version)

    async def _restore(self, shard: int) -> Place | None:
        """Put the checkpoint of a shard in place of what is folded of it."""
        noted = self._reassertion.take(shard)
        self._remembered.setdefault(shard, noted)  # at a second try `noted` is what the first one had folded anew
        if shard == 0:
            await keep_world(self.state, self.shards.count)
        loaded = await Checkpoints(self.state, keys.shard_tag(shard)).read()
        if loaded is None:
            self._sharded.drop(shard)
            return None
        packed = await asyncio.to_thread(unpack, loaded.chunks)
        for _ in self._sharded.load_in_steps(packed):
            await asyncio.sleep(0)
        return packed.head.place

    def _on_restored(self, shard: int) -> None:
        self._reassertion.say_again(shard, self._remembered.pop(shard, {}), self.now_ms)
        if shard == NEWS_SHARD and self._tasks:  # news may have been among what was lost
            self.store_news.start(self.stores.load_all)

    # --- what bottles ask about people ---

    def person_key(self, user: str) -> str:
        """The human behind an account where the app told us, else the account."""
        return self.people.person_key(user)

    def is_gone(self, user: str) -> bool:
        """Whether this person was erased, and nobody came under the id since."""
        return self.people.is_gone(user)

    def life_arguments(self, user: str) -> list[str | int]:
        """For a script by which this person acts on the sea."""
        return self.lives.arguments([user])

    def blocked_either_way(self, user: str) -> frozenset[str]:
        """Ids of everyone with whom this person has a block."""
        slot = self.people.slot(user)
        return frozenset() if slot is None else self._ids(self.blocks.either_way(slot))

    def withheld(self) -> WithheldNow:
        """Those whom moderation keeps from bottles now."""
        return self.people.withheld_bottles.at(self.now_ms)

    def muted(self, user: str) -> frozenset[str]:
        """Ids of everyone whose bottles this person is not to be given."""
        slot = self.people.slot(user)
        return frozenset() if slot is None else self._ids(self.people.muted(slot))

    def _ids(self, slots: set[int]) -> frozenset[str]:
        return frozenset(self.people.ids[slot] for slot in slots)
