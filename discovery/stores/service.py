"""The store finder as its callers see it: brands, keys, imports, zones; ``reads`` finds."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, BinaryIO
from weakref import WeakValueDictionary

from discovery.errors import Conflict, Invalid, NotFound, StateAway
from discovery.store.client import State
from discovery.stores import shelves, zone_shelf
from discovery.stores.brand_keys import BrandKeys
from discovery.stores.catalogue import Brand, Catalogue
from discovery.stores.changing import Changing
from discovery.stores.fields import MAX_TEXT_CHARS, is_id
from discovery.stores.importing import Importing, ImportReport, OnError
from discovery.stores.key_usage import KeyUsage
from discovery.stores.reads import Reads
from discovery.stores.zones import check_zone


class Stores:
    """Store finder of one worker.

    ``announce(brand, version)`` tells every worker (this one included) to :meth:`load` the brand, and returns when all
    have. It may be called again for the same change. ``random(n)`` gives n unpredictable bytes, ``now_ms`` hive time.
    """

    def __init__(
        self,
        state: State,
        catalogue: Catalogue,
        announce: Callable[[str, int], Awaitable[None]],
        random: Callable[[int], bytes],
        now_ms: Callable[[], int] = lambda: 0,
    ) -> None:
        self._state = state
        self.catalogue = catalogue
        self.reads = Reads(catalogue)
        self._announce = announce
        self._changing = Changing(state, random)
        self._reading: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._next_reads: dict[str, asyncio.Task[None]] = {}
        self._importing = Importing(state, self._require, self._told)
        self.usage = KeyUsage(state, now_ms)
        self.keys = BrandKeys(state, self._require, self._told, random)

    async def load_all(self) -> None:
        """Load every brand into the catalogue; called once at start."""
        for brand in await shelves.brand_names(self._state):
            await self.load(brand)

    async def load(self, brand: str, version: int = 0) -> None:
        """Bring the catalogue up to date with the state for one brand: name, keys, and the set when it is another.

        ``version`` is what was announced; a later one may be found. Reads of one brand come one after the other, so
        that none replaces what a later one found; callers share a read that begins after they called. Raises StateAway.
        """
        read = self._next_reads.get(brand)
        if read is None:
            read = self._next_reads[brand] = asyncio.create_task(self._read(brand))
        await asyncio.shield(read)

    async def _read(self, brand: str) -> None:
        turn = self._reading.setdefault(brand, asyncio.Lock())
        async with turn:
            del self._next_reads[brand]  # who calls from here on may know of something newer
            known = self._importing.known(brand, self.catalogue.find(brand))
            found = await shelves.load_brand(self._state, brand, known)
            if found is not None:
                self.catalogue.put(found)

    async def look_again(self, brand: str) -> None:
        """Before a no: another worker may have changed the brand a moment ago."""
        with contextlib.suppress(StateAway):
            await self.load(brand)

    async def announce_forgotten(self) -> int:
        """One look of the leader for changes whose worker ended before it had told all: they are told again.

        To be called every few seconds, by one worker. What was not there at the look before is left to its worker.
        Returns how many brands were told of; one that could not be told of is tried at the next look.
        Raises ``StateAway`` when nothing can be read.
        """
        told = 0
        for brand, marks in (await self._changing.look()).items():
            with contextlib.suppress(StateAway):
                version, _ = await shelves.current(self._state, brand)
                await self._announce(brand, version)
                told += 1
                await self._changing.told(marks)
        return told

    async def put_brand(self, brand: str, name: str, website: str | None = None) -> None:
        """Create the brand, or change its name and website. Raises ``Invalid``."""
        _check_brand(brand, name, website)
        async with self._told(brand):
            await shelves.write_brand(self._state, brand, name.strip(), website)

    async def new_key(self, brand: str, kind: str = "secret") -> tuple[str, str]:
        """Make an API key of the brand as ``BrandKeys.make`` does: (key_id, key)."""
        return (await self.keys.make(brand, kind))[:2]

    def key_allows(self, brand: str, key: str) -> bool:
        """Whether ``key`` is a secret key of the brand, by what this worker knows."""
        return self.catalogue.allows(brand, key)

    async def import_stores(
        self,
        brand: str,
        media_type: str,
        file: BinaryIO,
        on_error: OnError = "refuse",
        *,
        dry_run: bool = False,
        merge: bool = False,
    ) -> ImportReport:
        """Replace the brand's stores by those of ``file``; with ``merge`` only those of the same ids, the others stay.

        The old set answers until the new one is in. Raises ``NotFound`` (brand), ``Invalid`` (the file cannot be read),
        ``ImportRefused`` (rejected rows under ``refuse``; in a dry run too), ``Conflict`` (another import was faster),
        ``StateAway``. After each of them nothing is changed, but for ``StateAway`` with an unknown outcome.
        """
        return await self._importing.import_stores(brand, media_type, file, on_error, dry_run=dry_run, merge=merge)

    async def put_store(self, brand: str, store_id: str, feature: Mapping[str, Any]) -> None:
        """Add or replace one store, given as a GeoJSON Feature.

        Raises ``NotFound`` (brand), ``Invalid`` with the field, ``Conflict``, ``StateAway`` as an import does.
        """
        await self._importing.put_store(brand, store_id, feature)

    async def remove_store(self, brand: str, store_id: str) -> None:
        """Remove one store; its zone, if it has one, waits for it. Raises ``NotFound, Conflict, StateAway``."""
        await self._importing.remove_store(brand, store_id)

    async def put_zone(self, brand: str, store_id: str, zone: object) -> tuple[str, ...]:
        """Put the area that a store serves, a GeoJSON geometry; returns what was repaired in it, in words.

        Raises ``NotFound`` (brand or store), ``Invalid`` with what is wrong with the geometry, ``StateAway``.
        """
        await self._require_store(brand, store_id)
        checked = await asyncio.to_thread(check_zone, zone)
        async with self._told(brand):
            await zone_shelf.write_zone(self._state, brand, store_id, checked.geojson)
        return checked.repaired

    async def remove_zone(self, brand: str, store_id: str) -> None:
        """Take the zone of a store away. Raises ``NotFound`` (also when it has none), ``StateAway``."""
        await self._require_store(brand, store_id)
        async with self._told(brand):
            await zone_shelf.write_zone(self._state, brand, store_id, None)

    async def _require_store(self, brand: str, store_id: str) -> None:
        if (await self._require(brand)).stores.row_of(store_id) is None:
            raise NotFound("no such store")

    async def _require(self, brand: str) -> Brand:
        """The brand as the state has it now: an import counts its changes from there. Raises ``NotFound``."""
        await self.load(brand)
        return self.catalogue.brand(brand)

    @contextlib.asynccontextmanager
    async def _told(self, brand: str) -> AsyncIterator[None]:
        """Around a change of ``brand``: all workers have it on leaving, or the leader will tell them."""
        mark = await self._changing.begin(brand)
        try:
            yield
        except (Conflict, Invalid, NotFound):  # nothing was changed
            await self._forget(mark)
            raise
        await self.load(brand)
        await self._announce(brand, self.catalogue.brand(brand).version)
        await self._forget(mark)

    async def _forget(self, mark: str) -> None:
        with contextlib.suppress(StateAway):
            await self._changing.end(mark)


def _check_brand(brand: str, name: str, website: str | None) -> None:
    if not is_id(brand):
        raise Invalid("must be an id: [A-Za-z0-9][A-Za-z0-9._:@|=+-]{0,127}", "brand")
    if not name.strip() or len(name) > MAX_TEXT_CHARS:
        raise Invalid(f"must have 1 to {MAX_TEXT_CHARS} characters", "name")
    if website is not None and not website.lower().startswith(("http://", "https://")):
        raise Invalid("must be an http or https address", "website")
