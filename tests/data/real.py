"""The real inputs: read from $NEARHIVE_TEST_DATA (default ``../shared/data`` beside the clone), never committed."""

import csv
import gzip
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

import pytest


def rows(name: str) -> Iterator[dict[str, str]]:
    """Rows of a packed CSV, by its path in that folder; the test fails at once where it is absent."""
    with _opened(name) as file:
        yield from csv.DictReader(file)


def objects(name: str) -> Iterator[dict[str, Any]]:
    """Objects of packed JSON lines, likewise."""
    with _opened(name) as file:
        yield from map(json.loads, file)


def _opened(name: str) -> TextIO:
    folder = Path(os.environ.get("NEARHIVE_TEST_DATA") or Path(__file__).parents[2].parent / "shared" / "data")
    path = folder / name
    if not path.is_file():
        pytest.fail(f"test data is absent: {path} (set NEARHIVE_TEST_DATA to the folder that holds {name})")
    return gzip.open(path, "rt", encoding="utf-8", newline="")
