"""Values of JSON as the texts of a ``Row``."""

from collections.abc import Mapping, Sequence
from typing import Any

from discovery.stores.rows import Unfit


def text(field: str, value: Any) -> str:
    """Text of a JSON text or integer (many files have postcodes as numbers); null is ''. Raises ``Unfit``."""
    if value is None:
        return ""
    if isinstance(value, str):
        if not value.isascii():
            _check_unicode(field, value)
        return value
    if isinstance(value, bool) or not isinstance(value, int):
        raise Unfit(field, "not a text")
    return str(value)


def degrees(field: str, value: Any) -> str:
    """Text of a JSON number, or a text as it is (it is checked where those of a CSV are); missing is ''."""
    return number(field, value) if isinstance(value, int | float) else text(field, value)


def number(field: str, value: Any) -> str:
    """Text of a JSON number of degrees. Raises ``Unfit`` for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Unfit(field, "not a number of degrees such as 48.8566")
    if abs(value) > 180:  # a text of a huge integer is not even made
        raise Unfit(field, "outside -180..180")
    return repr(value)


def texts(field: str, value: Any) -> list[str]:
    """Texts of an array, or of one value; null and '' are none."""
    items = value if isinstance(value, list) else [value]
    return [item for item in (text(field, item) for item in items) if item]


def member(field: str, value: Any) -> Mapping[str, Any]:
    """An object, {} for null. Raises ``Unfit`` for anything else."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise Unfit(field, "not an object")
    return value


def loose_texts(values: Mapping[str, Any]) -> dict[str, str]:
    """What of ``values`` is a text, a number or a truth value, as texts: own fields of a foreign system."""
    kept: dict[str, str] = {}
    for name, value in values.items():
        if isinstance(value, bool):
            kept[text("tags", name)] = "yes" if value else "no"
        elif isinstance(value, str | float) or (isinstance(value, int) and abs(value) < 1 << 63):
            kept[text("tags", name)] = text("tags", str(value))
    return kept


def services(value: Any) -> str | Sequence[str]:
    """Services as a list of texts, or the text that stands instead."""
    if isinstance(value, list):
        return [text("services", item) for item in value]
    return text("services", value)


def tags(value: Any) -> str | Mapping[str, str]:
    """Tags as a mapping of texts, or the text that stands instead."""
    if isinstance(value, dict):
        return {text("tags", key): text("tags", item) for key, item in value.items()}
    return text("tags", value)


def _check_unicode(field: str, value: str) -> None:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise Unfit(field, "not valid Unicode (half of a surrogate pair)") from None
