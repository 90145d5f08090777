"""PNG plots beside the page: time against size, log-log, in each world; and memory of an item."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt

from loadtest.engine import lookups, nearby
from loadtest.engine.comparison import Comparison
from loadtest.engine.ours import NAME
from loadtest.engine.worlds import WORLDS

_DPI = 90
_PALETTE = {
    NAME: "#d62728",
    "cKDTree": "#1f77b4",
    "pykdtree": "#17becf",
    "BallTree": "#e377c2",
    "STRtree": "#ff7f0e",
    "NumPy": "#7f7f7f",
    "GEOSEARCH": "#2ca02c",
    "PostGIS": "#9467bd",
}


def draw(comparisons: Sequence[Comparison], bytes_an_item: Mapping[str, float], folder: Path) -> list[dict[str, str]]:
    """Write the files; their names and titles for the page."""
    mpl.use("Agg")
    radii = set(lookups.RADIUS_M.values())
    some = [one for one in comparisons if one.work in {lookups.work(radius) for radius in radii}]
    pages = [one for one in comparisons if one.work == nearby.WORK]
    return [
        _times(_main_radius(some), f"{lookups.NEAREST} nearest places, one call", folder / "benchmarks-places.png"),
        _times(pages, nearby.WORK, folder / "benchmarks-nearby.png"),
        _bars(bytes_an_item, "memory of an item, bytes", folder / "benchmarks-memory.png"),
    ]


def _main_radius(some: Sequence[Comparison]) -> list[Comparison]:
    return [one for one in some if one.work == lookups.work(lookups.RADIUS_M[one.world])]


def _times(some: Sequence[Comparison], title: str, path: Path) -> dict[str, str]:
    figure, axes = plt.subplots(1, len(WORLDS), figsize=(13, 4), sharey=True, layout="constrained")
    for axis, world in zip(axes, WORLDS, strict=True):
        _lines(axis, [one for one in some if one.world == world])
        axis.set(title=world, xlabel="points", xscale="log", yscale="log")
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("median, us")
    handles = dict(zip(*reversed(axes[0].get_legend_handles_labels()), strict=True))
    figure.legend(handles.values(), handles.keys(), loc="outside right upper")
    figure.suptitle(title)
    return _saved(figure, title, path)


def _lines(axis: Any, some: Sequence[Comparison]) -> None:
    for name in dict.fromkeys(name for one in some for name in one.timed.seconds):
        told = [(one.size, 1e6 * one.timed.spread(name).median) for one in some if name in one.timed.seconds]
        width = 2.5 if name == NAME else 1.2
        axis.plot(*zip(*told, strict=True), marker="o", ms=3, lw=width, label=name, color=_PALETTE.get(name))


def _bars(found: Mapping[str, float], title: str, path: Path) -> dict[str, str]:
    figure, axis = plt.subplots(figsize=(8, 0.4 * len(found) + 0.8), layout="constrained")
    names = list(found)[::-1]
    bars = axis.barh(names, [found[name] for name in names], color=[_color(name) for name in names])
    axis.bar_label(bars, fmt="%.0f", padding=3)
    axis.set_title(title)
    axis.margins(x=0.1)
    return _saved(figure, title, path)


def _color(name: str) -> str:
    return _PALETTE[NAME] if name.startswith(NAME) else "#888888"


def _saved(figure: Any, title: str, path: Path) -> dict[str, str]:
    figure.savefig(path, dpi=_DPI)
    plt.close(figure)
    return {"title": title, "file": path.name}
