"""Rows that miss their goal: the profile that shows why, and what was tried. By the row's work; written by hand.

``report.write`` puts the text into a row that is missed, and leaves it out of one that is met. After a text was
changed, ``python -m loadtest.report`` writes JSON and page anew from what was measured.
"""

PROFILES: dict[str, str] = {}

NOT_LOOKED_INTO = "not looked into yet"


def profile_of(work: str) -> str:
    """Of the row with this work."""
    return PROFILES.get(work, NOT_LOOKED_INTO)
