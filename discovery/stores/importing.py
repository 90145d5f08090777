"""An import into a brand's stores: read, compare, pack, write beside the old set, and swap in one step."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import asdict, dataclass, replace
from io import BytesIO
from typing import Any, BinaryIO, Literal

import orjson

from discovery.errors import ImportRefused, Invalid, NotFound, StateAway
from discovery.store.client import State
from discovery.stores import shelves
from discovery.stores.catalogue import Brand
from discovery.stores.changes import Difference, difference, merged, without
from discovery.stores.importers import ImportedSet, read_stores
from discovery.stores.packing import pack
from discovery.stores.rows import Finding
from discovery.stores.store_set import StoreSet

OnError = Literal["refuse", "skip"]
_NOT_YET_EVERYWHERE = Finding(
    0, None, "the new stores are in; a worker that has not loaded them yet answers from the old ones until it has"
)


@dataclass(frozen=True, slots=True)
class ImportReport:
    """What an import did, or with ``dry_run`` would do. ``version`` 0: a dry run. ``everywhere``: each worker answers
    from the new set; else one is still loading it, which a warning says."""

    difference: Difference
    rejected: list[dict[str, object]]
    warnings: list[dict[str, object]]
    version: int
    everywhere: bool = True

    def as_json(self) -> dict[str, object]:
        """As the API shows it."""
        return {**asdict(self.difference), "rejected": self.rejected, "warnings": self.warnings}


class Importing:
    """Changes of store sets by one worker.

    ``require(brand)`` gives the brand as the state has it now; ``told(brand)`` is held around a change that all workers
    are to know of. One file is read at a time, so that imports at once need no more memory than one.
    """

    def __init__(
        self,
        state: State,
        require: Callable[[str], Awaitable[Brand]],
        told: Callable[[str], AbstractAsyncContextManager[None]],
    ) -> None:
        self._state = state
        self._require = require
        self._told = told
        self._turn = asyncio.Semaphore(1)
        self._written: dict[str, Brand] = {}

    def known(self, brand: str, found: Brand | None) -> Brand | None:
        """``found``, or what this worker has just written of the brand: it is not read back, so not held twice."""
        return self._written.get(brand, found)

    async def import_stores(
        self, brand: str, media_type: str, file: BinaryIO, on_error: OnError, *, dry_run: bool, merge: bool
    ) -> ImportReport:
        """As ``Stores.import_stores`` says."""
        async with self._turn:
            known = await self._require(brand)
            imported = await asyncio.to_thread(read_stores, media_type, file, known.name)
            _refuse_if(on_error, imported)
            new = await asyncio.to_thread(merged, known.stores, imported.stores) if merge else imported.stores
            changes = await asyncio.to_thread(difference, known.stores, new)
            version, everywhere = (0, True) if dry_run else await self._replace(known, new)
        findings = imported.findings
        warnings = findings.warnings_json() + ([] if everywhere else [_NOT_YET_EVERYWHERE.as_json()])
        return ImportReport(changes, findings.rejected_json(), warnings, version, everywhere)

    async def put_store(self, brand: str, store_id: str, feature: Mapping[str, Any]) -> None:
        """As ``Stores.put_store`` says."""
        for field, given in (("id", feature.get("id")), ("store_id", feature["properties"].get("store_id"))):
            if given not in (None, store_id):
                raise Invalid("is another id than that of the path", field)
        file = BytesIO(orjson.dumps({"type": "FeatureCollection", "features": [{**feature, "id": store_id}]}))
        try:
            report = await self.import_stores(brand, "application/geo+json", file, "refuse", dry_run=False, merge=True)
        except ImportRefused as refused:
            fault = refused.rejected[0]
            raise Invalid(str(fault["message"]), str(fault["field"] or "body")) from None
        _require_everywhere(report.everywhere)

    async def remove_store(self, brand: str, store_id: str) -> None:
        """As ``Stores.remove_store`` says."""
        async with self._turn:
            known = await self._require(brand)
            row = known.stores.row_of(store_id)
            if row is None:
                raise NotFound("no such store")
            _, everywhere = await self._replace(known, await asyncio.to_thread(without, known.stores, row))
        _require_everywhere(everywhere)

    async def _replace(self, known: Brand, stores: StoreSet) -> tuple[int, bool]:
        """The new version, and whether every worker has it. Raises StateAway only where it may not be current."""
        chunks = await asyncio.to_thread(pack, stores)
        version = await shelves.write_set(self._state, known.brand, chunks)
        await asyncio.to_thread(stores.make_as, known.stores)
        self._written[known.brand] = replace(known, version=version, chunks=len(chunks), stores=stores)
        current = False
        try:
            async with self._told(known.brand):
                expected = known.version, known.chunks
                await shelves.make_current(self._state, known.brand, expected, (version, len(chunks)))
                current = True
        except StateAway:
            if not current:
                raise
            return version, False
        finally:
            del self._written[known.brand]
        return version, True


def _require_everywhere(everywhere: bool) -> None:
    """A change of one store has no report to say it in."""
    if not everywhere:
        raise StateAway("stored, and not yet loaded by every worker", outcome_unknown=True)


def _refuse_if(on_error: OnError, imported: ImportedSet) -> None:
    """Also under ``skip`` when no row is left: nobody means to remove all stores by a file of errors."""
    findings = imported.findings
    if (on_error == "refuse" and findings.rejected_rows) or not len(imported.stores):
        raise ImportRefused(
            f"{findings.rejected_rows} of {imported.rows_read} rows are rejected; nothing was changed",
            findings.rejected_json(),
            findings.warnings_json(),
        )
