"""Places, one call a question: 50 nearest within a radius, in every world and size."""

from collections.abc import Mapping

from loadtest import report
from loadtest.engine.comparison import Comparison
from loadtest.engine.field import Field
from loadtest.engine.scale import Scale
from loadtest.engine.timing import single_calls

NEAREST = 50
RADIUS_M = {"clustered": 1_000.0, "uniform": 50_000.0, "stadium": 1_000.0}
_OF_SERVERS = (("GEOSEARCH", "ratio >= 40"), ("PostGIS", "ratio >= 80"))
MORE_RADII_M = (200.0, 5_000.0)


def told(radius_m: float) -> str:
    """200 m, 1 km."""
    return f"{radius_m:g} m" if radius_m < 1_000.0 else f"{radius_m / 1_000.0:g} km"


def work(radius_m: float) -> str:
    return f"places: {NEAREST} nearest within {told(radius_m)}, one call"


def compare(field: Field, radius_m: float, scale: Scale) -> Comparison:
    """All contenders of a field; checked first."""
    questions = field.questions(scale.questions)
    field.check(questions, NEAREST, radius_m, scale.sample)
    asked = list(zip(*(axis.tolist() for axis in questions), strict=True))
    calls = {
        name: [one.asked(lat, lon, NEAREST, radius_m) for lat, lon in asked] for name, one in field.contenders.items()
    }
    return Comparison(work(radius_m), field.world, field.size, "us", single_calls(calls, scale.turns, scale.budget_s))


def rows(found: dict[float, Comparison], missing: Mapping[str, str]) -> list[report.Row]:
    """The goals, from the comparisons by radius in the clustered world; ``missing`` peers by name, and why."""
    goals = [found[radius_m].row("cKDTree", "ratio >= 2") for radius_m in sorted(found)]
    one_km = found[RADIUS_M["clustered"]]
    return goals + [one_km.row_unless(missing, peer, goal) for peer, goal in _OF_SERVERS]
