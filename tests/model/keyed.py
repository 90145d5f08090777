"""Twin of what derives from the secret: hashes of people, keys of epochs. HKDF (RFC 5869) and BLAKE2b, no more."""

import hashlib
import hmac
from functools import lru_cache

from tests.naive_geo import CIRCLE, siphash24


@lru_cache(maxsize=10_000)
def derive(secret: bytes, label: bytes, info: bytes, size: int) -> bytes:
    """HKDF with SHA-256: extract with a fixed salt, then expand."""
    root = hmac.digest(b"nearhive sealed 1", secret, "sha256")
    out = block = b""
    count = 0
    while len(out) < size:
        count += 1
        block = hmac.digest(root, block + label + b"\0" + info + bytes([count]), "sha256")
        out += block
    return out[:size]


@lru_cache(maxsize=10_000)
def person_hash(secret: bytes, person: str) -> int:
    """The 64 bits by which orders know a person."""
    key = derive(secret, b"hash", b"person", 32)
    raw = person.encode()
    digest = hashlib.blake2b(len(raw).to_bytes(8, "little") + raw, key=key, digest_size=8).digest()
    return int.from_bytes(digest, "little")


def epoch_key(secret: bytes, number: int) -> tuple[int, int]:
    """The two halves of the key of one epoch."""
    raw = derive(secret, b"epoch", number.to_bytes(8, "little", signed=True), 16)
    return int.from_bytes(raw[:8], "little"), int.from_bytes(raw[8:], "little")


def circle_key(secret: bytes, number: int, person: str) -> int:
    """Where a person stands on the circle of an epoch."""
    k0, k1 = epoch_key(secret, number)
    key = k0.to_bytes(8, "little") + k1.to_bytes(8, "little")
    return siphash24(key, person_hash(secret, person).to_bytes(8, "little")) % CIRCLE
