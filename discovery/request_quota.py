"""How many friendships one human asks for in a day. Exact: each request is counted by a script before it is made."""

from discovery.errors import RequestsUsedUp
from discovery.people import People
from discovery.store import keys
from discovery.store.scripts import Script
from discovery.store.writer import WRITE_DEADLINE_S, Writer

REQUESTS_A_DAY = 20
_DAY_MS = 86_400_000
_TTL_MS = 2 * _DAY_MS
_REQUEST = Script("friend_request")


def requests_key(people: People, user: str) -> str:
    """Where the requests of a human's day are counted, by a keyed name, in whatever life of the id."""
    person = people.person_key(user)
    return keys.requests(keys.shard_tag(people.shards.of(person)), people.tombstones.name(person))


class RequestQuota:
    """``on=False`` lets everything pass and counts nothing. Accepting a request and changing what is shown are no
    requests."""

    def __init__(self, people: People, writer: Writer, *, on: bool) -> None:
        self._people = people
        self._writer = writer
        self._on = on

    async def take(self, user: str, other: str) -> None:
        """``user`` is about to ask ``other``. The same person again on the same day is no other request. Raises
        RequestsUsedUp, StateAway."""
        if not self._on:
            return
        now_ms = self._writer.now_ms
        day = now_ms // _DAY_MS
        name = requests_key(self._people, user)
        args: list[bytes | str | int] = [day, f"{self._people.hash_of(other):016x}", REQUESTS_A_DAY, _TTL_MS]
        if not await self._writer.state.run(_REQUEST, [name], args, within_s=WRITE_DEADLINE_S):
            ends_ms = (day + 1) * _DAY_MS
            raise RequestsUsedUp("", ends_ms, max(1, (ends_ms - now_ms) // 1000))
