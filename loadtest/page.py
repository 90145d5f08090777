"""``docs/benchmarks.md`` from what ``docs/benchmarks.json`` holds: goals, the figures of each, what was missed."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

Json = Mapping[str, Any]

_HEAD = """# Benchmarks

Written by `make bench` from `docs/benchmarks.json`, which holds the same figures; do not edit. Ours and the peers do
the same work on the same points, in turns, in one run; a figure is the median, with the tenth and ninetieth
percentile in brackets. `ratio` is the peer's time over ours: above 1, ours is faster; `growth` is ours over the peer's,
where the peer is ours under another condition. Times depend on the machine, ratios far less. Before anything is timed,
its answers are compared with brute force on a sample; one that differs ends the run.
"""

_TITLES = {"engine": "The engine and its peers", "state": "The state core", "finder": "The store finder over HTTP"}


def write(report: Json, path: Path) -> None:
    """The whole page."""
    path.write_text("\n".join(_lines(report)) + "\n", "utf-8")


def _lines(report: Json) -> Iterator[str]:
    yield _HEAD
    for part, title in _TITLES.items():
        rows = [row for row in report["rows"] if row.get("part") == part]
        if not rows:
            continue
        yield f"## {title}\n"
        yield _ran_on(report[part], report["versions"])
        yield from _goals(rows)
        yield from _figures(report[part])


def _ran_on(part: Json, versions: Json) -> str:
    machine = part["machine"]
    packages = ", ".join(f"{name} {version}" for name, version in versions.items())
    return (
        f"Commit {part['commit'] or 'unknown'}, seed {part['seed']}, on {machine['cpu']}, {machine['cores']} cores, "
        f"{machine['memory_gib']} GiB, {machine['system']}. {packages}.\n"
    )


def _goals(rows: Sequence[Json]) -> Iterator[str]:
    met = sum(row["met"] for row in rows)
    yield f"{met} of {len(rows)} goals are met.\n"
    yield from _table(
        ["work", "size", "ours", "peer", "", "ratio", "goal", "met"],
        [
            [
                row["work"],
                f"{row['size']:,}",
                _figure(row["ours"], row["unit"], row.get("ours_spread")),
                _figure(row["peer"], row["unit"], row.get("peer_spread")),
                row["peer_name"],
                "–" if row["ratio"] is None else _digits(row["ratio"]),
                row["goal"],
                "yes" if row["met"] else "**no**",
            ]
            for row in rows
        ],
    )
    missed = {row["work"]: row.get("profile", "") for row in rows if not row["met"]}
    if missed:
        yield "### Missed, and why\n"
        yield from (f"- **{work}**: {profile}" for work, profile in missed.items())
        yield ""


def _figure(value: float | None, unit: str, spread: Sequence[float] | None) -> str:
    if value is None:
        return "**not measured**"
    around = "" if spread is None else f" ({_digits(spread[0])} – {_digits(spread[1])})"
    return f"{_digits(value)} {unit}{around}"


def _digits(value: float) -> str:
    """Three that count, and no power of ten."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _figures(part: Json) -> Iterator[str]:
    comparisons: list[Json] = part.get("comparisons", [])
    for work in dict.fromkeys(one["work"] for one in comparisons):
        yield from _compared(work, sorted((one for one in comparisons if one["work"] == work), key=_world))
    if "bytes_an_item" in part:
        yield from _memory(part)
    for plot in part.get("plots", []):
        yield f"![{plot['title']}]({plot['file']})\n"
    if part.get("notes"):
        yield "### What was measured how, and where peers stop\n"
        yield from (f"- {note}" for note in part["notes"])
        yield ""


def _world(comparison: Json) -> str:
    """Orders a work's worlds, in each of which sizes stay in order."""
    world: str = comparison["world"]
    return world


def _compared(work: str, some: Sequence[Json]) -> Iterator[str]:
    names = list(dict.fromkeys(name for one in some for name in one["times"]))
    yield f"### {work[0].upper()}{work[1:]}\n"
    yield f"{some[0]['unit']}; in brackets the ratio to ours.\n"
    yield from _table(
        ["world", "size", *names],
        [[one["world"], f"{one['size']:,}", *(_time(one["times"].get(name)) for name in names)] for one in some],
    )


def _time(told: Json | None) -> str:
    if told is None:
        return "–"
    ratio = f" ({_digits(told['ratio'])}×)" if "ratio" in told else ""
    return f"{_digits(told['median'])}{ratio}"


def _memory(part: Json) -> Iterator[str]:
    held: Mapping[str, float] = part["bytes_an_item"]
    yield "### Memory\n"
    yield "Bytes an item, clustered world: growth of a process of its own; of servers, what they say themselves.\n"
    yield from _table(["index", "bytes an item"], [[name, f"{found:,.1f}"] for name, found in held.items()])


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield "| " + " | ".join(head) + " |"
    yield "|" + "---|" * len(head)
    for row in rows:
        yield "| " + " | ".join(row) + " |"
    yield ""
