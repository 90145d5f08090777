"""Answers that a cache may keep: with an ETag of their bytes, and 304 for who has them."""

import hashlib

from fastapi import Request
from starlette.responses import Response

KEEP_AND_ASK = "private, no-cache"
"""The caller keeps it and asks each time whether it changed."""


def etagged(request: Request, body: bytes, media_type: str, cache_control: str = KEEP_AND_ASK) -> Response:
    """The answer, or 304 without a body when ``If-None-Match`` names what it would be (RFC 9110, 13.1.2)."""
    tag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    headers = {"ETag": tag, "Cache-Control": cache_control, "Vary": "X-API-Key"}
    given = request.headers.get("if-none-match", "")
    named = {one.strip().removeprefix("W/") for one in given.split(",")}
    if tag in named or given.strip() == "*":
        return Response(status_code=304, headers=headers)
    return Response(body, media_type=media_type, headers=headers)
