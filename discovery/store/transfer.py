"""Reading and writing whole states, key by key, with plain commands that every server of every version understands."""

import asyncio
import re
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from discovery.store import keys
from discovery.store.client import State
from discovery.store.records import NO_EXPIRY, Entry, Record, StreamEnd, batched
from discovery.store.scripts import Script, tag_of

_READ = Script("transfer_read", lasting=False)
_WRITE = Script("transfer_write", lasting=False)  # whoever transfers waits once, at the end: `State.settle`
_STREAM = Script("transfer_stream", lasting=False)

_SCAN_COUNT = 1000
_KEYS_A_SCRIPT = 100  # about 0.5 ms of server time
_SMALL_ELEMENTS = 256
_PAGE_ELEMENTS = 10_000  # about 5 ms of server time
_PAGE_ENTRIES = 1000
_WRITE_BYTES = 1 << 20
_WRITE_ELEMENTS = 4000  # an even number; Lua unpacks 7,999 at most

# They belong to workers that run, and say nothing to those of another place.
_OF_RUNNING_WORKERS = re.compile(rb"\{(s\d\d|shake)\}:(leader|leases|workers|feed:copy|feed:lock)")


class NotEmpty(Exception):
    """The target of a restore or a copy holds something."""


@dataclass(slots=True, frozen=True)
class Page:
    """Some keys of a state: their records, the names of streams among them, and the names of which nothing is left."""

    records: list[Record]
    streams: list[bytes]
    gone: list[bytes]


def is_transferred(name: bytes) -> bool:
    """Whether a key is part of a backup or a copy like any other. The world's own record is written by itself."""
    return name != keys.world().encode() and not _OF_RUNNING_WORKERS.fullmatch(name)


async def scan(state: State) -> AsyncIterator[Page]:
    """All of a state but what belongs to running workers. What changes meanwhile may be missing, old, or come twice."""
    for master in state.masters():
        cursor = b"0"
        while True:
            cursor, names = await state.call_at(master, "SCAN", cursor, "COUNT", _SCAN_COUNT)
            found = [name for name in names if is_transferred(name)]
            if found:
                yield await read(state, found)
            if int(cursor) == 0:
                break


async def read(state: State, names: Iterable[bytes]) -> Page:
    """What these keys hold now; each by itself as of one moment, but for the large ones."""
    by_tag: defaultdict[str, list[str]] = defaultdict(list)
    for name in map(bytes.decode, names):
        by_tag[tag_of(name)].append(name)
    groups = [
        group[at : at + _KEYS_A_SCRIPT] for group in by_tag.values() for at in range(0, len(group), _KEYS_A_SCRIPT)
    ]
    replies = await asyncio.gather(*(state.run(_READ, group, [_SMALL_ELEMENTS]) for group in groups))
    page = Page([], [], [])
    for group, reply in zip(groups, replies, strict=True):
        for name, (kind, expiry_ms, elements) in zip(group, reply, strict=True):
            await _sort_in(state, page, name, kind.decode(), expiry_ms, elements)
    return page


async def _sort_in(
    state: State, page: Page, name: str, kind: str, expiry_ms: int, elements: Sequence[bytes] | None
) -> None:
    if kind == "none":
        page.gone.append(name.encode())
    elif kind == "stream":
        page.streams.append(name.encode())
    elif elements is not None:
        page.records.append(_record(name, kind, expiry_ms, elements))
    elif paged := await _PAGED[kind](state, name):
        page.records.append(_record(name, kind, expiry_ms, paged))
    else:  # it has ended between the two looks
        page.gone.append(name.encode())


def _record(name: str, kind: str, expiry_ms: int, elements: Sequence[bytes]) -> Record:
    if kind == "zset":  # servers write the same number in different ways
        elements = [part for member, score in batched(elements) for part in (repr(float(score)).encode(), member)]
    return Record(name.encode(), kind, expiry_ms, elements)


async def _scanned(state: State, command: str, name: str, width: int) -> list[bytes]:
    """All of a large hash, set or zset; a page may repeat elements of an earlier one."""
    found: dict[bytes, bytes] = {}
    cursor = b"0"
    while True:
        cursor, page = await state.call(command, name, cursor, "COUNT", _PAGE_ELEMENTS)
        found.update(zip(page[::width], page[width - 1 :: width], strict=True))
        if int(cursor) == 0:
            break
    return [part for pair in found.items() for part in pair] if width == 2 else list(found)


async def _listed(state: State, name: str) -> list[bytes]:
    found: list[bytes] = []
    while page := await state.call("LRANGE", name, len(found), len(found) + _PAGE_ELEMENTS - 1):
        found += page
    return found


_PAGED: dict[str, Callable[[State, str], Awaitable[list[bytes]]]] = {
    "hash": lambda state, name: _scanned(state, "HSCAN", name, 2),
    "zset": lambda state, name: _scanned(state, "ZSCAN", name, 2),
    "set": lambda state, name: _scanned(state, "SSCAN", name, 1),
    "list": _listed,
}


# --- streams ---


async def entries(state: State, stream: bytes, after: bytes = b"0-0") -> AsyncIterator[list[Entry]]:
    """The entries of a stream behind ``after``, in pages."""
    while True:
        rows = await state.call("XRANGE", stream, b"(" + after, "+", "COUNT", _PAGE_ENTRIES)
        if rows:
            yield [Entry(entry_id, tuple(fields)) for entry_id, fields in rows]
            after = rows[-1][0]
        if len(rows) < _PAGE_ENTRIES:
            return


async def stream_end(state: State, stream: bytes) -> StreamEnd:
    """Where a stream begins and ends. Raises StateFault when there is none."""
    flat = await state.call("XINFO", "STREAM", stream)
    info = dict(zip(flat[::2], flat[1::2], strict=True))
    first = info[b"first-entry"]
    page = await state.run(_READ, [stream.decode()], [0])
    return StreamEnd(stream, first[0] if first else b"", info[b"last-generated-id"], int(page[0][1]))


async def append(state: State, stream: bytes, rows: Sequence[Entry]) -> None:
    """Add entries behind those that stand, under the ids that they have. Durable after `State.settle`."""
    args: list[bytes | str | int] = []
    size = 0
    for row in rows:
        args += [row.entry_id, len(row.fields), *row.fields]
        size += sum(map(len, row.fields))
        if size > _WRITE_BYTES:
            await state.run(_STREAM, [stream.decode()], args)
            args, size = [], 0
    if args:
        await state.run(_STREAM, [stream.decode()], args)


async def end_stream(state: State, end: StreamEnd) -> None:
    """Drop entries before the first one, and let ids go on behind the last one. An empty stream is made, too."""
    name = end.key.decode()
    if end.last == b"0-0":
        return
    if not await state.call("EXISTS", name):
        await state.call("XADD", name, end.last, "k", "")
    if end.first:
        await state.call("XTRIM", name, "MINID", "=", end.first)
    else:
        await state.call("XTRIM", name, "MAXLEN", "=", 0)
    await state.call("XSETID", name, end.last)
    if end.expiry_ms != NO_EXPIRY:
        await state.call("PEXPIREAT", name, end.expiry_ms)


# --- writing ---


async def write(state: State, records: Iterable[Record]) -> None:
    """Each record replaces what stands under its key; best a few thousand at once. Durable after `State.settle`."""
    by_tag: defaultdict[str, list[tuple[Record, Sequence[bytes]]]] = defaultdict(list)
    large: list[Record] = []
    for record in records:
        if len(record.elements) <= _WRITE_ELEMENTS:
            by_tag[tag_of(record.key.decode())].append((record, record.elements))
        else:
            large.append(record)
    groups = [group for rows in by_tag.values() for group in _groups(rows)]
    await asyncio.gather(*(_run_write(state, "new", group) for group in groups), *(_write(state, r) for r in large))


def _groups(rows: Iterable[tuple[Record, Sequence[bytes]]]) -> Iterator[list[tuple[Record, Sequence[bytes]]]]:
    """As many records as one script should write."""
    group: list[tuple[Record, Sequence[bytes]]] = []
    size = 0
    for row in rows:
        group.append(row)
        size += sum(map(len, row[1]))
        if size > _WRITE_BYTES or len(group) >= _KEYS_A_SCRIPT:
            yield group
            group, size = [], 0
    if group:
        yield group


async def _write(state: State, record: Record) -> None:
    """A large record, part by part."""
    for at in range(0, len(record.elements), _WRITE_ELEMENTS):
        part = record.elements[at : at + _WRITE_ELEMENTS]
        await _run_write(state, "more" if at else "new", [(record, part)])


async def _run_write(state: State, mode: str, group: Sequence[tuple[Record, Sequence[bytes]]]) -> None:
    args: list[bytes | str | int] = []
    for record, part in group:
        args += [record.kind, record.expiry_ms, mode, len(part), *part]
    await state.run(_WRITE, [record.key.decode() for record, _ in group], args)


async def delete(state: State, names: Iterable[bytes]) -> None:
    """Remove keys. Durable after `State.settle`."""
    await asyncio.gather(*(state.call("UNLINK", name, lasting=False) for name in names))


async def count_keys(state: State) -> int:
    """How many keys there are."""
    return sum(await state.each_master("DBSIZE"))


async def now_ms(state: State) -> int:
    """The latest clock among the masters, in ms since 1970."""
    clocks = await state.each_master("TIME")
    return max(int(seconds) * 1000 + int(micros) // 1000 for seconds, micros in clocks)
