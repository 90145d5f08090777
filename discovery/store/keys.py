"""Every key that Nearhive writes: what it holds, its type, its TTL, its hash tag, and why.

Keys of one tag live in one slot, so that one script may change them together; ``client.State.run`` refuses two tags.
"""

SHARDS = 1  # one server, one shard; Cluster gets 16


def shard_of(user: str) -> int:
    """The shard of a person's records, operations and feed; by person, never by cell, so that a move keeps order."""
    return 0 if SHARDS == 1 else _crc16(user.encode()) % SHARDS


def _crc16(data: bytes) -> int:
    """CRC16/XMODEM, the hash of Redis Cluster slots."""
    crc = 0
    for byte in data:
        crc ^= byte << 8
        for _ in range(8):
            crc = ((crc << 1) ^ 0x1021 if crc & 0x8000 else crc << 1) & 0xFFFF
    return crc


def _tag(user: str) -> str:
    return f"{{s{shard_of(user):02d}}}"


# --- people: tag {sNN}, the person's shard, so that record and feed change in one script ---


def feed(shard: int = 0) -> str:
    """Stream. The one ordered feed of a shard: fields ``k`` (kind), ``d`` (payload). Kept whole until checkpoints."""
    return f"{{s{shard:02d}}}:feed"


def person(user: str) -> str:
    """Hash. Settings, age, consent, suspensions of one person (class A/B). No TTL: ends with erasure."""
    return f"{_tag(user)}:p:{user}"


def friend_halves(user: str) -> str:
    """Hash. Other person -> what ``user`` shows them (JSON), or ``declined``. Owned by ``user`` alone. No TTL."""
    return f"{_tag(user)}:f:{user}"


def blocks(user: str) -> str:
    """Hash. Name as ``user`` sees it -> blocked person. Two names may hold one person (a bottle's sender). No TTL."""
    return f"{_tag(user)}:x:{user}"


def operation(user: str, purpose: str, key_hash: str) -> str:
    """String. Fingerprint and time of one idempotent operation. TTL 24 h, as the API promises for the key."""
    return f"{_tag(user)}:op:{purpose}:{key_hash}:{user}"


def workers(shard: int = 0) -> str:
    """Hash. Worker -> its status row (JSON), rewritten every second; readers drop rows older than 5 s. No TTL."""
    return f"{{s{shard:02d}}}:workers"


def demo_ready() -> str:
    """String. The run of the living demo that has filled this world; workers of that run wait for it. TTL one day."""
    return "{s00}:demo_ready"


# --- shakes: tag {shake}, one ordered stream for the world ---


def shake_feed() -> str:
    """Stream. All shakes in order, packed. Kept whole until checkpoints."""
    return "{shake}:feed"


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


def sea_quota(person: str) -> str:
    """Hash. UTC day (inside, as only a script knows it), throws, picks. TTL an hour past midnight."""
    return f"{{sea}}:quota:{person}"


def sea_operation(operation_hash: str) -> str:
    """String. Fingerprint, bottle and answer of one idempotent operation; named by HMAC of caller and key. TTL 24 h."""
    return f"{{sea}}:op:{operation_hash}"


def sea_mine(user: str) -> str:
    """Zset. 't' or 'p' and a bottle that ``user`` threw or holds -> when (us, unique). TTL last end + two days."""
    return f"{{sea}}:mine:{user}"


# --- stores: tag {b:BRAND}, so that one script makes a brand's new store set current ---


def brands() -> str:
    """Set. Names of all brands, in its own slot: it is read once at start, to find the rest. No TTL."""
    return "{stores}:brands"


def brand_meta(brand: str) -> str:
    """Hash. ``name`` and ``website`` of a brand; it exists exactly when the brand does. No TTL."""
    return f"{{b:{brand}}}:meta"


def brand_keys(brand: str) -> str:
    """Hash. Key id -> JSON {sha256, kind}: the API keys themselves are kept nowhere. No TTL."""
    return f"{{b:{brand}}}:keys"


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
