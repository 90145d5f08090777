"""Suspensions: features closed to a person until a time, by the app, by a moderator, or by a hold.

All sources stand beside each other under their own key and the longest wins, so that none can lift another's. A hold
begins when enough people have reported somebody and ends when a moderator decides.
"""

from collections.abc import Mapping

HOLD = "hold"
_BY_MODERATOR = "moderator "
HELD_FEATURES = frozenset({"nearby", "shake", "bottles"})
"""What a hold closes: where strangers meet the person."""

WITHOUT_END_MS = 100 * 365 * 86_400_000
"""From now on: a suspension without `until`, and a hold. Each begins at its own time, so that no two are the same."""

Standing = Mapping[str, int]
"""Key of a source and feature -> until when (hive ms)."""


def by_moderator(feature: str) -> str:
    """The key of a moderator's suspension; the app's is the feature itself."""
    return _BY_MODERATOR + feature


def until_ms(standing: Standing, feature: str) -> int:
    """The latest end over all sources; 0 = not suspended."""
    held_ms = standing.get(HOLD, 0) if feature in HELD_FEATURES else 0
    return max(standing.get(feature, 0), standing.get(by_moderator(feature), 0), held_ms)


def withheld_until_ms(standing: Standing, feature: str) -> int:
    """Like :func:`until_ms` by moderation alone: then others no longer meet the person there either."""
    held_ms = standing.get(HOLD, 0) if feature in HELD_FEATURES else 0
    return max(standing.get(by_moderator(feature), 0), held_ms)


def of_app(standing: Standing) -> dict[str, int]:
    """What the app suspended."""
    return {key: end for key, end in standing.items() if not is_moderation(key)}


def with_app(standing: Standing, suspended: Standing) -> dict[str, int]:
    """``standing`` with all of the app's replaced."""
    return {**_of_moderation(standing), **suspended}


def with_moderated(standing: Standing, changed: Standing) -> dict[str, int]:
    """``standing`` with some of the moderators' changed; an end of 0 lifts one."""
    both = {**standing, **{key: end for key, end in changed.items() if is_moderation(key)}}
    return {key: end for key, end in both.items() if end}


def _of_moderation(standing: Standing) -> dict[str, int]:
    return {key: end for key, end in standing.items() if is_moderation(key)}


def is_moderation(key: str) -> bool:
    """Whether a key is of a hold or a moderator's suspension."""
    return key == HOLD or key.startswith(_BY_MODERATOR)
