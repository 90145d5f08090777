"""Slow, obvious twins of every kernel. Written for reading, never for speed."""
