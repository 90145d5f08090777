"""What the readers of files hand over (one ``Row`` a store) and what is found wrong on the way."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

# The fields of a store of the API that an import may set, in the order of its card; ``zone`` has its own call.
TEXT_FIELDS = (
    "name",
    "address",
    "city",
    "country",
    "postcode",
    "phone",
    "website",
    "opening_hours",
    "timezone",
)
FIELDS = ("store_id", "lat", "lon", *TEXT_FIELDS, "services", "tags")


class Row(NamedTuple):
    """One store as it stands in a file, unchecked.

    ``number``: CSV: line at which the row starts, the header is line 1; GeoJSON: position of the feature, from 1.
    ``values``: raw text of ``store_id, lat, lon`` and the text fields; a missing field is absent.
    ``services``, ``tags``: a list or mapping of texts, or the text that the file has instead (split at ``;`` later).
    """

    number: int
    values: Mapping[str, str]
    services: str | Sequence[str]
    tags: str | Mapping[str, str]


class Finding(NamedTuple):
    """Something wrong in a row (0: the file as a whole); ``field`` None: the row as a whole."""

    row: int
    field: str | None
    message: str

    def as_json(self) -> dict[str, object]:
        """As the API shows it."""
        return self._asdict()


@dataclass(slots=True)
class Findings:
    """All that a file made us say. One rejected entry a rejected row; any number of warnings."""

    rejected: list[Finding] = field(default_factory=list)
    warnings: list[Finding] = field(default_factory=list)

    def warn(self, row: int, field: str | None, message: str) -> None:
        """Note an oddity; the row stays."""
        self.warnings.append(Finding(row, field, message))

    def reject(self, row: int, field: str | None, message: str) -> None:
        """Note a row that is left out."""
        self.rejected.append(Finding(row, field, message))


class Unfit(Exception):
    """This row is rejected because of ``field`` (None: the row as a whole)."""

    def __init__(self, field: str | None, message: str) -> None:
        super().__init__(message)
        self.field = field
        self.message = message
