"""The two shifted Chinese coordinate systems to WGS 84.

Phones and maps in China report GCJ-02 (offset from WGS 84 by 300 to 600 m) or BD-09 (Baidu, shifted once more). The
formulas are the public ones, as in googollee/eviltransform and wandergis/coordtransform; both apply inside a rectangle
around China only. Their usual inverses are off by metres; here each is solved by iteration of the forward formula to
less than 1e-9 degrees.
"""

import math
from collections.abc import Callable

Point = tuple[float, float]

# Krasovsky 1940: semi-major axis in metres and squared eccentricity, as the GCJ-02 formula has them.
_AXIS_M = 6378245.0
_ECCENTRICITY_2 = 0.00669342162296594323

_PRECISION_DEG = 1e-9
# The offsets change by less than 1 part in 100 over their own length, so that each step gains two digits.
_MAX_STEPS = 20


def in_china(lat: float, lon: float) -> bool:
    """The rectangle in which the formulas shift a point."""
    return 0.8293 <= lat <= 55.8271 and 72.004 <= lon <= 137.8347


def gcj02_to_wgs84(lat: float, lon: float) -> Point:
    """WGS 84 ``(lat, lon)`` of a GCJ-02 point; unchanged outside China."""
    return _solve(_gcj02_of_wgs84, lat, lon) if in_china(lat, lon) else (lat, lon)


def bd09_to_wgs84(lat: float, lon: float) -> Point:
    """WGS 84 ``(lat, lon)`` of a BD-09 point; unchanged outside China."""
    return gcj02_to_wgs84(*_solve(_bd09_of_gcj02, lat, lon)) if in_china(lat, lon) else (lat, lon)


def _solve(forward: Callable[[float, float], Point], lat: float, lon: float) -> Point:
    """The point that ``forward`` takes to (lat, lon): subtract its error until there is none."""
    found = (lat, lon)
    for _ in range(_MAX_STEPS):
        image = forward(*found)
        error = (image[0] - lat, image[1] - lon)
        found = (found[0] - error[0], found[1] - error[1])
        if max(abs(error[0]), abs(error[1])) < _PRECISION_DEG:
            break
    return found


def _gcj02_of_wgs84(lat: float, lon: float) -> Point:
    x, y = lon - 105.0, lat - 35.0
    waves = 20.0 * math.sin(6.0 * x * math.pi) + 20.0 * math.sin(2.0 * x * math.pi)
    north = -100.0 + 2.0 * x + 3.0 * y + 0.2 * y * y + 0.1 * x * y + 0.2 * math.sqrt(abs(x))
    north += (waves + _waves(y, 20.0, 40.0, 160.0, 12.0, 320.0, 30.0)) * 2.0 / 3.0
    east = 300.0 + x + 2.0 * y + 0.1 * x * x + 0.1 * x * y + 0.1 * math.sqrt(abs(x))
    east += (waves + _waves(x, 20.0, 40.0, 150.0, 12.0, 300.0, 30.0)) * 2.0 / 3.0
    sine = math.sin(math.radians(lat))
    magic = 1.0 - _ECCENTRICITY_2 * sine * sine
    meridian_m = _AXIS_M * (1.0 - _ECCENTRICITY_2) / (magic * math.sqrt(magic))
    parallel_m = _AXIS_M / math.sqrt(magic) * math.cos(math.radians(lat))
    return lat + math.degrees(north / meridian_m), lon + math.degrees(east / parallel_m)


def _waves(t: float, a1: float, a3: float, a12: float, d12: float, a30: float, d30: float) -> float:
    """The sines that the two offsets share in form: periods of 2, 6, 2 * d12 and 2 * d30 degrees."""
    slow = a12 * math.sin(t / d12 * math.pi) + a30 * math.sin(t / d30 * math.pi)
    return a1 * math.sin(t * math.pi) + a3 * math.sin(t / 3.0 * math.pi) + slow


def _bd09_of_gcj02(lat: float, lon: float) -> Point:
    turn = math.pi * 3000.0 / 180.0
    radius = math.hypot(lon, lat) + 0.00002 * math.sin(lat * turn)
    angle = math.atan2(lat, lon) + 0.000003 * math.cos(lon * turn)
    return radius * math.sin(angle) + 0.006, radius * math.cos(angle) + 0.0065
