"""How long a test waits for what is promised within a time, and how much its people do meanwhile.

The small cut runs on any machine, beside whatever else that does: it checks what happens, and that it happens soon. The
promised times themselves hold at nightly size, on a machine of its own.
"""

import os

_NIGHTLY = 10
_SMALL_CUT_FACTOR = 4.0
_SMALL_CUT_ACTS_A_S = 500  # about what takes one of two processors; other tests and what is hurt need the other


def within(promised_s: float) -> float:
    """The bound for a promise of ``promised_s`` seconds at the size of this run."""
    return promised_s if _nightly() else _SMALL_CUT_FACTOR * promised_s


def pause_s(people: int) -> float:
    """How long each of so many people rests after an act: not at all at nightly size."""
    return 0.0 if _nightly() else people / _SMALL_CUT_ACTS_A_S


def _nightly() -> bool:
    return int(os.environ.get("NEARHIVE_TEST_SCALE") or 1) >= _NIGHTLY
