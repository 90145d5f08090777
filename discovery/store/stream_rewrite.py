"""A stream written anew with other content in some entries, in steps, so that its server is never held up for long.

Entries keep their ids: a follower sees no difference. And nothing of the old content stays in a node of the stream, as
it would behind a removed entry.
"""

from collections.abc import Callable
from typing import NamedTuple

from discovery.store import keys
from discovery.store.calls import Argument
from discovery.store.client import State
from discovery.store.scripts import Script

LEASE_MS = 10_000
"""Without a step for so long, a rewrite is over, and what it had copied goes."""
_PAGE = 500  # entries of one step: about 5 ms (measured on a busy core, ticks and shakes mixed)

_ALL = b"+"  # the last page takes in what came since it was read, and puts the copy in place

_REWRITE = Script("stream_rewrite")

Entry = tuple[bytes, list[bytes]]


class Page(NamedTuple):
    """Entries copied in one step: the id of the last, and ids and new contents, in turns, of those to replace."""

    end: bytes
    content: list[bytes]


class StreamRewrite:
    """Of the feed of ``tag``. ``token``: who rewrites, in a word that no other uses at the same time."""

    def __init__(self, state: State, tag: str, token: str) -> None:
        self._state = state
        self._feed = keys.feed(tag)
        self._keys = [self._feed, keys.feed_copy(tag), keys.feed_lock(tag)]
        self._token = token

    async def run(self, replaced: Callable[[Entry], bytes | None]) -> bool:
        """Give each entry the content that ``replaced`` says; None keeps it. Entries that come in meanwhile stay as
        they are. False when another worker rewrites, so that it is to be tried again. Raises StateAway, StateFault."""
        pages = await self._read(replaced)
        if not any(page.content for page in pages):
            return True
        pages[-1] = pages[-1]._replace(end=_ALL)
        after = b""
        for page in pages:
            if not await self.step(after, page):
                return False
            after = page.end
        return True

    async def step(self, after: bytes, page: Page) -> bool:
        """Copy what stands behind the id ``after`` (b"": begin), up to the page's end."""
        args: list[Argument] = [self._token, after, page.end, LEASE_MS, *page.content]
        return bool(await self._state.run(_REWRITE, self._keys, args))

    async def _read(self, replaced: Callable[[Entry], bytes | None]) -> list[Page]:
        pages, start = list[Page](), "-"
        while True:
            rows: list[Entry] = await self._state.call("XRANGE", self._feed, start, "+", "COUNT", _PAGE)
            if not rows:
                return pages
            new = [(entry, replaced((entry, fields))) for entry, fields in rows]
            content = [each for entry, payload in new if payload is not None for each in (entry, payload)]
            pages.append(Page(rows[-1][0], content))
            start = "(" + rows[-1][0].decode()
