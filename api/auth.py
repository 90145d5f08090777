"""Who calls: end users by a signed token, the operator and brands by a key.

Route authors use the three annotated types at the end of this module. Their guards run before anything of the body is
read; whatever is wrong with a credential, the answer is the same 401, which does not say which part it was.
"""

import hmac
import math
import re
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import jwt
from fastapi import Depends, Request

from .errors import Forbidden, Unauthorized
from .operator_keys import find_key
from .strict_json import guard

Age = Literal["adult", "minor"]
ID_PATTERN = r"[A-Za-z0-9][A-Za-z0-9._:@|=+-]{0,127}"
LEEWAY_S = 60
LIFETIME_MAX_S = 24 * 3600

_ID = re.compile(ID_PATTERN)
_TOKEN_MAX = 4096
_CACHE_SIZE = 8192
_BEARER = 'Bearer realm="nearhive"'
_KEY_PREFIXES = {"secret": "nh_sk_", "publishable": "nh_pk_"}
_SCOPES = (("/v1/app/", "app"), ("/v1/brands/", "brands"), ("/v1/moderation/", "moderation"))
API_KEY = 'ApiKey realm="nearhive", header="X-API-Key"'
# Headers that ask for another key, or for rules that we do not know (RFC 8725, 3.10; RFC 7515, 4.1.11).
_KEY_HEADERS = frozenset({"jku", "jwk", "x5u", "x5c", "crit", "b64"})
_CHECKS: Any = {
    "require": ["sub", "exp", "iat", "aud"],
    "verify_exp": False,  # the three times are checked here, by the injected clock
    "verify_iat": False,
    "verify_nbf": False,
}


@dataclass(frozen=True, slots=True)
class Caller:
    """An end user: ``user`` the app's id, ``age`` as the token states it, ``person`` the app's key of one human,
    ``issued_ms`` when the token was made."""

    user: str
    age: Age | None
    person: str | None
    issued_ms: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Operator:
    """Who holds an operator's key; ``key_id`` names it: ``admin``, or as in NEARHIVE_OPERATOR_KEYS."""

    key_id: str = "admin"


@dataclass(frozen=True, slots=True)
class BrandAccess:
    """The operator, or the brand by one of its keys; ``by_operator`` says which. ``key_id``: '' of the operator;
    ``publishable``: the key stands in a page, and everybody may read it there."""

    brand: str
    by_operator: bool
    key_id: str = ""
    publishable: bool = False


class TokenRefused(Exception):
    """A token that does not hold."""


class Tokens:
    """Checks HS256 tokens; ``clock`` gives seconds since 1970. A small LRU remembers tokens that held."""

    def __init__(self, secret: str, audience: str, issuer: str | None, clock: Callable[[], float]) -> None:
        self._secret = secret.encode()
        self._audience = audience
        self._issuer = issuer or None
        self._clock = clock
        self._seen: OrderedDict[str, tuple[Caller, float]] = OrderedDict()

    def caller(self, token: str) -> Caller:
        """The caller of ``token``; TokenRefused when anything at all is wrong with it."""
        now_s = self._clock()
        if (hit := self._seen.get(token)) is not None and now_s < hit[1] + LEEWAY_S:
            self._seen.move_to_end(token)
            return hit[0]
        caller, exp_s = self._check(token, now_s)
        self._seen[token] = caller, exp_s
        if len(self._seen) > _CACHE_SIZE:
            self._seen.popitem(last=False)
        return caller

    def _check(self, token: str, now_s: float) -> tuple[Caller, float]:
        if len(token) > _TOKEN_MAX:
            raise TokenRefused
        try:
            if _KEY_HEADERS & jwt.get_unverified_header(token).keys():
                raise TokenRefused
            claims = jwt.decode(
                token,
                self._secret,
                algorithms=["HS256"],
                audience=self._audience,
                issuer=self._issuer,
                options=_CHECKS,
            )
        except (jwt.InvalidTokenError, ValueError, TypeError, RecursionError) as error:
            raise TokenRefused from error
        return _caller_of(claims), _check_times(claims, now_s)


def _check_times(claims: Mapping[str, Any], now_s: float) -> float:
    exp_s, iat_s = _time(claims["exp"]), _time(claims["iat"])
    nbf_s = _time(claims.get("nbf", iat_s))
    live = now_s < exp_s + LEEWAY_S and exp_s <= now_s + LIFETIME_MAX_S + LEEWAY_S
    if not live or iat_s > now_s + LEEWAY_S or nbf_s > now_s + LEEWAY_S:
        raise TokenRefused
    return exp_s


def _time(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise TokenRefused
    return value


def _caller_of(claims: Mapping[str, Any]) -> Caller:
    user, age, person = claims["sub"], claims.get("age"), claims.get("person")
    if not isinstance(user, str) or _ID.fullmatch(user) is None:
        raise TokenRefused
    if "age" in claims and age not in ("adult", "minor"):
        raise TokenRefused
    if "person" in claims and (not isinstance(person, str) or _ID.fullmatch(person) is None):
        raise TokenRefused
    return Caller(user, age, person, int(1000 * _time(claims["iat"])))


def mint_token(
    secret: str,
    user: str,
    age: Age | None,
    ttl_s: int,
    now_s: float,
    *,
    audience: str = "nearhive",
    issuer: str | None = None,
) -> str:
    """A token for ``user``; ValueError when the service would refuse it (id pattern, more than 24 h)."""
    if _ID.fullmatch(user) is None:
        raise ValueError(f"a user id is {ID_PATTERN}")
    if not 1 <= ttl_s <= LIFETIME_MAX_S:
        raise ValueError("a token lives 1 to 86400 seconds")
    claims: dict[str, Any] = {"sub": user, "iat": int(now_s), "exp": int(now_s) + ttl_s, "aud": audience}
    claims |= {"age": age} if age else {}
    claims |= {"iss": issuer} if issuer else {}
    return jwt.encode(claims, secret.encode(), algorithm="HS256")


def _one_header(request: Request, name: str) -> str | None:
    """The header's value, None when absent, "" (which never holds) when given more than once."""
    values = request.headers.getlist(name)
    return None if not values else values[0] if len(values) == 1 else ""


def _operator_of(request: Request, key: str) -> Operator | None:
    """Who holds ``key``; None when it is no operator's. Forbidden for one whose scopes leave this route out."""
    expected: bytes = request.app.state.settings.admin_key.get_secret_value().encode()
    if hmac.compare_digest(key.encode("latin-1"), expected):
        return Operator()
    found = find_key(request.app.state.operator_keys, key)
    if found is None:
        return None
    scope = next((scope for path, scope in _SCOPES if request.scope["path"].startswith(path)), None)
    if scope is not None and scope not in found.scopes:
        raise Forbidden(f"This route takes an operator's key with the scope {scope}.")
    return Operator(found.name)


def _key(request: Request) -> str:
    key = _one_header(request, "x-api-key")
    if key is not None:
        return key
    if "authorization" in request.headers:
        raise Forbidden("This route takes X-API-Key, not an end user's token.")
    raise Unauthorized(API_KEY)


async def _current_user(request: Request) -> Caller:
    """The end user of the Bearer token: 401 when missing or not valid, 403 when a key came instead."""
    header = _one_header(request, "authorization")
    if header is None:
        if "x-api-key" in request.headers:
            raise Forbidden("This route takes an end user's token, not X-API-Key.")
        raise Unauthorized(_BEARER)
    scheme, _, token = header.partition(" ")
    if scheme.lower() != "bearer":
        raise Unauthorized(_BEARER)
    try:
        tokens: Tokens = request.app.state.tokens
        return tokens.caller(token.strip())
    except TokenRefused:
        raise Unauthorized(_BEARER) from None


async def _operator(request: Request) -> Operator:
    """The operator: 401 without the key, 403 for a brand's key or an end user's token."""
    key = _key(request)
    found = _operator_of(request, key)
    if found is not None:
        return found
    if key.startswith(("nh_sk_", "nh_pk_")):
        raise Forbidden("This route takes the operator's key, not a brand's.")
    raise Unauthorized(API_KEY)


async def _brand_access(request: Request) -> BrandAccess:
    """The operator, or the secret key of the brand in the path (``{brand}``)."""
    key, brand = _key(request), request.path_params["brand"]
    if _operator_of(request, key) is not None:
        return BrandAccess(brand, by_operator=True)
    key_id, _ = await brand_key(request, brand, key, "secret")
    return BrandAccess(brand, by_operator=False, key_id=key_id)


async def brand_key(request: Request, brand: str, key: str, kind: str) -> tuple[str, Any]:
    """Id and ``BrandKey`` of a live key of that kind, the request counted. Raises ``Unauthorized``, ``QuotaExceeded``.

    Before a no, one look into the state: another worker may have made the key a moment ago.
    """
    stores: Any = request.app.state.hive.stores
    if not key.startswith(_KEY_PREFIXES[kind]) or _ID.fullmatch(brand) is None:
        raise Unauthorized(API_KEY)
    found = stores.catalogue.find_key(brand, key, kind)
    if found is None:
        await stores.look_again(brand)
        found = stores.catalogue.find_key(brand, key, kind)
    if found is None:
        raise Unauthorized(API_KEY)
    key_id, known = found
    stores.usage.charge(brand, key_id, known.quota_per_day)
    return key_id, known


current_user = guard(_current_user)
operator = guard(_operator)
brand_access = guard(_brand_access)


def caller_of(request: Request) -> Caller | None:
    """The end user whom :func:`current_user` found behind this request, if the route takes one."""
    done: dict[Any, Any] = request.scope.get("nearhive.guards", {})
    found: Caller | None = done.get(current_user)
    return found


CurrentUser = Annotated[Caller, Depends(current_user)]
OperatorOnly = Annotated[Operator, Depends(operator)]
BrandAdmin = Annotated[BrandAccess, Depends(brand_access)]
