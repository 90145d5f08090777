"""The real inputs: read from $NEARHIVE_TEST_DATA (default ``../shared/data`` beside the clone), never committed."""

import csv
import gzip
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest


def rows(name: str) -> Iterator[dict[str, str]]:
    """Rows of a packed CSV, by its path in that folder; the test fails at once where it is absent."""
    with gzip.open(_path(name), "rt", encoding="utf-8", newline="") as file:
        yield from csv.DictReader(file)


def objects(name: str) -> Iterator[dict[str, Any]]:
    """Objects of packed JSON lines, likewise."""
    with gzip.open(_path(name), "rt", encoding="utf-8") as file:
        yield from map(json.loads, file)


def content(name: str) -> bytes:
    """A packed file, unpacked."""
    return gzip.decompress(_path(name).read_bytes())


def _path(name: str) -> Path:
    folder = Path(os.environ.get("NEARHIVE_TEST_DATA") or Path(__file__).parents[2].parent / "shared" / "data")
    path = folder / name
    if not path.is_file():
        pytest.fail(f"test data is absent: {path} (set NEARHIVE_TEST_DATA to the folder that holds {name})")
    return path
