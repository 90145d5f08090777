"""Pure computation on arrays of positions, cells and keys.

Owns: H3 cells and disks, distances on the sphere, the way from an exact point to the cell that is kept, the people
index of one epoch, the place index, and the compiled kernels under them.
May raise: ``ValueError`` (a bad number, cell or shape, named in the message) and ``TypeError`` (a refused use of
``ExactPoint``). Must not know: users, tokens, settings, Redis, HTTP, files, clocks, random sources. Nothing is imported
from ``discovery`` or ``api``.

Angles are degrees and come in the order ``lat, lon``; distances are metres on a sphere of ``sphere.EARTH_RADIUS_M``;
times are integer milliseconds; cells are Python ``int`` or numpy ``uint64``.
"""
