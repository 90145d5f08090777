"""What the readers of files hand over (one ``Row`` a store) and what is found wrong on the way."""

from collections import Counter
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

MAX_LISTED = 250_000
"""Rejections, and as many warnings, that are listed one by one (about 60 MB of memory each); others are counted."""

_MAX_FIELD_CHARS = 100


class Row(NamedTuple):
    """One store as it stands in a file, unchecked.

    ``number``: CSV: line at which the row starts, the header is line 1; JSON: position of the store, from 1.
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
    """All that a file made us say. One rejected entry a rejected row; any number of warnings.

    Each list holds ``MAX_LISTED``; ``more_rejected``, ``more_warnings`` count what is beyond, by field.
    """

    rejected: list[Finding] = field(default_factory=list)
    warnings: list[Finding] = field(default_factory=list)
    more_rejected: Counter[str | None] = field(default_factory=Counter)
    more_warnings: Counter[str | None] = field(default_factory=Counter)
    _said: set[tuple[str, str]] = field(default_factory=set)

    def warn(self, row: int, field: str | None, message: str) -> None:
        """Note an oddity; the row stays."""
        if len(self.warnings) < MAX_LISTED:
            self.warnings.append(Finding(row, field, message))
        else:
            self.more_warnings[field] += 1

    def warn_once(self, row: int, field: str, message: str) -> None:
        """The same at the first row only, for what many rows share: say so in ``message``."""
        key = field[:_MAX_FIELD_CHARS] or '""', message  # a property may have the empty name
        if key not in self._said:
            self._said.add(key)
            self.warn(row, *key)

    def reject(self, row: int, field: str | None, message: str) -> None:
        """Note a row that is left out."""
        if len(self.rejected) < MAX_LISTED:
            self.rejected.append(Finding(row, field, message))
        else:
            self.more_rejected[field] += 1

    @property
    def rejected_rows(self) -> int:
        """How many rows are left out, listed or not."""
        return len(self.rejected) + self.more_rejected.total()

    def rejected_json(self) -> list[dict[str, object]]:
        """As the API shows it; what is not listed is counted by field at the end, as row 0."""
        return _as_json(self.rejected, self.more_rejected)

    def warnings_json(self) -> list[dict[str, object]]:
        """As the API shows it, in order of rows; what is not listed is counted by field at the end, as row 0."""
        return _as_json(sorted(self.warnings, key=lambda finding: finding.row), self.more_warnings)


def _as_json(listed: Sequence[Finding], more: Counter[str | None]) -> list[dict[str, object]]:
    counted = [
        Finding(0, name, f"{count:,} further findings like these are not listed") for name, count in more.items()
    ]
    return [finding.as_json() for finding in (*listed, *counted)]


class Unfit(Exception):
    """This row is rejected because of ``field`` (None: the row as a whole)."""

    def __init__(self, field: str | None, message: str) -> None:
        super().__init__(message)
        self.field = field
        self.message = message
