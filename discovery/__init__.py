"""The rules of each feature, usable as a library with no HTTP.

Owns: people, presence, nearby, radar, shake, bottles, stores, and (in ``store/``) everything that touches Redis.
Raises: only the errors of :mod:`discovery.errors`.
Must not know: HTTP, FastAPI, the environment. Time, randomness and the state client are injected.
"""
