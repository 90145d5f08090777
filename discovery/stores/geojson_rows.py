"""Rows of a GeoJSON FeatureCollection of stores, one feature at a time.

The file is never in memory as a whole: ``_JsonStream`` parses one value after the other out of a sliding window.
"""

import io
import json
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO, NoReturn

from discovery.errors import Invalid
from discovery.stores.rows import FIELDS, TEXT_FIELDS, Findings, Row, Unfit
from discovery.stores.text_files import utf8_text

_ALIASES = {"tz": "timezone"}
_TEXTS = frozenset({"store_id", *TEXT_FIELDS})
_CHUNK_CHARS = 1 << 16
_MAX_VALUE_CHARS = 1 << 20  # one feature, or one foreign member of the collection
_SPACE = " \t\r\n"


def geojson_rows(file: BinaryIO, findings: Findings) -> Iterator[Row]:
    """Rows of a FeatureCollection of Points; properties are the Store fields, the feature's ``id`` is the store_id.

    Raises ``Invalid`` for a file that is not such a collection; a feature that is not a fit one is rejected.
    """
    ignored: set[str] = set()
    with utf8_text(file) as text:
        for number, feature in enumerate(_features(_JsonStream(text)), start=1):
            try:
                row = _row(number, feature)
            except Unfit as fault:
                findings.reject(number, fault.field, fault.message)
                continue
            _warn_ignored(number, feature["properties"], ignored, findings)
            yield row


def _features(stream: "_JsonStream") -> Iterator[Any]:
    """Elements of the member ``features`` of the object that is the whole file; its ``type`` may stand anywhere."""
    if stream.peek() != "{":
        stream.fail("the file is empty" if stream.peek() == "" else "not a JSON object")
    kind = found = None
    for name in stream.members():
        if name == "features" and found is None:
            found = name
            yield from stream.elements()
        elif name == "type":
            kind = stream.value()
            _check_kind(kind)
        else:
            stream.value()
    if stream.peek() != "":
        stream.fail("text after the end of the collection")
    _check_kind(kind)
    if found is None:
        raise Invalid("the FeatureCollection has no features", "body")


def _check_kind(kind: Any) -> None:
    if kind != "FeatureCollection":
        raise Invalid("the file is not a GeoJSON FeatureCollection: its type is another, or missing", "body")


def _row(number: int, feature: Any) -> Row:
    if not isinstance(feature, dict) or feature.get("type") != "Feature":
        raise Unfit(None, "not a Feature")
    properties = feature.setdefault("properties", {})
    if properties is None:
        properties = feature["properties"] = {}
    if not isinstance(properties, dict):
        raise Unfit("properties", "not an object")
    lat, lon = _point(feature.get("geometry"))
    values = {_field(name): _text(name, value) for name, value in properties.items() if _field(name) in _TEXTS}
    if feature.get("id") is not None:
        values["store_id"] = _text("id", feature["id"])
    values.update(lat=lat, lon=lon)
    return Row(number, values, _services(properties.get("services")), _tags(properties.get("tags")))


def _field(name: str) -> str:
    return _ALIASES.get(name, name)


def _point(geometry: Any) -> tuple[str, str]:
    """Texts of lat and lon, which are checked where those of a CSV are."""
    if not isinstance(geometry, dict) or geometry.get("type") != "Point":
        raise Unfit("geometry", "not a Point")
    position = geometry.get("coordinates")
    if not isinstance(position, list) or len(position) not in (2, 3):
        raise Unfit("geometry", "coordinates are not [longitude, latitude]")
    return _number("lat", position[1]), _number("lon", position[0])


def _number(name: str, value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Unfit(name, "not a number of degrees such as 48.8566")
    if abs(value) > 180:  # a text of a huge integer is not even made
        raise Unfit(name, "outside -180..180")
    return repr(value)


def _text(name: str, value: Any) -> str:
    """Text of a JSON text or integer (many files have postcodes as numbers); null is ''."""
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise Unfit(name, "not a text")
    text = str(value)
    if any("\ud800" <= mark <= "\udfff" for mark in text):
        raise Unfit(name, "not valid Unicode (half of a surrogate pair)")
    return text


def _services(value: Any) -> str | list[str]:
    if isinstance(value, list):
        return [_text("services", item) for item in value]
    return _text("services", value)


def _tags(value: Any) -> str | dict[str, str]:
    if isinstance(value, dict):
        return {_text("tags", key): _text("tags", item) for key, item in value.items()}
    return _text("tags", value)


def _warn_ignored(number: int, properties: Mapping[str, Any], ignored: set[str], findings: Findings) -> None:
    """One warning for each property name that is not read (the point is the geometry's)."""
    for name in properties.keys() - ignored:
        if _field(name) not in FIELDS or name in ("lat", "lon"):
            ignored.add(name)
            findings.warn(number, name[:100], "not a property of a store: ignored, here and in later features")


class _Truncated(Exception):
    """The window ends inside a value."""


class _JsonStream:
    """Pulls the members of one object, and the elements of one array in it, out of a text file."""

    def __init__(self, file: io.TextIOBase) -> None:
        self._file = file
        self._window = ""
        self._position = 0
        self._dropped = 0  # characters before the window
        self._ended = False
        self._decoder = json.JSONDecoder(parse_constant=_no_constant)

    def peek(self) -> str:
        """Next character that is not white space, '' at the end of the file."""
        while True:
            while self._position < len(self._window):
                if self._window[self._position] not in _SPACE:
                    return self._window[self._position]
                self._position += 1
            if self._ended:
                return ""
            self._read(_CHUNK_CHARS)

    def members(self) -> Iterator[str]:
        """Names of the members of the object that begins here; the caller consumes each value."""
        self._expect("{")
        while self.peek() != "}":
            name = self.value()
            if not isinstance(name, str):
                self.fail("a member without a name")
            self._expect(":")
            yield name
            self._separator("}")
        self._expect("}")

    def elements(self) -> Iterator[Any]:
        """Elements of the array that begins here."""
        if self.peek() != "[":
            raise Invalid("the member features is not an array", "body")
        self._expect("[")
        while self.peek() != "]":
            yield self.value()
            self._separator("]")
        self._expect("]")

    def value(self) -> Any:
        """The JSON value that begins here."""
        self.peek()
        more = _CHUNK_CHARS
        while True:
            try:
                return self._decoded()
            except (ValueError, _Truncated) as error:  # ValueError: bad JSON, or an integer of over 4,300 digits
                room = _MAX_VALUE_CHARS - (len(self._window) - self._position)
                if self._ended or room <= 0:
                    self.fail(error.msg if isinstance(error, json.JSONDecodeError) else "a value that cannot be read")
            except RecursionError:
                self.fail("nested too deeply")
            self._read(min(more, room))
            more *= 2  # so that a long value is parsed again a few times only

    def fail(self, reason: str) -> NoReturn:
        """Refuse the file because of what stands here."""
        raise Invalid(f"not a GeoJSON file: {reason} (near character {self._dropped + self._position})", "body")

    def _decoded(self) -> Any:
        value, end = self._decoder.raw_decode(self._window, self._position)
        if end == len(self._window) and not self._ended:
            raise _Truncated  # a number may go on
        self._position = end
        return value

    def _separator(self, closing: str) -> None:
        if self.peek() == ",":
            self._position += 1
            if self.peek() == closing:
                self.fail(f"a comma before {closing!r}")
        elif self.peek() != closing:
            self.fail(f"',' or {closing!r} expected")

    def _expect(self, mark: str) -> None:
        if self.peek() != mark:
            self.fail(f"{mark!r} expected")
        self._position += 1

    def _read(self, size: int) -> None:
        chunk = self._file.read(size)
        self._ended = not chunk
        self._dropped += self._position
        self._window = self._window[self._position :] + chunk
        self._position = 0


def _no_constant(name: str) -> NoReturn:
    raise Invalid(f"not a JSON file: {name} is not a JSON value", "body")
