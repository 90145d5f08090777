"""What a rule of the service may refuse. Bare classes: ``api/errors.py`` alone maps them to HTTP."""


class Refused(Exception):
    """A request that the rules refuse. ``code`` is stable and documented under ``/problems/<code>``."""

    code = "refused"

    def __init__(self, detail: str = "", field: str | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.field = field


class Invalid(Refused):
    """A readable value that is not allowed; ``field`` names it."""

    code = "invalid"


class TooInaccurate(Invalid):
    """An accuracy worse than 600 m."""

    code = "too_inaccurate"


class BadCursor(Refused):
    """A cursor that this service did not seal for this caller and list."""

    code = "bad_cursor"


class CursorExpired(Refused):
    """A cursor of a past epoch."""

    code = "cursor_expired"


class KeyMissing(Refused):
    """An Idempotency-Key is required and absent."""

    code = "idempotency_key_required"


class KeyReused(Refused):
    """The same Idempotency-Key came with another payload."""

    code = "idempotency_key_reused"


class StillRunning(Refused):
    """The first request with this Idempotency-Key has not ended."""

    code = "still_running"


class NotFound(Refused):
    """No such thing, or not for this caller: one answer for both."""

    code = "not_found"


class PositionRequired(Refused):
    """The caller has no live position."""

    code = "position_required"


class NotVisible(Refused):
    """The caller's own visibility does not allow looking."""

    code = "not_visible"


class ImplausibleMove(Refused):
    """A move faster than 80 m/s between cells."""

    code = "implausible_move"


class AdultsOnly(Refused):
    """The feature is for adults, and the caller is not known to be one."""

    code = "adults_only"


class Suspended(Refused):
    """The app or a moderator suspended this feature for the caller, or it is on hold."""

    code = "suspended"


class FeatureOff(Refused):
    """The feature is switched off for the whole deployment."""

    code = "feature_off"


class ContentRefused(Invalid):
    """A text that the word list, or the deployment's own check, does not let through."""

    code = "content_refused"


class ModerationAway(Refused):
    """The deployment's own check of texts gave no answer."""

    code = "moderation_away"


class Erased(Refused):
    """The person behind the token, or named in the row, was erased since."""

    code = "erased"


class BottlesOff(Refused):
    """Throwing and picking need ``bottles: on``."""

    code = "bottles_off"


class Conflict(Refused):
    """The thing is no longer in the state that the act needs."""

    code = "conflict"


class NotFriends(Conflict):
    """Precise sharing with somebody who is no accepted friend."""

    code = "not_friends"


class TooManyFriends(Conflict):
    """The caller shows or asks as many people as one person may."""

    code = "too_many_friends"


class TooManyBlocks(Conflict):
    """The caller has blocked as many people as one person may."""

    code = "too_many_blocks"


class QuotaExceeded(Refused):
    """A daily quota is used up; ``resets_at_ms`` says when it is whole again."""

    code = "quota_exceeded"

    def __init__(self, detail: str, resets_at_ms: int, retry_after_s: int) -> None:
        super().__init__(detail)
        self.resets_at_ms = resets_at_ms
        self.retry_after_s = retry_after_s


class CellsUsedUp(QuotaExceeded):
    """The caller asked for strangers from as many places as one may in a day."""

    code = "too_many_places"


class RequestsUsedUp(QuotaExceeded):
    """The caller asked as many people for a friendship as one may in a day."""

    code = "too_many_friend_requests"


class OriginRefused(Refused):
    """A publishable key, used by a page of an origin that it is not bound to."""

    code = "origin_not_allowed"


class ImportRefused(Refused):
    """A store import with rejected rows under ``on_error=refuse``; nothing was changed."""

    code = "import_refused"

    def __init__(self, detail: str, rejected: list[dict[str, object]], warnings: list[dict[str, object]]) -> None:
        super().__init__(detail)
        self.rejected = rejected
        self.warnings = warnings


class StateAway(Refused):
    """The state did not answer in time. With ``outcome_unknown`` the write may or may not have happened."""

    code = "state_away"

    def __init__(self, detail: str = "state is not answering", *, outcome_unknown: bool = False) -> None:
        super().__init__(detail)
        self.outcome_unknown = outcome_unknown
        if outcome_unknown:
            self.code = "outcome_unknown"
