"""``server.json`` of a data directory: which server wrote the data, and in which format of Nearhive."""

import json
from pathlib import Path
from typing import Any

from discovery.store.data_dir import write_json_if_it_fits
from discovery.store.world import FORMAT, check_format


class ServerMismatch(Exception):
    """The data was written by a server that this binary may not be able to follow."""


def check_written_by(path: Path, name: str, version: str) -> None:
    """Refuse data of another kind of server, of a later major version, or of a later format; then record this server.

    The format stays as found until :func:`record_format`. Raises ServerMismatch, WorldTooNew, with the way out.
    """
    written = _written_by(path)
    if written:
        check_format(_format_of(written), f"the data in {path}")
        _check_server(path, written, name, version)
    _record_written_by(path, {"name": name, "version": version, "format": _format_of(written) if written else FORMAT})


def record_format(path: Path) -> None:
    """The data is of the present format from now on: a server with it runs."""
    _record_written_by(path, {**_written_by(path), "format": FORMAT})


def _written_by(path: Path) -> dict[str, Any]:
    """What ``server.json`` says, empty for a new directory."""
    try:
        return dict(json.loads((path / "server.json").read_text()))
    except FileNotFoundError:
        return {}
    except (ValueError, TypeError) as error:
        raise ServerMismatch(f"{path / 'server.json'} is not readable as JSON: {error}") from None


def _format_of(written: dict[str, Any]) -> int:
    return int(written.get("format", 1))


def _check_server(path: Path, written: dict[str, Any], name: str, version: str) -> None:
    if written["name"] != name or _major(written["version"]) > _major(version):
        raise ServerMismatch(
            f"the data in {path} was written by {written['name']} {written['version']}, which {name} {version} may "
            f"not be able to read. Run {written['name']} {_major(written['version'])} or later "
            "(NEARHIVE_VALKEY_BIN=/path/to/server), or start with another NEARHIVE_DATA_DIR"
        )


def _record_written_by(path: Path, content: dict[str, Any]) -> None:
    """On a full disk nothing is recorded: a server that cannot write changes nothing, and this is called again."""
    if content != _written_by(path):
        write_json_if_it_fits(path / "server.json", content)


def _major(version: str) -> int:
    return int(version.split(".", 1)[0])
