"""The HTTP layer: FastAPI, tokens and keys, strict reading of requests, problem answers, the command line.

Owns nothing of the rules: a route parses, calls ``discovery`` and formats. May import ``discovery`` and ``geo``;
neither may import it. Raises ``discovery.errors.Refused`` and the few HTTP refusals of ``errors.py``, all answered by
the one table of ``problem_table.py``.
"""
