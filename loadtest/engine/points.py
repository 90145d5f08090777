"""Points to H3 cells on one core, beside h3-py's scalar function in a loop."""

import h3.api.basic_int as h3_int
import numpy as np

from geo import cells
from geo.privacy import FRIEND_RESOLUTION
from loadtest import report
from loadtest.engine.comparison import Comparison
from loadtest.engine.exact import Unequal
from loadtest.engine.field import Field
from loadtest.engine.ours import NAME
from loadtest.engine.scale import Scale
from loadtest.engine.timing import Timed, whole_runs

PEER = "h3-py"
WORK = f"points to cells of resolution {FRIEND_RESOLUTION}, a point on one core"
_SCALAR_SHARE = 10


def compare(field: Field, scale: Scale) -> Comparison:
    """The scalar loop gets a tenth of the points."""
    lats, lons = (np.ascontiguousarray(axis[: scale.cells]) for axis in field.points)
    some = list(zip(lats.tolist(), lons.tolist(), strict=True))[: max(1, len(lats) // _SCALAR_SHARE)]

    def scalar() -> list[int]:
        return [h3_int.latlng_to_cell(lat, lon, FRIEND_RESOLUTION) for lat, lon in some]

    if cells.cells_of(lats, lons, FRIEND_RESOLUTION)[: len(some)].tolist() != scalar():
        raise Unequal("cells_of differs from h3's latlng_to_cell")
    timed = whole_runs({NAME: lambda: cells.cells_of(lats, lons, FRIEND_RESOLUTION), PEER: scalar}, scale.runs)
    seconds = {NAME: timed.seconds[NAME] / len(lats), PEER: timed.seconds[PEER] / len(some)}
    return Comparison(WORK, field.world, len(lats), "us", Timed(seconds))


def rows(found: Comparison) -> list[report.Row]:
    """1.5 million points a second are 0.667 us a point."""
    return [found.row(PEER, "ours <= 0.667")]
