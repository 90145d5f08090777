"""Store sets from checked stores, and store sets to and from compressed bytes.

Form of the bytes (version 1), before zlib: u64 little-endian length of the header; the header (JSON: ``format``,
``rows``, ``services``, ``hours``, ``columns`` = [name, dtype, bytes] in order); then the columns. The header and each
column are padded with zeros to 8 bytes.
"""

import struct
import zlib
from array import array
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from discovery.stores.fields import Store
from discovery.stores.hours import HoursKey, HoursTable
from discovery.stores.store_set import MASK_BITS, Blob, Services, StoreSet

MAX_CHUNK_BYTES = 1 << 20
_FORMAT = 1
# Level 1 packs 191,806 cards 6 times smaller in 0.5 s; level 6 takes 4 times as long for a fifth less.
_ZLIB_LEVEL = 1
_ALIGNMENT = 8


class SetBuilder:
    """Takes stores one by one, in any order; holds them packed. ``finish`` once, then drop it."""

    def __init__(self) -> None:
        self._ids: dict[bytes, int] = {}
        self._lats = array("d")
        self._lons = array("d")
        # One buffer: what orjson returns keeps about 4 KB for a card of 250 bytes (0.8 GB for 191,806 cards).
        self._cards = bytearray()
        self._card_ends = array("q", [0])
        self._services: list[tuple[str, ...]] = []
        self._same_services: dict[tuple[str, ...], tuple[str, ...]] = {}
        self._hours: dict[HoursKey, int] = {}
        self._hours_rows = array("i")

    def __len__(self) -> int:
        return len(self._ids)

    def add(self, store: Store) -> bool:
        """Take a store in; False (and nothing taken) when its id is already there."""
        store_id = store.store_id.encode()
        if store_id in self._ids:
            return False
        self._ids[store_id] = len(self._ids)
        self._lats.append(store.lat)
        self._lons.append(store.lon)
        self._cards += store.card
        self._card_ends.append(len(self._cards))
        self._services.append(self._same_services.setdefault(store.services, store.services))
        self._hours_rows.append(-1 if store.hours is None else self._hours.setdefault(store.hours, len(self._hours)))
        return True

    def finish(self) -> StoreSet:
        """The set of all stores taken."""
        ids = sorted(self._ids)
        order = np.array([self._ids[store_id] for store_id in ids], dtype=np.int64)
        return StoreSet(
            ids=Blob.of(ids),
            lats=np.array(self._lats, dtype=np.float64)[order],
            lons=np.array(self._lons, dtype=np.float64)[order],
            cards=Blob.of([self._card(row) for row in order.tolist()]),
            services=_services([self._services[row] for row in order.tolist()]),
            hours=HoursTable(list(self._hours)),
            hours_rows=np.array(self._hours_rows, dtype=np.int32)[order],
        )

    def _card(self, row: int) -> bytes:
        return bytes(memoryview(self._cards)[self._card_ends[row] : self._card_ends[row + 1]])


def empty_set() -> StoreSet:
    """What a new brand has."""
    return SetBuilder().finish()


def _services(of_rows: Sequence[tuple[str, ...]]) -> Services:
    counts = Counter(name for services in of_rows for name in services)
    names = sorted(counts, key=lambda name: (-counts[name], name))
    index = {name: position for position, name in enumerate(names)}
    masks = np.zeros(len(of_rows), dtype=np.uint64)
    rare: list[list[int]] = [[] for _ in names[MASK_BITS:]]
    for row, services in enumerate(of_rows):
        bits = 0
        for position in map(index.__getitem__, services):
            if position < MASK_BITS:
                bits |= 1 << position
            else:
                rare[position - MASK_BITS].append(row)
        masks[row] = bits
    return Services(tuple(names), masks, tuple(np.array(rows, dtype=np.int64) for rows in rare))


def pack(stores: StoreSet) -> list[bytes]:
    """Compressed chunks of at most ``MAX_CHUNK_BYTES``; ``unpack`` of them in order gives an equal set."""
    columns = _columns(stores)
    header = orjson.dumps(
        {
            "format": _FORMAT,
            "rows": len(stores),
            "services": stores.services.names,
            "hours": [tuple(key) for key in stores.hours.keys],  # orjson refuses named tuples
            "columns": [[name, column.dtype.str, column.nbytes] for name, column in columns.items()],
        }
    )
    parts = [struct.pack("<Q", len(header)), _padded(header)]
    parts.extend(_padded(column.tobytes()) for column in columns.values())
    return _compressed(parts)


def unpack(chunks: Iterable[bytes]) -> StoreSet:
    """The set that ``pack`` was given. ``ValueError`` when the bytes are damaged or of a later version."""
    data = _decompressed(chunks)
    (header_bytes,) = struct.unpack_from("<Q", data)
    header = orjson.loads(data[8 : 8 + header_bytes])
    if header["format"] != _FORMAT:
        raise ValueError(f"store set of format {header['format']}, this version reads {_FORMAT}")
    columns = _column_views(header["columns"], data, 8 + _rounded(header_bytes))
    return StoreSet(
        ids=Blob(columns["ids"].tobytes(), columns["id_offsets"].copy()),
        lats=columns["lats"].copy(),  # copies own their memory and are writable, as compiled kernels expect
        lons=columns["lons"].copy(),
        cards=Blob(columns["cards"].tobytes(), columns["card_offsets"].copy()),
        services=_unpacked_services(header["services"], columns),
        hours=HoursTable([HoursKey(*key) for key in header["hours"]]),
        hours_rows=columns["hours_rows"].copy(),
    )


def _columns(stores: StoreSet) -> dict[str, NDArray[Any]]:
    rare = stores.services.rare
    return {
        "ids": np.frombuffer(stores.ids.data, dtype=np.uint8),
        "id_offsets": stores.ids.offsets,
        "lats": stores.lats,
        "lons": stores.lons,
        "cards": np.frombuffer(stores.cards.data, dtype=np.uint8),
        "card_offsets": stores.cards.offsets,
        "masks": stores.services.masks,
        "rare_rows": np.concatenate([np.empty(0, dtype=np.int64), *rare]),
        "rare_counts": np.array([len(rows) for rows in rare], dtype=np.int64),
        "hours_rows": stores.hours_rows,
    }


def _column_views(columns: Sequence[Sequence[Any]], data: bytes, start: int) -> dict[str, NDArray[Any]]:
    views = {}
    for name, dtype, size in columns:
        kind = np.dtype(dtype)
        views[name] = np.frombuffer(data, dtype=kind, count=size // kind.itemsize, offset=start)
        start += _rounded(size)
    return views


def _unpacked_services(names: Sequence[str], columns: Mapping[str, NDArray[Any]]) -> Services:
    ends = np.cumsum(columns["rare_counts"])[:-1]
    rare = np.split(columns["rare_rows"].copy(), ends) if len(columns["rare_counts"]) else []
    return Services(tuple(names), columns["masks"].copy(), tuple(rare))


def _rounded(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT


def _padded(data: bytes) -> bytes:
    return data.ljust(_rounded(len(data)), b"\0")


def _compressed(parts: Iterable[bytes]) -> list[bytes]:
    compressor = zlib.compressobj(_ZLIB_LEVEL)
    packed = b"".join([*map(compressor.compress, parts), compressor.flush()])
    return [packed[start : start + MAX_CHUNK_BYTES] for start in range(0, len(packed), MAX_CHUNK_BYTES)]


def _decompressed(chunks: Iterable[bytes]) -> bytes:
    decompressor = zlib.decompressobj()
    try:
        data = b"".join([*map(decompressor.decompress, chunks), decompressor.flush()])
    except zlib.error as error:
        raise ValueError(f"store set is damaged: {error}") from None
    if not decompressor.eof:
        raise ValueError("store set is damaged: its end is missing")
    return data
