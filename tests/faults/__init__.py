"""Fault tests: what was acknowledged stays, whatever is killed, cut, slowed, stopped or made to fail."""
