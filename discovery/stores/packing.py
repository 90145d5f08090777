"""Store sets from checked stores, and store sets to and from compressed bytes.

Form of the bytes (version 1), before zlib: u64 little-endian length of the header; the header (JSON: ``format``,
``rows``, ``services``, ``hours``, ``columns`` = [name, dtype, bytes] in order); then the columns. The header and each
column are padded with zeros to 8 bytes.
"""

import os
import struct
import zlib
from array import array
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from itertools import chain
from tempfile import TemporaryFile
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
_FILE_BUFFER_BYTES = 1 << 20
_PIECE_BYTES = 1 << 20

Buffer = bytes | memoryview


class SetBuilder:
    """Takes stores one by one, in any order. ``finish`` once; ``close`` whatever happens.

    Cards wait in a file without a name: of 1,000,000 stores they are 350 MB, which would be in memory twice while they
    are put in order of ids.
    """

    def __init__(self) -> None:
        self._ids: dict[bytes, int] = {}
        self._lats = array("d")
        self._lons = array("d")
        self._cards = TemporaryFile(buffering=_FILE_BUFFER_BYTES)  # noqa: SIM115 (``close`` is for that)
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
        self._cards.write(store.card)
        self._card_ends.append(self._card_ends[-1] + len(store.card))
        self._services.append(self._same_services.setdefault(store.services, store.services))
        self._hours_rows.append(-1 if store.hours is None else self._hours.setdefault(store.hours, len(self._hours)))
        return True

    def finish(self) -> StoreSet:
        """The set of all stores taken."""
        ids = sorted(self._ids)
        order = np.array([self._ids[store_id] for store_id in ids], dtype=np.int64)
        self._ids.clear()
        return StoreSet(
            ids=Blob.of(ids),
            lats=np.array(self._lats, dtype=np.float64)[order],
            lons=np.array(self._lons, dtype=np.float64)[order],
            cards=self._ordered_cards(order),
            services=_services([self._services[row] for row in order.tolist()]),
            hours=HoursTable(list(self._hours)),
            hours_rows=np.array(self._hours_rows, dtype=np.int32)[order],
        )

    def close(self) -> None:
        """Let go of the file."""
        self._cards.close()

    def _ordered_cards(self, order: NDArray[np.int64]) -> Blob:
        ends = np.array(self._card_ends, dtype=np.int64)
        sizes = np.diff(ends)[order]
        offsets = np.zeros(len(order) + 1, dtype=np.int64)
        np.cumsum(sizes, out=offsets[1:])
        data = bytearray(int(offsets[-1]))
        self._cards.flush()
        number = self._cards.fileno()
        places = zip(ends[:-1][order].tolist(), sizes.tolist(), offsets[:-1].tolist(), strict=True)
        for start, size, place in places:
            data[place : place + size] = os.pread(number, size, start)
        return Blob(data, offsets)


def empty_set() -> StoreSet:
    """What a new brand has."""
    with closing(SetBuilder()) as builder:
        return builder.finish()


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
    return _compressed(chain(parts, *(_padded_parts(column) for column in columns.values())))


def unpack(chunks: Iterable[bytes]) -> StoreSet:
    """The set that ``pack`` was given. ``ValueError`` when the bytes are damaged or of a later version."""
    chunks = list(chunks)
    _Inflated(chunks).check()
    data = _Inflated(chunks)
    (header_bytes,) = struct.unpack("<Q", data.read(8))
    header = orjson.loads(data.read(_rounded(header_bytes))[:header_bytes])
    if header["format"] != _FORMAT:
        raise ValueError(f"store set of format {header['format']}, this version reads {_FORMAT}")
    columns = {name: data.column(np.dtype(dtype), size) for name, dtype, size in header["columns"]}
    return StoreSet(
        ids=Blob(columns["ids"].data, columns["id_offsets"]),
        lats=columns["lats"],
        lons=columns["lons"],
        cards=Blob(columns["cards"].data, columns["card_offsets"]),
        services=_unpacked_services(header["services"], columns),
        hours=HoursTable([HoursKey(*key) for key in header["hours"]]),
        hours_rows=columns["hours_rows"],
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


def _unpacked_services(names: Sequence[str], columns: Mapping[str, NDArray[Any]]) -> Services:
    ends = np.cumsum(columns["rare_counts"])[:-1]
    rare = np.split(columns["rare_rows"], ends) if len(columns["rare_counts"]) else []
    return Services(tuple(names), columns["masks"], tuple(rare))


def _rounded(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT


def _padded(data: bytes) -> bytes:
    return data.ljust(_rounded(len(data)), b"\0")


def _padded_parts(column: NDArray[Any]) -> tuple[Buffer, bytes]:
    size = column.nbytes
    return np.ascontiguousarray(column).data, bytes(_rounded(size) - size)


def _compressed(parts: Iterable[Buffer]) -> list[bytes]:
    compressor = zlib.compressobj(_ZLIB_LEVEL)
    packed = b"".join([*map(compressor.compress, parts), compressor.flush()])
    return [packed[start : start + MAX_CHUNK_BYTES] for start in range(0, len(packed), MAX_CHUNK_BYTES)]


class _Inflated:
    """The bytes that chunks hold, read in order: never more of them in memory than one piece and what is read."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._decompressor = zlib.decompressobj()
        self._packed = b""

    def read(self, size: int) -> bytes:
        """The next ``size`` bytes."""
        data = bytearray(size)
        self._fill(memoryview(data))
        return bytes(data)

    def column(self, dtype: np.dtype[Any], size: int) -> NDArray[Any]:
        """The next ``size`` bytes, and what pads them, as an array that owns its memory."""
        column = np.empty(size // dtype.itemsize, dtype=dtype)
        self._fill(column.view(np.uint8).data)
        self.read(_rounded(size) - size)
        return column

    def check(self) -> None:
        """Read all to the end, whose checksum must hold, and keep nothing. ``ValueError`` when it is damaged."""
        while not self._decompressor.eof:
            self._piece(_PIECE_BYTES)

    def _fill(self, target: memoryview) -> None:
        place = 0
        while place < len(target):
            if self._decompressor.eof:
                raise ValueError("store set is damaged: columns are missing")
            piece = self._piece(min(len(target) - place, _PIECE_BYTES))
            target[place : place + len(piece)] = piece
            place += len(piece)

    def _piece(self, size: int) -> bytes:
        """At most ``size`` bytes; perhaps none, though there are more."""
        try:
            piece = self._decompressor.decompress(self._packed, size)
        except zlib.error as error:
            raise ValueError(f"store set is damaged: {error}") from None
        self._packed = self._decompressor.unconsumed_tail
        if not piece and not self._packed and not self._decompressor.eof:  # it holds nothing back
            self._packed = next(self._chunks, b"")
            if not self._packed:
                raise ValueError("store set is damaged: its end is missing")
        return piece
