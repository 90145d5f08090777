"""The command line's side of HTTP: one request with the operator key, and failures as one clear line."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2 as httpx

from api.failed import Failed
from api.settings import PREFIX, read_settings

# An import is answered when all of it is in: 512 MB take minutes to check.
_TIMEOUT = httpx.Timeout(30.0, connect=5.0, write=120.0, read=1800.0)
_LOOPBACK = {"127.0.0.1", "localhost", "::1"}


class OperatorClient:
    """Calls the service at ``url`` with the operator key."""

    def __init__(self, url: str, key: str) -> None:
        self.url = url.rstrip("/")
        self._key = key

    def call(
        self,
        method: str,
        path: str,
        *,
        body: object = None,
        content: Iterator[bytes] | None = None,
        media_type: str = "",
        query: dict[str, str] | None = None,
    ) -> Any:
        """The JSON answer, None where there is none. Raises Failed for everything else."""
        headers = {"X-API-Key": self._key, **({"Content-Type": media_type} if media_type else {})}
        here = urlsplit(self.url).hostname in _LOOPBACK  # a proxy of the environment cannot reach our own machine
        try:
            with httpx.Client(timeout=_TIMEOUT, trust_env=not here) as client:
                address = self.url + path
                answer = client.request(method, address, headers=headers, json=body, content=content, params=query)
        except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
            raise Failed(_unreachable(self.url, error)) from None
        if answer.is_success:
            return answer.json() if answer.content else None
        raise _refused(answer)

    def post_csv(self, path: str, content: bytes, query: dict[str, str]) -> bytes:
        """The answer to a CSV, as it is. Raises Failed."""
        headers = {"X-API-Key": self._key, "Content-Type": "text/csv", "Accept": "text/csv"}
        here = urlsplit(self.url).hostname in _LOOPBACK
        try:
            with httpx.Client(timeout=_TIMEOUT, trust_env=not here) as client:
                answer = client.post(self.url + path, headers=headers, content=content, params=query)
        except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
            raise Failed(_unreachable(self.url, error)) from None
        if answer.is_success:
            return answer.content
        raise _refused(answer)

    def download(self, path: str, query: dict[str, str]) -> Iterator[bytes]:
        """The body of an answer, as it comes. Raises Failed for a refusal, and when it breaks off."""
        here = urlsplit(self.url).hostname in _LOOPBACK
        try:
            with (
                httpx.Client(timeout=_TIMEOUT, trust_env=not here) as client,
                client.stream("GET", self.url + path, headers={"X-API-Key": self._key}, params=query) as answer,
            ):
                if not answer.is_success:
                    answer.read()
                    raise _refused(answer)
                yield from answer.iter_bytes()
        except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
            raise Failed(_unreachable(self.url, error)) from None


def operator_key(given: str) -> str:
    """``given``, else NEARHIVE_ADMIN_KEY, else the one that the service made in its data directory. Raises Failed."""
    if given:
        return given
    settings = read_settings()
    if settings.admin_key is not None:
        return settings.admin_key.get_secret_value()
    kept = Path(settings.data_dir) / "secrets" / "admin_key"
    try:
        return kept.read_text("utf-8").strip()
    except OSError:
        raise Failed(
            f"no operator key: give --admin-key or {PREFIX}ADMIN_KEY, or run where {kept} is (set {PREFIX}DATA_DIR)"
        ) from None


def _unreachable(url: str, error: Exception) -> str:
    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
        return f"nothing answers at {url}: is `nearhive serve` running there? (--url names another place)"
    if isinstance(error, httpx.TimeoutException):
        return f"{url} did not answer in time"
    return f"{url}: {error or type(error).__name__}"


def _refused(answer: httpx.Response) -> Failed:
    try:
        problem = answer.json()
        title = problem["title"]
    except (ValueError, KeyError, TypeError):
        return Failed(f"{answer.status_code} {answer.reason_phrase}: not an answer of Nearhive")
    parts = [title, problem.get("detail", ""), *(_field(row) for row in problem.get("errors") or ())]
    return Failed(": ".join(dict.fromkeys(part.rstrip(".") for part in parts if part)), problem)


def _field(row: dict[str, str]) -> str:
    return f"{row['field']}: {row['message']}" if row.get("field") else row["message"]
