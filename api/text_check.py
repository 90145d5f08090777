"""Texts on their way to other people: the word list, then the deployment's own service by HTTP, both before any write.

The hook is sent ``{"kind", "text", "language", "id"}``; ``id`` is a keyed hash of who wrote it, so that their texts can
be told to belong together, and no more. ``X-Nearhive-Timestamp`` and ``X-Nearhive-Signature`` (HMAC-SHA256, hex, of the
timestamp, a dot and the body) say that it comes from here. It answers 200 with ``{"allow": true|false, "reason"?}``
within the deadline; anything else is no answer, and ``NEARHIVE_MODERATION_ON_FAILURE`` says what then.
"""

import asyncio
import hmac
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import httpx2 as httpx
import orjson
import structlog

from api.settings import Settings
from discovery.errors import ContentRefused, ModerationAway
from discovery.sealed import Sealer
from discovery.words import DEFAULT, WordList

Kind = Literal["bottle", "reply"]
log = structlog.get_logger("nearhive.text_check")

_ANSWER_MAX = 4096  # bytes
_REASON = re.compile(r"[a-z0-9_]{1,40}")


class TextCheck:
    """Judges texts. ``transport`` is for tests; ``clock`` gives seconds since 1970, for the signature."""

    def __init__(
        self,
        settings: Settings,
        sealer: Sealer,
        clock: Callable[[], float] = time.time,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        """OSError or ValueError when the word list cannot be read."""
        self._settings = settings
        self._sealer = sealer
        self._clock = clock
        self._transport = transport
        self._words = _word_list(settings.word_list)
        self._client: httpx.AsyncClient | None = None

    async def require_allowed(self, kind: Kind, user: str, text: str, language: str | None) -> None:
        """Raises ContentRefused, ModerationAway."""
        if self._words.refuses(text):
            raise ContentRefused("the text holds a word that is not allowed here", field="text")
        if self._settings.moderation_url:
            await self._ask(kind, user, text, language)

    async def close(self) -> None:
        """End the connections to the hook."""
        if self._client is not None:
            await self._client.aclose()

    async def _ask(self, kind: Kind, user: str, text: str, language: str | None) -> None:
        body = {"kind": kind, "text": text, "language": language, "id": self._sealer.id128("text check", user)}
        try:
            async with asyncio.timeout(self._settings.moderation_deadline_s):
                verdict = await self._post(orjson.dumps(body))
        except (TimeoutError, httpx.HTTPError, ValueError) as error:
            log.warning("moderation_hook", error=type(error).__name__)
            if self._settings.moderation_on_failure == "refuse":
                raise ModerationAway from None
            return
        if not verdict["allow"]:
            reason = verdict.get("reason")
            known = isinstance(reason, str) and _REASON.fullmatch(reason) is not None
            raise ContentRefused(f"the text is refused: {reason}" if known else "the text is refused", field="text")

    async def _post(self, body: bytes) -> dict[str, Any]:
        """The verdict. ValueError when the answer is none."""
        if self._client is None:
            self._client = httpx.AsyncClient(transport=self._transport, trust_env=False, follow_redirects=False)
        url, headers = self._settings.moderation_url, self._signed(body)
        async with self._client.stream("POST", url, content=body, headers=headers) as answer:
            raw = b""
            async for chunk in answer.aiter_bytes():
                raw += chunk
                if len(raw) > _ANSWER_MAX:
                    raise ValueError("the answer is too long")
        verdict = orjson.loads(raw) if answer.status_code == 200 else None
        if not isinstance(verdict, dict) or not isinstance(verdict.get("allow"), bool):
            raise ValueError("no verdict")
        return verdict

    def _signed(self, body: bytes) -> dict[str, str]:
        assert self._settings.moderation_secret is not None, "settings check that it comes with the URL"
        stamp = str(int(self._clock()))
        key = self._settings.moderation_secret.get_secret_value().encode()
        signature = hmac.digest(key, f"{stamp}.".encode() + body, "sha256").hex()
        return {
            "Content-Type": "application/json",
            "X-Nearhive-Timestamp": stamp,
            "X-Nearhive-Signature": signature,
        }


def _word_list(path: str) -> WordList:
    if path.lower() == "off":
        return WordList(())
    return WordList.read(Path(path) if path else DEFAULT)
