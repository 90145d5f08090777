"""Files of stores in bytes, read into a set."""

import io
import json
from typing import Any

import orjson

from discovery.stores.importers import ImportedSet, read_stores

CSV = "text/csv"
GEOJSON = "application/geo+json"
JSON = "application/json"
BRAND_NAME = "Café du Coin"


def read(content: str | bytes | object, kind: str = CSV) -> ImportedSet:
    """The set made of ``content``; what is neither text nor bytes is sent as JSON."""
    if not isinstance(content, str | bytes):
        content = json.dumps(content)
    return read_stores(kind, io.BytesIO(content if isinstance(content, bytes) else content.encode()), BRAND_NAME)


def card(imported: ImportedSet, store_id: str) -> dict[str, Any]:
    """All that is shown of a store, with ``lat`` and ``lon``."""
    row = imported.stores.row_of(store_id)
    assert row is not None, store_id
    found: dict[str, Any] = orjson.loads(imported.stores.cards[row])
    return found | {"lat": float(imported.stores.lats[row]), "lon": float(imported.stores.lons[row])}
