"""Stores of brands: catalogue, import, opening hours, nearest.

Owns: store sets (packed, immutable), the files they come from, brand meta and keys, the state of a store's hours.
Raises: ``Invalid``, ``NotFound``, ``Conflict``, ``ImportRefused``, ``QuotaExceeded``, ``StateAway``.
Must not know: HTTP, people, the clock (instants are arguments).
"""
