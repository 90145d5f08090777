"""Slow, obvious twins of every kernel. Written for reading, never for speed."""

from tests import naive_geo as naive_geo  # cells, sphere, keyed order, crowd, places
from tests import naive_presence as naive_presence  # presence: reports, edges, digests
from tests.naive_shake import replay as replay  # shakes
from tests.naive_stores import nearest_stores as nearest_stores  # stores
