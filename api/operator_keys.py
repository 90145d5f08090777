"""Keys of operators beside the one of NEARHIVE_ADMIN_KEY: each with a name, for the audit log, and what it may do."""

import hashlib
import hmac
import re
from collections.abc import Sequence
from dataclasses import dataclass

SCOPES = ("app", "brands", "moderation")
PREFIX = "nh_op_"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class OperatorKey:
    """One key, known by its SHA-256 only."""

    name: str
    scopes: frozenset[str]
    sha256: str


def parse_operator_keys(text: str) -> tuple[OperatorKey, ...]:
    """The keys of ``NAME:SCOPE[+SCOPE…]:SHA256`` entries, separated by commas. ValueError for anything else."""
    keys = tuple(_parse_one(entry.strip()) for entry in text.split(",") if entry.strip())
    if len({key.name for key in keys}) != len(keys) or any(key.name == "admin" for key in keys):
        raise ValueError("each key needs a name of its own, and none is admin")
    return keys


def _parse_one(entry: str) -> OperatorKey:
    name, _, rest = entry.partition(":")
    scopes, _, digest = rest.partition(":")
    found = frozenset(scopes.split("+"))
    if not (_NAME.fullmatch(name) and found <= set(SCOPES) and _SHA256.fullmatch(digest)):
        raise ValueError(f"must be NAME:SCOPE[+SCOPE]:SHA256 entries, with scopes of {', '.join(SCOPES)}")
    return OperatorKey(name, found, digest)


def find_key(keys: Sequence[OperatorKey], key: str) -> OperatorKey | None:
    """The one that ``key`` is, compared in constant time."""
    if not key.startswith(PREFIX):
        return None
    digest = hashlib.sha256(key.encode("latin-1")).hexdigest()
    found = [one for one in keys if hmac.compare_digest(one.sha256, digest)]
    return found[0] if found else None
