"""Credentials: the corpus of forged tokens, kinds of keys, and who may call what."""

import base64
import hmac
import json
import time
from typing import Any

import httpx2
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from fastapi import APIRouter, FastAPI
from starlette.responses import Response

from api import auth
from api.auth import BrandAdmin, CurrentUser, OperatorOnly, TokenRefused, Tokens, mint_token
from api.dependencies import BrandPath, answer
from api.strict_json import StrictRoute

from .skeleton import ADMIN_KEY, NOW_S, SECRET, app_with, bearer, client

NOW = int(NOW_S)
GOOD = {"sub": "ann", "iat": NOW, "exp": NOW + 3600, "aud": "nearhive"}

router = APIRouter(route_class=StrictRoute)


@router.get("/v1/me")
async def me(caller: CurrentUser) -> Response:
    return answer({"user": caller.user, "age": caller.age, "person": caller.person})


@router.get("/v1/app/x")
async def app_x(_operator: OperatorOnly) -> Response:
    return answer({})


@router.get("/v1/brands/{brand}/x")
async def brand_x(access: BrandAdmin, brand: BrandPath) -> Response:
    return answer({"brand": brand, "by_operator": access.by_operator})


def _add(app: FastAPI) -> None:
    app.router.routes.extend(router.routes)


APP = app_with(_add)


def encoded(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def sign_raw(payload: bytes, key: str = SECRET, **headers: Any) -> str:
    """HS256 by hand, without the checks of any library."""
    signed = f"{part({'alg': 'HS256', 'typ': 'JWT', **headers})}.{encoded(payload)}"
    return f"{signed}.{encoded(hmac.digest(key.encode(), signed.encode(), 'sha256'))}"


def sign(claims: dict[str, Any], key: str = SECRET, **headers: Any) -> str:
    return sign_raw(json.dumps(claims).encode(), key, **headers)


def without(name: str) -> dict[str, Any]:
    return {key: value for key, value in GOOD.items() if key != name}


def part(value: object) -> str:
    return encoded(json.dumps(value).encode())


def rs256_signed_with_hmac() -> str:
    """The algorithm confusion attack: an RS256 header over an HMAC of the shared secret."""
    good = sign(GOOD)
    return f"{part({'alg': 'RS256', 'typ': 'JWT'})}.{'.'.join(good.split('.')[1:])}"


def rs256() -> str:
    return jwt.encode(GOOD, rsa.generate_private_key(65537, 2048), algorithm="RS256")


def tampered() -> str:
    head, _, signature = sign(GOOD).split(".")
    return f"{head}.{part({**GOOD, 'sub': 'bob'})}.{signature}"


FORGED: dict[str, Any] = {
    "alg none": f"{part({'alg': 'none', 'typ': 'JWT'})}.{part(GOOD)}.",
    "alg None, no signature": f"{part({'alg': 'None', 'typ': 'JWT'})}.{part(GOOD)}.",
    "alg NONE, our signature": f"{part({'alg': 'NONE'})}.{'.'.join(sign(GOOD).split('.')[1:])}",
    "no alg": f"{part({'typ': 'JWT'})}.{'.'.join(sign(GOOD).split('.')[1:])}",
    "HS512": jwt.encode(GOOD, SECRET.ljust(64, "x"), algorithm="HS512"),
    "HS512 with our key": f"{part({'alg': 'HS512'})}.{'.'.join(sign(GOOD).split('.')[1:])}",
    "RS256 header with HMAC": rs256_signed_with_hmac(),
    "RS256": rs256(),
    "wrong key": sign(GOOD, "another-key-that-is-long-enough-too!!"),
    "tampered claims": tampered(),
    "signature cut": sign(GOOD)[:-2],
    "no signature": sign(GOOD).rsplit(".", 1)[0] + ".",
    "wrong aud": sign({**GOOD, "aud": "other"}),
    "aud list without us": sign({**GOOD, "aud": ["other", "nearhive2"]}),
    "aud number": sign({**GOOD, "aud": 7}),
    "expired": sign({**GOOD, "iat": NOW - 7200, "exp": NOW - 61}),
    "exp 25 h ahead": sign({**GOOD, "exp": NOW + 25 * 3600}),
    "exp far ahead": sign({**GOOD, "exp": 10**18}),
    "exp text": sign({**GOOD, "exp": str(NOW + 60)}),
    "exp bool": sign({**GOOD, "exp": True}),
    "exp null": sign({**GOOD, "exp": None}),
    "exp NaN": sign({**GOOD, "exp": float("nan")}),
    "iat ahead": sign({**GOOD, "iat": NOW + 120}),
    "nbf ahead": sign({**GOOD, "nbf": NOW + 120}),
    "nbf text": sign({**GOOD, "nbf": "now"}),
    "no sub": sign(without("sub")),
    "no exp": sign(without("exp")),
    "no iat": sign(without("iat")),
    "no aud": sign(without("aud")),
    "sub empty": sign({**GOOD, "sub": ""}),
    "sub number": sign({**GOOD, "sub": 7}),
    "sub list": sign({**GOOD, "sub": ["ann"]}),
    "sub with slash": sign({**GOOD, "sub": "a/b"}),
    "sub with newline": sign({**GOOD, "sub": "ann\n"}),
    "sub with null": sign({**GOOD, "sub": "ann\x00"}),
    "sub not ASCII": sign({**GOOD, "sub": "añn"}),
    "sub starts with dot": sign({**GOOD, "sub": ".ann"}),
    "sub too long": sign({**GOOD, "sub": "a" * 129}),
    "age unknown": sign({**GOOD, "age": "Adult"}),
    "age number": sign({**GOOD, "age": 18}),
    "age null": sign({**GOOD, "age": None}),
    "person bad": sign({**GOOD, "person": "a b"}),
    "person number": sign({**GOOD, "person": 5}),
    "jku": sign(GOOD, jku="https://evil.example/keys"),
    "x5u": sign(GOOD, x5u="https://evil.example/cert"),
    "jwk in header": sign(GOOD, jwk={"kty": "oct", "k": "AAAA"}),
    "crit": sign(GOOD, crit=["exp"]),
    "kid of a file": sign(GOOD, "", kid="../../../../dev/null"),
    "kid with injection": sign(GOOD, "x" * 32, kid="' UNION SELECT 'x"),
    "jku and kid, their key": sign(GOOD, "their-key-that-is-long-enough-for-it!", jku="https://evil.example", kid="1"),
    "not a JWT": "not-a-jwt",
    "two dots": "..",
    "five parts": "a.b.c.d.e",
    "not base64": "!!!.???.***",
    "claims not an object": sign_raw(b'["ann"]'),
    "claims not JSON": sign_raw(b"\xff\xfe"),
    "too long": sign({**GOOD, "x": "y" * 5000}),
    "empty": "",
    "the secret itself": SECRET,
    "the operator's key": ADMIN_KEY,
}


def refused(response: httpx2.Response) -> dict[str, Any]:
    assert response.status_code == 401
    assert response.headers["www-authenticate"]
    body: dict[str, Any] = response.json()
    assert body["code"] == "unauthorized"
    return body


@pytest.mark.parametrize("name", FORGED)
async def test_no_forged_token_is_accepted_and_all_answers_are_alike(name: str) -> None:
    async with client(APP) as one:
        plain = refused(await one.get("/v1/me"))
        assert refused(await one.get("/v1/me", headers={"Authorization": f"Bearer {FORGED[name]}"})) == plain


@pytest.mark.parametrize(
    "header", ["", "Bearer", "Bearer ", "Basic YTpi", "Token {}", "{}", "Bearer {} x", "Bearer {},", "Bearer\t{}"]
)
async def test_other_forms_of_the_header_are_refused(header: str) -> None:
    async with client(APP) as one:
        refused(await one.get("/v1/me", headers={"Authorization": header.format(sign(GOOD))}))


async def test_two_credentials_are_none() -> None:
    async with client(APP) as one:
        twice = [("Authorization", f"Bearer {sign(GOOD)}"), ("Authorization", f"Bearer {sign(GOOD)}")]
        refused(await one.get("/v1/me", headers=twice))
        refused(await one.get("/v1/app/x", headers=[("X-API-Key", ADMIN_KEY), ("X-API-Key", "x")]))


@pytest.mark.parametrize(
    ("claims", "answered"),
    [
        (GOOD, {"user": "ann", "age": None, "person": None}),
        ({**GOOD, "age": "minor", "person": "p-1"}, {"user": "ann", "age": "minor", "person": "p-1"}),
        ({**GOOD, "age": "adult", "aud": ["x", "nearhive"]}, {"user": "ann", "age": "adult", "person": None}),
        ({**GOOD, "exp": NOW + 24 * 3600, "nbf": NOW, "iat": NOW + 30}, {"user": "ann", "age": None, "person": None}),
        ({**GOOD, "exp": NOW - 30, "iat": NOW - 90}, {"user": "ann", "age": None, "person": None}),
        ({**GOOD, "sub": "A:b@c|d=e+f-g._" + "x" * 113, "iss": "whoever"}, None),
    ],
)
async def test_good_tokens(claims: dict[str, Any], answered: dict[str, Any] | None) -> None:
    async with client(APP) as one:
        response = await one.get("/v1/me", headers={"Authorization": f"bearer {sign(claims)}"})
        assert response.status_code == 200
        assert answered is None or response.json() == answered


async def test_a_kid_is_ignored() -> None:
    """Some issuers name even a shared key; only one key is ever tried."""
    async with client(APP) as one:
        headers = {"Authorization": f"Bearer {sign(GOOD, kid='main')}"}
        assert (await one.get("/v1/me", headers=headers)).status_code == 200


async def test_issuer_is_checked_when_set() -> None:
    app = app_with(_add, jwt_issuer="https://app.example")
    async with client(app) as one:
        for claims in (GOOD, {**GOOD, "iss": "https://app.example/"}, {**GOOD, "iss": ["https://app.example"]}):
            refused(await one.get("/v1/me", headers={"Authorization": f"Bearer {sign(claims)}"}))
        good = {**GOOD, "iss": "https://app.example"}
        assert (await one.get("/v1/me", headers={"Authorization": f"Bearer {sign(good)}"})).status_code == 200


def test_a_remembered_token_expires() -> None:
    now = [NOW_S]
    tokens = Tokens(SECRET, "nearhive", None, lambda: now[0])
    token = sign({**GOOD, "exp": NOW + 10})
    assert tokens.caller(token) is tokens.caller(token)
    now[0] += 10 + auth.LEEWAY_S
    with pytest.raises(TokenRefused):
        tokens.caller(token)


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auth, "_CACHE_SIZE", 3)
    tokens = Tokens(SECRET, "nearhive", None, lambda: NOW_S)
    for number in range(10):
        assert tokens.caller(sign({**GOOD, "sub": f"u{number}"})).user == f"u{number}"
    assert len(tokens._seen) == 3


def test_minted_tokens_hold_and_bad_ones_are_not_minted() -> None:
    tokens = Tokens(SECRET, "a", "i", lambda: NOW_S)
    token = mint_token(SECRET, "ann", "minor", 86_400, NOW_S, audience="a", issuer="i")
    assert tokens.caller(token) == auth.Caller("ann", "minor", None)
    assert Tokens(SECRET, "nearhive", None, time.time).caller(mint_token(SECRET, "b", None, 9, time.time())).age is None
    for user, ttl_s in (("a b", 60), ("", 60), ("ann", 0), ("ann", 86_401)):
        with pytest.raises(ValueError, match=r"."):
            mint_token(SECRET, user, None, ttl_s, NOW_S)


KEYS = {"X-API-Key": ADMIN_KEY}
BRAND = {"X-API-Key": "nh_sk_acme"}


@pytest.mark.parametrize(
    ("path", "headers", "status", "code"),
    [
        ("/v1/me", {}, 401, "unauthorized"),
        ("/v1/me", KEYS, 403, "forbidden"),
        ("/v1/me", BRAND, 403, "forbidden"),
        ("/v1/app/x", {}, 401, "unauthorized"),
        ("/v1/app/x", {"X-API-Key": ""}, 401, "unauthorized"),
        ("/v1/app/x", {"X-API-Key": ADMIN_KEY[:-1]}, 401, "unauthorized"),
        ("/v1/app/x", {"X-API-Key": ADMIN_KEY.upper()}, 401, "unauthorized"),
        ("/v1/app/x", BRAND, 403, "forbidden"),
        ("/v1/app/x", bearer(), 403, "forbidden"),
        ("/v1/brands/acme/x", {}, 401, "unauthorized"),
        ("/v1/brands/acme/x", {"X-API-Key": "nh_sk_other"}, 401, "unauthorized"),
        ("/v1/brands/other/x", BRAND, 401, "unauthorized"),
        ("/v1/brands/acme/x", {"X-API-Key": "nh_pk_acme"}, 401, "unauthorized"),
        ("/v1/brands/acme/x", bearer(), 403, "forbidden"),
    ],
)
async def test_wrong_credentials(path: str, headers: dict[str, str], status: int, code: str) -> None:
    async with client(APP) as one:
        response = await one.get(path, headers=headers)
    assert (response.status_code, response.json()["code"]) == (status, code)
    assert ("www-authenticate" in response.headers) == (status == 401)


async def test_right_keys() -> None:
    async with client(APP) as one:
        assert (await one.get("/v1/app/x", headers=KEYS)).status_code == 200
        assert (await one.get("/v1/brands/acme/x", headers=BRAND)).json() == {"brand": "acme", "by_operator": False}
        assert (await one.get("/v1/brands/other/x", headers=KEYS)).json() == {"brand": "other", "by_operator": True}
        assert (await one.get("/v1/brands/-/x", headers=BRAND)).status_code == 401


async def test_the_schema_says_who_may_call() -> None:
    paths = APP.openapi()["paths"]
    assert paths["/v1/me"]["get"]["security"] == [{"user_token": []}]
    assert paths["/v1/app/x"]["get"]["security"] == [{"operator_key": []}]
    assert paths["/v1/brands/{brand}/x"]["get"]["security"] == [{"brand_or_operator_key": []}]
