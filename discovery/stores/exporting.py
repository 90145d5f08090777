"""All stores of a brand as a file, in pieces: GeoJSON or CSV, which an import reads back as the same stores."""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence

import orjson

from discovery.stores.rows import FIELDS
from discovery.stores.store_set import StoreSet

_STORES_A_PIECE = 500


def geojson_pieces(stores: StoreSet) -> Iterator[bytes]:
    """A FeatureCollection, one feature a line, in order of store_id."""
    yield b'{"type":"FeatureCollection","features":[\n'
    for first in range(0, len(stores), _STORES_A_PIECE):
        rows = range(first, min(first + _STORES_A_PIECE, len(stores)))
        yield (b",\n" if first else b"") + b",\n".join(map(stores.feature, rows))
    yield b"\n]}\n"


def csv_pieces(stores: StoreSet) -> Iterator[bytes]:
    """Comma separated, CRLF, UTF-8, one column a field, in order of store_id.

    Services and tags are split by semicolons; where one of them has such a mark itself, they are JSON.
    """
    for first in range(0, max(len(stores), 1), _STORES_A_PIECE):
        text = io.StringIO(newline="")
        writer = csv.writer(text)
        if first == 0:
            writer.writerow(FIELDS)
        for row in range(first, min(first + _STORES_A_PIECE, len(stores))):
            card = orjson.loads(stores.cards[row])
            card |= {"lat": repr(float(stores.lats[row])), "lon": repr(float(stores.lons[row]))}
            card |= {"services": _services_cell(card["services"]), "tags": _tags_cell(card["tags"])}
            writer.writerow([card[name] for name in FIELDS])
        yield text.getvalue().encode()


def _services_cell(services: Sequence[str]) -> str:
    plain = all(";" not in service and service == service.strip() for service in services)
    joined = ";".join(services)
    return joined if plain and not joined.startswith("[") else orjson.dumps(services).decode()


def _tags_cell(tags: Mapping[str, str]) -> str:
    plain = all(
        key and key == key.strip() and value == value.strip() and ";" not in key + value and "=" not in key
        for key, value in tags.items()
    )
    joined = ";".join(f"{key}={value}" for key, value in tags.items())
    return joined if plain and not joined.startswith("{") else orjson.dumps(tags).decode()
