"""The engine beside its peers: the same work, from the same seeded input, measured in turns in one run.

May use ``geo`` and the peers' packages; knows nothing of users, HTTP or Redis.
"""
