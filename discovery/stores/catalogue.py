"""What one worker knows of all brands: packed sets, names, keys. Reads never leave the process."""

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from discovery.errors import NotFound
from discovery.stores.store_set import StoreSet
from discovery.stores.zones import NO_ZONES, ZoneSet


@dataclass(frozen=True, slots=True)
class BrandKey:
    """One API key of a brand, as its hash. ``origins``: of the pages that may use a publishable key;
    ``quota_per_day``: most requests in a UTC day, None for no limit; ``made_ms`` is hive time."""

    kind: str
    sha256: bytes
    origins: tuple[str, ...] = ()
    quota_per_day: int | None = None
    made_ms: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Brand:
    """A brand as of ``version`` of its store set (0: none was imported yet) and of ``zones``."""

    brand: str
    name: str
    website: str | None
    keys: Mapping[str, BrandKey]
    version: int
    chunks: int
    stores: StoreSet
    zones: ZoneSet = NO_ZONES


class Catalogue:
    """Brand -> what is known of it. ``put`` swaps in one assignment: a read sees the old brand or the new one whole."""

    def __init__(self) -> None:
        self._brands: Mapping[str, Brand] = MappingProxyType({})

    def __contains__(self, brand: str) -> bool:
        return brand in self._brands

    def find(self, brand: str) -> Brand | None:
        """The brand, None when it is not known here."""
        return self._brands.get(brand)

    def brand(self, brand: str) -> Brand:
        """The brand. Raises ``NotFound``."""
        found = self._brands.get(brand)
        if found is None:
            raise NotFound("no such brand")
        return found

    def names(self) -> list[str]:
        """All brands, sorted."""
        return sorted(self._brands)

    def held(self) -> int:
        """How many stores of all brands there are."""
        return sum(len(brand.stores) for brand in self._brands.values())

    def put(self, brand: Brand) -> None:
        """Replace what is known of one brand."""
        self._brands = MappingProxyType({**self._brands, brand.brand: brand})

    def store(self, brand: str, store_id: str) -> bytes:
        """The store as a GeoJSON Feature. Raises ``NotFound`` for an unknown brand or store."""
        stores = self.brand(brand).stores
        row = stores.row_of(store_id)
        if row is None:
            raise NotFound("no such store")
        return stores.feature(row)

    def allows(self, brand: str, key: str, kind: str = "secret") -> bool:
        """Whether ``key`` is a key of that kind of the brand; False for an unknown brand."""
        return self.find_key(brand, key, kind) is not None

    def find_key(self, brand: str, key: str, kind: str) -> tuple[str, BrandKey] | None:
        """Id and key of that kind of the brand; None for an unknown key or brand.

        Every key of the brand is compared, each in constant time, so that time tells nothing about a near miss.
        """
        found = self._brands.get(brand)
        presented = hash_key(key)
        matches = [
            (key_id, known)
            for key_id, known in (found.keys.items() if found else ())
            if hmac.compare_digest(presented, known.sha256) and known.kind == kind
        ]
        return matches[0] if matches else None


def hash_key(key: str) -> bytes:
    """SHA-256 of an API key; unsalted, because a key has 160 random bits and nothing to guess it from."""
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()
