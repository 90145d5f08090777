"""What the tests of the HTTP skeleton share: settings without files, an application, a client."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx2
from fastapi import FastAPI
from pydantic import SecretStr

from api.auth import mint_token
from api.main import create_app
from api.settings import Settings
from discovery.stores.catalogue import BrandKey

SECRET = "a-secret-of-the-tests-that-is-long-enough"
ADMIN_KEY = "an-operator-key-of-the-tests-long-enough"
NOW_S = 1_800_000_000.0


class ReadyHive:
    """Only what /readyz, /metrics and brand keys ask."""

    def __init__(self) -> None:
        self.state = (True, "")
        self.lag = 0.2
        self.stores = self.catalogue = self.usage = self
        self.moderation = self

    async def backlog(self) -> tuple[int, int]:
        return 2, 90

    def ready(self) -> tuple[bool, str]:
        return self.state

    def lag_s(self) -> float:
        return self.lag

    def find_key(self, brand: str, key: str, kind: str) -> tuple[str, BrandKey] | None:
        known = (brand, key, kind) == ("acme", "nh_sk_acme", "secret")
        return ("k_1", BrandKey(kind, b"")) if known else None

    def charge(self, brand: str, key_id: str, quota: int | None) -> None:
        """No quota."""

    async def look_again(self, brand: str) -> None:
        """Nothing newer is stored."""


def settings(**changes: Any) -> Settings:
    """Settings with secrets, independent of the environment and of any file."""
    secrets = {
        "jwt_secret": SecretStr(SECRET),
        "admin_key": SecretStr(ADMIN_KEY),
        "privacy_secret": SecretStr("a-privacy-secret-of-the-tests-long-enough"),
    }
    return Settings().model_copy(update={**secrets, **changes})


def app_with(add: Callable[[FastAPI], None] | None = None, **changes: Any) -> FastAPI:
    """The public application at NOW_S; ``add`` may add routes for a test."""
    app = create_app(ReadyHive(), settings(**changes), clock=lambda: NOW_S)
    if add is not None:
        add(app)
    return app


@asynccontextmanager
async def client(app: Any) -> AsyncIterator[httpx2.AsyncClient]:
    """A client of ``app`` without a network; faults of the application are answers, not exceptions."""
    transport = httpx2.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx2.AsyncClient(transport=transport, base_url="http://test") as one:
        yield one


def bearer(user: str = "ann", **changes: Any) -> dict[str, str]:
    """The header of a valid token."""
    return {"Authorization": f"Bearer {mint_token(SECRET, user, 'adult', 3600, NOW_S, **changes)}"}
