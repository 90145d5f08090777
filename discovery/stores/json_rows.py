"""Rows of a JSON file of stores, one at a time, whichever of the known shapes it has.

Shapes: GeoJSON (also All The Places, also one feature a line), Overpass, schema.org JSON-LD, Woosmap, and plain objects
whose members are the fields of a store. They may stand in an array, in a member of an object, or one after the other.
"""

from collections.abc import Iterator
from typing import Any, BinaryIO

from discovery.errors import Invalid
from discovery.stores import osm_rows, schema_org_rows, woosmap_rows
from discovery.stores.geojson_rows import feature_row, warn_of_remark
from discovery.stores.json_stream import RECORD_SEPARATOR, JsonStream
from discovery.stores.plain_rows import flattened, plain_row, require_object
from discovery.stores.rows import Findings, Row, Unfit
from discovery.stores.text_files import text_of

_LISTS = ("features", "elements", "stores", "@graph", "itemListElement", "locations", "results", "items", "data")
_MAX_HEAD_MEMBERS = 1000


def geojson_rows(file: BinaryIO, findings: Findings, charset: str = "") -> Iterator[Row]:
    """Rows of a FeatureCollection; a feature that is not a fit one is rejected.

    Raises ``Invalid`` for a file that is not such a collection.
    """
    return _rows(file, findings, charset, collection=True)


def json_rows(file: BinaryIO, findings: Findings, charset: str = "") -> Iterator[Row]:
    """Rows of any of the shapes; what is not a fit store is rejected. Raises ``Invalid`` for what is not JSON."""
    return _rows(file, findings, charset, collection=False)


def _rows(file: BinaryIO, findings: Findings, charset: str, *, collection: bool) -> Iterator[Row]:
    with text_of(file, findings, charset, may_guess=False) as text:
        records = _Records(JsonStream(text), findings, collection)
        for number, record in enumerate(records.all(), start=1):
            try:
                row = (feature_row if collection else _row)(number, record, findings)
            except Unfit as fault:
                findings.reject(number, fault.field, fault.message)
                continue
            if row is not None:
                yield row


def _row(number: int, record: Any, findings: Findings) -> Row | None:
    """Row of one record; None for one that is no store by its kind, which ``findings`` then say."""
    found = require_object(record)
    if found.get("type") == "Feature":
        return feature_row(number, found, findings)
    if osm_rows.is_element(found):
        return osm_rows.element_row(number, found, findings)
    if schema_org_rows.is_thing(found):
        return schema_org_rows.thing_row(number, found, findings)
    if woosmap_rows.is_asset(found):
        return woosmap_rows.asset_row(number, found, findings)
    return plain_row(number, flattened(found), {}, findings)


class _Records:
    """The records of a file; ``collection``: it must be one GeoJSON FeatureCollection."""

    def __init__(self, stream: JsonStream, findings: Findings, collection: bool) -> None:
        self._stream = stream
        self._findings = findings
        self._collection = collection

    def all(self) -> Iterator[Any]:
        stream = self._stream
        if stream.peek() == "":
            stream.fail("the file is empty")
        if self._collection and stream.peek() != "{":
            stream.fail("not a JSON object")
        stream.skip(RECORD_SEPARATOR)
        while stream.peek() != "":
            yield from self._value()
            if self._collection and stream.peek() != "":
                stream.fail("text after the end of the collection")
            stream.skip(RECORD_SEPARATOR)

    def _value(self) -> Iterator[Any]:
        if self._stream.peek() == "[":
            for record in self._stream.elements():
                yield from self._inside(record)
        elif self._stream.peek() == "{":
            yield from self._object()
        else:
            self._stream.fail("not a JSON object or array")

    def _object(self) -> Iterator[Any]:
        """Elements of its lists of records; without one, itself. ``type`` may stand before or after them."""
        head: dict[str, Any] = {}
        found = False
        for name in self._stream.members():
            if name in (_LISTS if not self._collection else _LISTS[:1]) and self._stream.peek() == "[":
                found = True
                for record in self._stream.elements():
                    yield from self._inside(record)
            elif self._collection and name == "features":
                raise Invalid("the member features is not an array", "body")
            else:
                self._keep(head, name)
        if self._collection:
            self._check(head, found)
        elif not found:
            yield from self._inside(head)
        warn_of_remark(head, self._findings)

    def _keep(self, head: dict[str, Any], name: str) -> None:
        value = self._stream.value()
        if name == "type" and self._collection and value != "FeatureCollection":
            self._check({}, found=True)
        if len(head) < _MAX_HEAD_MEMBERS:
            head[name] = value

    def _check(self, head: dict[str, Any], found: bool) -> None:
        if head.get("type") != "FeatureCollection":
            raise Invalid("the file is not a GeoJSON FeatureCollection: its type is another, or missing", "body")
        if not found:
            raise Invalid("the FeatureCollection has no features", "body")

    def _inside(self, record: Any) -> Iterator[Any]:
        if not self._collection and isinstance(record, dict) and ("@type" in record or "@graph" in record):
            return schema_org_rows.things(record)
        return iter((record,))
