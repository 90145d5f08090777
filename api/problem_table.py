"""The one table of problems: code -> status, title, meaning and remedy. Also the source of /problems."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Problem:
    """One row of the table. ``meaning`` says what happened, ``remedy`` what the caller does about it."""

    code: str
    status: int
    title: str
    meaning: str
    remedy: str
    retry_after_s: int | None = None


_ROWS = (
    Problem(
        "bad_json",
        400,
        "The body is not readable as JSON",
        "The body is empty, not UTF-8, not JSON (NaN and Infinity are not), nested too deeply, or has a key twice.",
        "Send one JSON value as RFC 8259 defines it, each key once.",
    ),
    Problem(
        "bad_cursor",
        400,
        "The cursor is not one of ours",
        "The cursor was not given out by this service for this caller and this list.",
        "Start again without a cursor, and pass on next_cursor unchanged.",
    ),
    Problem(
        "cursor_expired",
        400,
        "The cursor is of a past epoch",
        "The list moved on since the first page was read, so its pages no longer fit together.",
        "Start again without a cursor.",
    ),
    Problem(
        "idempotency_key_required",
        400,
        "An Idempotency-Key is required",
        "This act must not happen twice when a request is repeated, so each act needs its own key.",
        "Send Idempotency-Key with 1 to 128 visible ASCII characters, the same one when repeating.",
    ),
    Problem(
        "bad_request",
        400,
        "The request is not readable",
        "The request is not well-formed HTTP for this service.",
        "See detail.",
    ),
    Problem(
        "unauthorized",
        401,
        "A valid credential is required",
        "The credential is missing, expired, or does not hold. The answer does not say which part is wrong.",
        "Send Authorization: Bearer with a fresh token, or X-API-Key; see the security schemes in /openapi.json.",
    ),
    Problem(
        "erased",
        401,
        "Erased",
        "The token was issued before its person was erased; nothing is left of them here.",
        "Who comes anew needs a token issued after it. In the app's bulk calls: PUT /v1/app/users/{user} first.",
    ),
    Problem(
        "forbidden",
        403,
        "Not with this kind of credential",
        "The credential is of a kind that this route does not take.",
        "Use an end user's token for /v1/me and the features, the operator's or the brand's key for the rest.",
    ),
    Problem(
        "origin_not_allowed",
        403,
        "Not from this origin",
        "A publishable key is for pages of the origins that it was made for; this request named another, or none.",
        "Have the operator make a key with the page's origin. Servers use the brand's secret key.",
    ),
    Problem(
        "adults_only",
        403,
        "For adults only",
        "The feature is for adults, and the caller is not known to be one.",
        "The app states the age in the token (age) or with PUT /v1/app/users/{user}.",
    ),
    Problem(
        "suspended",
        403,
        "Suspended",
        "The app or a moderator suspended this feature for the caller, or it is on hold until a moderator has looked.",
        "Who suspended it can lift it; POST /v1/me/appeal asks moderators to look again. Detail may name a contact.",
    ),
    Problem(
        "feature_off",
        403,
        "Switched off here",
        "The feature is switched off for this whole deployment.",
        "There is nothing to do: do not offer the feature.",
    ),
    Problem(
        "bottles_off",
        403,
        "Bottles are off",
        "Throwing and picking need the caller's own setting bottles: on.",
        "PATCH /v1/me/settings with bottles: on.",
    ),
    Problem(
        "not_found",
        404,
        "Not found",
        "There is no such thing, or it is not for this caller: the answer is the same for both.",
        "Check the path and the id.",
    ),
    Problem(
        "method_not_allowed",
        405,
        "Method not allowed",
        "The path exists, but not with this method.",
        "Use one of the methods in the Allow header.",
    ),
    Problem(
        "body_timeout",
        408,
        "The body did not arrive in time",
        "The whole body must arrive within 10 seconds; uploads of files, each part of it.",
        "Repeat the request.",
    ),
    Problem(
        "position_required",
        409,
        "An own position is required",
        "The caller has no live position, so there is no place to look from.",
        "PUT /v1/me/position first.",
    ),
    Problem(
        "not_visible",
        409,
        "See and be seen",
        "The caller's own visibility, or a quiet zone in which they are, does not allow looking: only who may be seen "
        "sees.",
        "PATCH /v1/me/settings with a wider visibility, or without that quiet zone.",
    ),
    Problem(
        "implausible_move",
        409,
        "Implausible move",
        "The move between cells is faster than 80 m/s. The earlier position stays.",
        "Send the next real position; one jump a day is free.",
    ),
    Problem(
        "still_running",
        409,
        "Still running",
        "The first request with this Idempotency-Key has not ended.",
        "Repeat in a second, with the same key.",
        retry_after_s=1,
    ),
    Problem(
        "conflict",
        409,
        "No longer in that state",
        "The thing is no longer in the state that the act needs.",
        "Read it again, then decide.",
    ),
    Problem(
        "not_friends",
        409,
        "Not between accepted friends",
        "Precise sharing needs an accepted friendship.",
        "Ask for the friendship first: PUT /v1/me/friends/{user} with another precision.",
    ),
    Problem(
        "too_many_friends",
        409,
        "No room for another friend",
        "One person has at most 5,000 friends and requests, those they declined included.",
        "End some friendships or requests first.",
    ),
    Problem(
        "too_many_blocks",
        409,
        "No room for another block",
        "One person blocks at most 5,000 people.",
        "Take back blocks that are no longer needed.",
    ),
    Problem(
        "too_large",
        413,
        "The body is too large",
        "Bodies are limited: 16 KB, 4 MB where a list of up to 10,000 is taken, 512 MB for a store import.",
        "Send fewer at a time.",
    ),
    Problem(
        "unsupported_media_type",
        415,
        "Unsupported media type",
        "The Content-Type is missing or not one that this route takes.",
        "Send Content-Type: application/json, or what the route's documentation names.",
    ),
    Problem(
        "invalid",
        422,
        "Not valid",
        "The request is readable, but a value, a field or a parameter is not allowed; errors names each of them.",
        "Correct the named fields. Unknown fields and parameters are refused, never ignored.",
    ),
    Problem(
        "content_refused",
        422,
        "The text is refused",
        "The text holds a word that this deployment does not allow, or its own check refused it. Nothing was written.",
        "Write it differently.",
    ),
    Problem(
        "too_inaccurate",
        422,
        "Too inaccurate",
        "An accuracy worse than 600 m says too little; the earlier position stays.",
        "Wait for a better fix.",
    ),
    Problem(
        "idempotency_key_reused",
        422,
        "The Idempotency-Key was used for something else",
        "The same Idempotency-Key came with another payload within 24 hours.",
        "Use a new key for a new act.",
    ),
    Problem(
        "import_refused",
        422,
        "The import is refused",
        "A row is rejected and on_error is refuse; nothing was changed. rejected and warnings list the rows.",
        "Correct the rows, or send on_error=skip.",
    ),
    Problem(
        "quota_exceeded",
        429,
        "The quota is used up",
        "The quota of this act is used up until resets_at.",
        "Wait for the seconds in Retry-After.",
        retry_after_s=60,
    ),
    Problem(
        "too_many_places",
        429,
        "Asked from too many places today",
        "People around are shown to one person from at most 30 cells a day, until resets_at.",
        "Wait for the seconds in Retry-After, or go back to the cell asked from last.",
        retry_after_s=60,
    ),
    Problem(
        "too_many_friend_requests",
        429,
        "Too many friend requests today",
        "One person asks at most 20 others for a friendship a day. Accepting requests does not count.",
        "Wait for the seconds in Retry-After.",
        retry_after_s=60,
    ),
    Problem(
        "headers_too_large",
        431,
        "The headers are too large",
        "All headers together are limited to 16 KB.",
        "Send fewer or shorter headers.",
    ),
    Problem(
        "internal",
        500,
        "A fault of ours",
        "Something failed that should not. It is in the log under the request's X-Request-Id.",
        "Report the X-Request-Id to the operator.",
    ),
    Problem(
        "moderation_away",
        503,
        "The check of texts is not answering",
        "Texts are checked here before they are passed on, and the check gave no answer; nothing was changed.",
        "Repeat after the seconds in Retry-After.",
        retry_after_s=1,
    ),
    Problem(
        "state_away",
        503,
        "The state is not answering",
        "The service cannot reach its state, and answers nothing it cannot stand for. Nothing was changed.",
        "Repeat after the seconds in Retry-After.",
        retry_after_s=1,
    ),
    Problem(
        "outcome_unknown",
        503,
        "The outcome is not known",
        "The state stopped answering while it was writing: the change may or may not have happened.",
        "Repeat with the same Idempotency-Key, or read the thing again.",
        retry_after_s=1,
    ),
    Problem(
        "not_ready",
        503,
        "Not ready yet",
        "The worker is starting, reloading its state, or not sure to have heard of everyone who hides.",
        "Repeat after the seconds in Retry-After.",
        retry_after_s=1,
    ),
)

PROBLEMS: Mapping[str, Problem] = {row.code: row for row in _ROWS}
