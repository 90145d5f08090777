"""Slow, obvious twins of every kernel. Written for reading, never for speed."""

from tests.naive_shake import replay as replay  # shakes
