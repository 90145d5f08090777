"""Keys that derive from ``PRIVACY_SECRET``: sealed texts (cursors, ids), keyed hashes, epoch keys.

Everything here is deterministic on purpose: equal inputs under an equal secret give equal bytes.
"""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Iterable
from functools import lru_cache

import numpy as np
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV
from numpy.typing import NDArray

from .errors import BadCursor

_SALT = b"nearhive sealed 1"
_SEALED_MAX = 4096


class Sealer:
    """One secret, one derived key per purpose, so that what is made for one purpose is worthless for another."""

    def __init__(self, secret: bytes) -> None:
        """``secret``: at least 32 bytes; ValueError when shorter."""
        if len(secret) < 32:
            raise ValueError("the secret must have at least 32 bytes")
        self._root = hmac.digest(_SALT, secret, "sha256")
        # A cache per instance: a cache on the method would keep every Sealer, and its secret, alive.
        self._cipher = lru_cache(maxsize=64)(self._make_cipher)
        self._hasher = lru_cache(maxsize=64)(self._make_hasher)
        self.epoch_key = lru_cache(maxsize=64)(self._make_epoch_key)
        """``epoch_key(epoch_number) -> (k0, k1)``: the 128-bit SipHash key of one epoch as two unsigned 64-bit ints."""

    def seal(self, purpose: str, payload: bytes, context: bytes) -> str:
        """AES-SIV (RFC 5297) of ``payload`` bound to ``purpose`` and ``context``; url-safe base64 without padding."""
        sealed = self._cipher(purpose).encrypt(b"\x01" + payload, [context])
        return base64.urlsafe_b64encode(sealed).rstrip(b"=").decode("ascii")

    def open(self, purpose: str, text: str, context: bytes) -> bytes:
        """The payload of :meth:`seal`; BadCursor unless every byte, the purpose and the context agree."""
        try:
            if len(text) > _SEALED_MAX:
                raise BadCursor
            raw = base64.b64decode(text.encode("ascii") + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
            opened = self._cipher(purpose).decrypt(raw, [context])
        except (InvalidTag, binascii.Error, ValueError) as error:
            raise BadCursor from error
        # base64 ignores spare bits of the last character: only the one text that seal() gives is accepted.
        if self.seal(purpose, opened[1:], context) != text:
            raise BadCursor
        return opened[1:]

    def hash64(self, purpose: str, *parts: str | bytes) -> int:
        """Keyed 64-bit hash of the parts, 0 <= h < 2**64; ("ab", "c") and ("a", "bc") differ."""
        return int.from_bytes(self._digest(purpose, parts, 8), "little")

    def hash64_each(self, purpose: str, texts: Iterable[str]) -> NDArray[np.uint64]:
        """``hash64`` of each text by itself, uint64[n]: half the time a hash."""
        start = self._hasher(purpose, 8)
        digests = []
        for text in texts:
            raw = text.encode()
            digest = start.copy()
            digest.update(len(raw).to_bytes(8, "little") + raw)
            digests.append(digest.digest())
        return np.frombuffer(b"".join(digests), "<u8")

    def id128(self, purpose: str, *parts: str | bytes) -> str:
        """Keyed 128-bit id of the parts as 32 hex digits."""
        return self._digest(purpose, parts, 16).hex()

    def _digest(self, purpose: str, parts: tuple[str | bytes, ...], size: int) -> bytes:
        digest = self._hasher(purpose, size).copy()  # half the cost of starting with the key each time
        for part in parts:
            raw = part.encode() if isinstance(part, str) else part
            digest.update(len(raw).to_bytes(8, "little"))
            digest.update(raw)
        return digest.digest()

    def _derive(self, label: bytes, info: bytes, size: int) -> bytes:
        """HKDF-Expand (RFC 5869) with SHA-256; the label keeps ciphers, hashes and epochs apart."""
        out, block = b"", b""
        for counter in range(1, -(-size // 32) + 1):
            block = hmac.digest(self._root, block + label + b"\x00" + info + bytes([counter]), "sha256")
            out += block
        return out[:size]

    def _make_cipher(self, purpose: str) -> AESSIV:
        return AESSIV(self._derive(b"seal", purpose.encode(), 64))

    def _make_hasher(self, purpose: str, size: int) -> "hashlib.blake2b":
        return hashlib.blake2b(key=self._derive(b"hash", purpose.encode(), 32), digest_size=size)

    def _make_epoch_key(self, epoch_number: int) -> tuple[int, int]:
        raw = self._derive(b"epoch", epoch_number.to_bytes(8, "little", signed=True), 16)
        return int.from_bytes(raw[:8], "little"), int.from_bytes(raw[8:], "little")
