"""How long a test waits for what is promised within a time.

The small cut runs on any machine, beside whatever else that does: it checks what happens, and that it happens soon. The
promised times themselves hold at nightly size, on a machine of its own.
"""

import os

_NIGHTLY = 10
_SMALL_CUT_FACTOR = 4.0


def within(promised_s: float) -> float:
    """The bound for a promise of ``promised_s`` seconds at the size of this run."""
    nightly = int(os.environ.get("NEARHIVE_TEST_SCALE", "1")) >= _NIGHTLY
    return promised_s if nightly else _SMALL_CUT_FACTOR * promised_s
