"""What is read of a brand's stores, from this worker's memory: the nearest, a page, a cell's, who serves a point."""

import asyncio
from collections.abc import Callable, Iterator

import orjson

from discovery.errors import Invalid, NotFound
from discovery.stores import batch, finder
from discovery.stores.cards import collection, listed_feature
from discovery.stores.catalogue import Catalogue
from discovery.stores.filters import needs_index
from discovery.stores.finder import Seal
from discovery.stores.points import Points
from discovery.stores.question import Listing, Question, Wanted, words_wanted
from discovery.stores.store_set import StoreSet
from geo import cells

CELL_RESOLUTION = 7
CELL_NEAREST = 5


class Reads:
    """Reads of one worker. What a set makes at the first question of a kind is made in a thread, and awaited."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._renewals: set[asyncio.Task[None]] = set()

    def store(self, brand: str, store_id: str) -> bytes:
        """The store as a GeoJSON Feature. Raises ``NotFound``."""
        return self._catalogue.store(brand, store_id)

    def zone(self, brand: str, store_id: str) -> bytes:
        """The store's zone as a GeoJSON geometry. Raises ``NotFound``."""
        found = self._catalogue.brand(brand)
        zone = found.zones.geojson(store_id)
        if zone is None or found.stores.row_of(store_id) is None:
            raise NotFound("no such store, or it has no zone")
        return zone

    async def nearest(self, brand: str, question: Question, now_ms: int, seal: Seal | None = None) -> bytes:
        """GeoJSON FeatureCollection of the nearest that fit, as of ``now_ms``. Raises ``NotFound``, ``Invalid``."""
        found = self._catalogue.brand(brand)
        await self._make_ready(found.stores, question.all_wanted(), question.only_open, now_ms)
        return finder.answer(found.stores, question, found.zones, seal)

    async def nearest_of_all(
        self, brand: str, points: Points, question: Question, now_ms: int, *, as_csv: bool
    ) -> Iterator[bytes]:
        """The same of many points, as JSON or CSV in pieces; searched in a thread. Raises ``NotFound``, ``Invalid``."""
        found = self._catalogue.brand(brand)
        await self._make_ready(found.stores, question.all_wanted(), question.only_open, now_ms)
        nearest = await asyncio.to_thread(batch.nearest_of_all, found.stores, found.zones, points, question)
        pieces = batch.csv_pieces if as_csv else batch.json_pieces
        return pieces(found.stores, points, nearest, question)

    async def serving(self, brand: str, question: Question, now_ms: int, seal: Seal | None = None) -> bytes:
        """The same of the stores whose zone holds the point."""
        return await self.nearest(brand, question._replace(in_zone=True), now_ms, seal)

    async def listed(self, brand: str, listing: Listing, now_ms: int, seal: Callable[[str], str]) -> bytes:
        """GeoJSON FeatureCollection of one page of all stores that fit. Raises ``NotFound``, ``Invalid``."""
        stores = self._catalogue.brand(brand).stores
        await self._make_ready(stores, listing.wanted, listing.only_open, now_ms)
        return finder.listing_answer(stores, listing, seal)

    async def in_cell(self, brand: str, cell: int) -> bytes:
        """GeoJSON FeatureCollection of every store that is among the 5 nearest of some point of an H3 cell of
        resolution 7, in order of store_id. Raises ``NotFound``, ``Invalid``."""
        if not cells.is_cell(cell) or cells.resolution_of(cell) != CELL_RESOLUTION:
            raise Invalid(f"must be an H3 cell of resolution {CELL_RESOLUTION}", "cell")
        stores = self._catalogue.brand(brand).stores
        rows = await asyncio.to_thread(stores.nearest_in_cell, cell, CELL_NEAREST)
        members = {"cell": orjson.dumps(cells.to_hex(cell)), "nearest": orjson.dumps(CELL_NEAREST)}
        return collection([listed_feature(stores, row, None) for row in rows.tolist()], members)

    async def complete(self, brand: str, text: str, limit: int) -> bytes:
        """JSON of names and cities for what somebody has typed so far. Raises ``NotFound``, ``Invalid``."""
        stores = self._catalogue.brand(brand).stores
        words_wanted(text)
        index = await asyncio.to_thread(stores.index.get) if not stores.index.is_made else stores.index.get()
        return orjson.dumps({"suggestions": index.suggestions.complete(text, limit)})

    async def _make_ready(self, stores: StoreSet, wanted: Wanted, only_open: bool, now_ms: int) -> None:
        if needs_index(wanted) and not stores.index.is_made:
            await asyncio.to_thread(stores.index.get)
        if only_open and stores.windows.is_due(now_ms):
            if now_ms in stores.windows:
                self._renew_later(stores, now_ms)
            else:
                await asyncio.to_thread(stores.windows.renew, now_ms)

    def _renew_later(self, stores: StoreSet, now_ms: int) -> None:
        """The window in use still holds: nobody waits for the next. One is made at a time."""
        if not self._renewals:
            task = asyncio.create_task(asyncio.to_thread(stores.windows.renew, now_ms))
            self._renewals.add(task)
            task.add_done_callback(self._renewals.discard)
