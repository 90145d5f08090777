"""Every key that Nearhive writes: what it holds, its type, its TTL, its hash tag, and why.

Keys of one tag live in one slot, so that one script may change them together; ``client.State.run`` refuses two tags.
"""

from binascii import crc_hqx
from dataclasses import dataclass

CLUSTER_SHARDS = 16  # of a world created on a Cluster; one server has one shard
SHAKE_TAG = "shake"
SEA_TAG = "sea"


@dataclass(slots=True)
class Shards:
    """How this world spreads people over shards: by person, never by cell, so that a move keeps order.

    ``count`` is fixed when the world is created and read from :func:`world` at start, before any other key is named.
    """

    count: int = 1

    def of(self, user: str) -> int:
        """The shard of a person's records, operations and feed: CRC16 (XMODEM, that of Cluster slots) of the id."""
        return crc_hqx(user.encode(), 0) % self.count

    def all(self) -> range:
        """Every shard."""
        return range(self.count)

    def person(self, user: str) -> str:
        """Hash. Settings, age, consent, suspensions of one person (class A/B). No TTL: ends with erasure."""
        return f"{self._tag(user)}:p:{user}"

    def friend_halves(self, user: str) -> str:
        """Hash. Other person -> what ``user`` shows them, or ``declined``. Owned by ``user`` alone. No TTL."""
        return f"{self._tag(user)}:f:{user}"

    def blocks(self, user: str) -> str:
        """Hash. Name as ``user`` sees it -> blocked person; two names may hold one (a bottle's sender). No TTL."""
        return f"{self._tag(user)}:x:{user}"

    def mutes(self, user: str) -> str:
        """Hash. Muted person -> '1', at most 1,000 of them. Owned by ``user`` alone. No TTL: ends with erasure."""
        return f"{self._tag(user)}:m:{user}"

    def reports(self, person: str) -> str:
        """Hash. Target that this human reported -> ms (13 digits) and JSON of the report; operations, and ``day`` and
        ``today`` for the quota. TTL 90 days from the last report; what is older goes when there are 1,000 fields."""
        return f"{self._tag(person)}:rep:{person}"

    def case(self, user: str) -> str:
        """Hash. What was reported about a person, by keyed hash of the reporter (1,000 at most), the appeal, and how it
        was decided. TTL 90 days from the last report, appeal or decision: evidence is kept no longer."""
        return f"{self._tag(user)}:case:{user}"

    def operation(self, user: str, purpose: str, key_hash: str) -> str:
        """String. Fingerprint and time of one idempotent operation. TTL 24 h, as the API promises for the key."""
        return f"{self._tag(user)}:op:{purpose}:{key_hash}:{user}"

    def operations(self, user: str) -> str:
        """Zset. Keys of the idempotent operations of a person -> when they end (ms), so that erasure finds them. TTL
        24 h from the last one."""
        return f"{self._tag(user)}:ops:{user}"

    def _tag(self, user: str) -> str:
        return f"{{{shard_tag(self.of(user))}}}"


def shard_tag(shard: int) -> str:
    """The hash tag of a shard, without braces."""
    return f"s{shard:02d}"


# --- the world: tag {s00} ---


def world() -> str:
    """Hash. ``format`` of this data and number of ``shards``, written once when the world is created. No TTL."""
    return "{s00}:world"


def workers() -> str:
    """Hash. Worker -> its status row (JSON), rewritten every second; readers drop rows older than 5 s. No TTL."""
    return "{s00}:workers"


def demo_ready() -> str:
    """String. The run of the living demo that has filled this world; workers of that run wait for it. TTL one day."""
    return "{s00}:demo_ready"


# --- streams: tag sNN of a people shard, or ``shake``; records, feed, leases and checkpoints of a shard share it ---


def feed(tag: str) -> str:
    """Stream. The ordered feed of a tag: fields ``k`` (kind), ``d`` (payload). No TTL: trimmed behind checkpoints."""
    return f"{{{tag}}}:feed"


def feed_copy(tag: str) -> str:
    """Stream. The feed while it is written anew without the names of who was erased. TTL 10 s behind the last step."""
    return f"{{{tag}}}:feed:copy"


def feed_lock(tag: str) -> str:
    """String. Who writes the feed anew just now. TTL 10 s behind the last step."""
    return f"{{{tag}}}:feed:lock"


def leader(tag: str) -> str:
    """String. ``worker|token|beat`` of the one worker that ticks, checkpoints and trims. No TTL: a stepped clock would
    move it; who sees the beat stand still takes over."""
    return f"{{{tag}}}:leader"


def fence(tag: str) -> str:
    """String. Counter of leaderships: each gets a larger token, and a script with an older one is refused. No TTL."""
    return f"{{{tag}}}:fence"


def leases(tag: str) -> str:
    """Hash. Worker -> what it has folded and a beat. No TTL, like :func:`leader`: a row standing still is dropped."""
    return f"{{{tag}}}:leases"


def tombstones(tag: str) -> str:
    """Hash. Keyed hash of an id that was erased -> how often, and the ms of the last time; of a people shard, and of
    ``sea``, where the life is enough. No TTL: an erased person stays erased."""
    return f"{{{tag}}}:tombstones"


def erasing(tag: str) -> str:
    """Hash. Person being erased -> life, entry of the feed, human behind the account: what the leader of the shard has
    yet to clear elsewhere; '' while the files of the servers may still name some. No TTL: removed when done, within
    30 s."""
    return f"{{{tag}}}:erasing"


def checkpoint(tag: str) -> str:
    """Hash. The current checkpoint of a shard: version, chunks, bytes, checksum, offset. No TTL."""
    return f"{{{tag}}}:checkpoint"


def checkpoint_chunk(tag: str, version: str, index: int) -> str:
    """String. Part of one checkpoint, <= 1 MB. TTL 1 h until made current, 60 s once replaced; none while current."""
    return f"{{{tag}}}:cp:{version}:{index}"


# --- moderation: tags of the people shards, and ``sea``; a case, its queue and its log share the tag of its target ---


def requests(tag: str, quota_name: str) -> str:
    """Hash. ``day`` (hive time) and hashes of those whom a human asked for a friendship on it; named by keyed hash of
    the human, in the tag of their shard. TTL two days: an erasure leaves it, or the day's requests would be back."""
    return f"{{{tag}}}:rq:{quota_name}"


def cases(tag: str) -> str:
    """Zset. Target of a case that waits for a moderator -> since when (us, unique in a tag). No TTL: the queue."""
    return f"{{{tag}}}:cases"


def moderation_log(tag: str) -> str:
    """Stream. Decisions of moderators: by, action, target, report, feature, until, note. No TTL: at most about 10,000,
    none older than a year, trimmed at each decision. Append-only."""
    return f"{{{tag}}}:decisions"


def report_target(report_id: str) -> str:
    """String. The target of a report or an appeal, by which moderators name its case; in its own slot, for the id tells
    nothing of the target. TTL 90 days."""
    return f"{{report:{report_id}}}"


# --- bottles: tag {sea}, one slot, so that one script moves a bottle between the sea and its one owner ---
# lua/bottle_sea.lua builds bottle, replies and mine from the same prefixes for bottles that a script draws or sweeps.


def sea_index() -> str:
    """Hash. Position 0..n-1 -> id of a floating bottle: HLEN counts them, one HGET draws. No TTL: the sea."""
    return "{sea}:index"


def sea_holds() -> str:
    """Zset. Picked, unanswered bottle -> when its hold lapses (ms). No TTL: each script sweeps it."""
    return "{sea}:holds"


def sea_ends() -> str:
    """Zset. Bottle -> when it ends, and once ended when it is buried (ms). No TTL: each script sweeps it."""
    return "{sea}:ends"


def sea_bottle(bottle_id: str) -> str:
    """Hash. One bottle. No TTL while it is in the sea or held, for the index must not lose it; else its end + a day."""
    return f"{{sea}}:bottle:{bottle_id}"


def sea_replies(bottle_id: str) -> str:
    """List. The thread, oldest first: side, ms, text. TTL as its bottle."""
    return f"{{sea}}:replies:{bottle_id}"


def sea_seen(person: str) -> str:
    """Zset. Bottle that this person threw or picked -> its end (ms); ended ones are trimmed. TTL last end + a day."""
    return f"{{sea}}:seen:{person}"


def sea_quota(quota_name: str) -> str:
    """Hash. UTC day (inside, as only a script knows it), throws, picks; named by keyed hash of the human. TTL an hour
    past midnight: an erasure leaves it, or it would bring the day's throws and picks back."""
    return f"{{sea}}:quota:{quota_name}"


def sea_operation(operation_hash: str) -> str:
    """String. Fingerprint, bottle and answer of one idempotent operation; named by HMAC of caller and key. TTL 24 h."""
    return f"{{sea}}:op:{operation_hash}"


def sea_mine(user: str) -> str:
    """Zset. 't' or 'p' and a bottle that ``user`` threw or holds -> when (us, unique). TTL last end + two days."""
    return f"{{sea}}:mine:{user}"


def sea_withheld() -> str:
    """Hash. Users whom moderation keeps from the sea -> 1, and '' -> stamp of them all: so a pick asks for the authors
    it draws, not for everybody. Written by a worker that has folded another set (``withheld.py``). No TTL."""
    return "{sea}:withheld"


def sea_case(bottle_id: str) -> str:
    """Hash. As ``Shards.case``, of a bottle: with its text, author and holder. TTL 90 days from the last report or
    decision."""
    return f"{{sea}}:case:{bottle_id}"


# --- stores: tag {b:BRAND}, so that one script makes a brand's new store set current ---


def brands() -> str:
    """Set. Names of all brands, in its own slot: it is read once at start, to find the rest. No TTL."""
    return "{stores}:brands"


def stores_changing() -> str:
    """Set. ``BRAND mark`` of each change to a brand that workers may not all have been told of; the leader of shard 0
    tells them again of what still stands at its next look. No TTL: removed when told."""
    return "{stores}:changing"


def brand_meta(brand: str) -> str:
    """Hash. ``name`` and ``website`` of a brand; it exists exactly when the brand does. No TTL."""
    return f"{{b:{brand}}}:meta"


def brand_keys(brand: str) -> str:
    """Hash. Key id -> JSON {sha256, kind, origins, quota_per_day, made_ms}: the API keys themselves are kept nowhere.
    No TTL."""
    return f"{{b:{brand}}}:keys"


def brand_usage(brand: str, day: int) -> str:
    """Hash. Key id -> requests of that UTC day (since 1970). TTL 92 days from the last one: the operator's counts."""
    return f"{{b:{brand}}}:usage:{day}"


def demand_key(day: int) -> str:
    """String. The key by which searchers are hashed on one UTC day (since 1970), in its own slot. TTL two days; it is
    destroyed when the day is closed, and the file of the server is written anew."""
    return f"{{stores}}:demand-key:{day}"


def demand_days(brand: str) -> str:
    """Hash. ``closed``: the last UTC day that takes no more searches; each day that has some and is not published.
    No TTL."""
    return f"{{b:{brand}}}:demand-days"


def demand_counts(brand: str, day: int) -> str:
    """Hash. H3 cell of resolution 7 (hexadecimal) -> searches. TTL three days; it goes when the day is published."""
    return f"{{b:{brand}}}:demand:{day}:searches"


def demand_searchers(brand: str, day: int) -> str:
    """Set. ``c`` cell hash, and ``m`` cell hash service: who searched where, and who asked for a service, by a hash
    under the key of the day. TTL three days; it goes when the day is published."""
    return f"{{b:{brand}}}:demand:{day}:searchers"


def demand_rows(brand: str, day: int) -> str:
    """String. What is published of a day (``stores/demand_rows.py``), written once. TTL 400 days."""
    return f"{{b:{brand}}}:demand:{day}:rows"


def brand_versions(brand: str) -> str:
    """String. Counter that gives every written store set its own version, also one that loses the race. No TTL."""
    return f"{{b:{brand}}}:versions"


def brand_current(brand: str) -> str:
    """Hash. ``version`` of the store set in use and its number of ``chunks``. No TTL."""
    return f"{{b:{brand}}}:current"


def brand_chunk(brand: str, version: int, index: int) -> str:
    """String. Part of one packed store set, <= 1 MB, never changed. TTL 1 h until it is made current (an import that
    dies leaves nothing) and again once it is not (a worker that reads it ends in peace); none while current."""
    return f"{{b:{brand}}}:v:{version}:{index}"


def brand_zones(brand: str) -> str:
    """Hash. Store id -> GeoJSON geometry of the area it serves. Apart from the store set: a zone stays when the stores
    are imported anew, and is put without packing them all. No TTL."""
    return f"{{b:{brand}}}:zones"


def brand_zone_order(brand: str) -> str:
    """Zset. Store id -> version of its zone, 1 more with each change, also of those taken away: a worker reads
    only what changed since. No TTL."""
    return f"{{b:{brand}}}:zone-order"
