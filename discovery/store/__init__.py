"""Everything that touches Redis: the embedded server, the client, keys, Lua scripts, the feed and its clock.

Owns: the data directory of the embedded server, every key and every script.
Raises: :class:`discovery.errors.StateAway` to callers with a request in hand; the bare classes of ``data_dir`` and
``embedded`` at start.
Must not know: HTTP, settings, what a feature means by its records.
"""
