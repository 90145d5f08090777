"""``nearhive``: the command line. Imports that a command does not need are not made, so that each starts fast."""

import contextlib
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn

import typer

from api.cli_options import FAILED, HERE, REFUSED, AdminKey, BrandName, Url, brand_path, client_of
from api.state_cli import state_app
from api.stores_cli import stores_app

if TYPE_CHECKING:
    from api.settings import Settings
    from api.supervisor import DemoContext, Running, WorkerContext

_WIDTH = 100
_PATIENCE_S = 2.0  # loading compiled kernels takes less

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Nearhive: shake, radar, drift bottle and a store finder. Settings are NEARHIVE_… variables.",
)
brand_app = typer.Typer(no_args_is_help=True, help="Brands and their keys.")
app.add_typer(brand_app, name="brand")
app.add_typer(stores_app, name="stores")
app.add_typer(state_app, name="state")


def main() -> None:
    """Entry point."""
    from api.failed import Failed
    from api.settings import BadSettings

    try:
        app(prog_name="nearhive")
    except Failed as failure:
        _end(str(failure), FAILED)
    except BadSettings as bad:
        _end("\nnearhive: ".join(bad.lines), REFUSED)


def _end(message: str, status: int) -> NoReturn:
    print(f"nearhive: {message}", file=sys.stderr)
    sys.exit(status)


# --- serve ---


@app.command()
def serve(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")] = 8000,
    workers: Annotated[
        int | None, typer.Option(min=1, max=256, help="Worker processes; else NEARHIVE_WORKERS.")
    ] = None,
    demo: Annotated[bool, typer.Option("--demo", help="Serve a living, simulated world.")] = False,
) -> None:
    """Serve until Ctrl-C, with the embedded state server unless NEARHIVE_STATE_URL names one."""
    from tempfile import TemporaryDirectory

    from api.metrics import share_between_processes

    settings = _serve_settings(workers, demo)
    with TemporaryDirectory(prefix="nearhive-metrics-") as directory:
        share_between_processes(Path(directory))
        status = _serve(settings, host, port, demo)
    sys.exit(status)


def _serve_settings(workers: int | None, demo: bool) -> "Settings":
    from api import logs
    from api.settings import PREFIX, load_settings, unknown_variables
    from geo.declared import DECLARED_EPOCH_S

    overrides: dict[str, Any] = {} if workers is None else {"workers": workers}
    if demo and not os.environ.get(f"{PREFIX}LOG_LEVEL"):
        overrides["log_level"] = "warning"  # a line a request would bury what the demo prints to be tried
    if demo and not os.environ.get(f"{PREFIX}SPEED_LIMIT"):
        overrides["speed_limit"] = False  # who tries it jumps about
    if demo and not os.environ.get(f"{PREFIX}EXPOSURE_CAPS"):
        overrides["exposure_caps"] = False  # and looks every few seconds, in epochs of half a minute
    settings = load_settings(**overrides)
    if not demo and settings.epoch_s < DECLARED_EPOCH_S:
        _say(
            f"{PREFIX}EPOCH_S is {settings.epoch_s}: below {DECLARED_EPOCH_S} people who move can be followed more "
            "finely (GET /v1/privacy has the figures)"
        )
    for name in unknown_variables():
        _say(f"{name} is no setting of Nearhive and has no effect (`nearhive settings` lists them)")
    logs.configure(settings.log_level, settings.log_format)
    return settings


def _serve(settings: "Settings", host: str, port: int, demo: bool) -> int:
    from functools import partial

    from api.supervisor import serve as supervise

    plan = _plan(settings, host, port, demo)
    run = f"{os.getpid()}-{time.time_ns():x}" if demo else ""
    if demo:
        _say("building the demo world: progress follows, then what to try")
    on_ready = partial(_announce_demo, settings, host) if demo else partial(_announce, host)
    live_demo, prepare = partial(_live_demo, settings, run), partial(_prepare, settings)
    return supervise(plan, partial(_work, settings, run), live_demo, on_ready, prepare)


def _prepare(settings: "Settings") -> None:
    """Import and load once what every child needs: forked children share it."""
    _load_kernels()
    import api.demo.run
    import api.worker  # noqa: F401
    from api.sparse_areas import load_sparse_areas

    if settings.sparse_areas:
        load_sparse_areas(settings.data_dir)


def _work(settings: "Settings", run: str, context: "WorkerContext") -> None:
    from api.worker import worker_main

    worker_main(settings, run, context)


def _live_demo(settings: "Settings", run: str, context: "DemoContext") -> None:
    from api.demo.run import demo_main

    demo_main(settings, run, context)


def _plan(settings: "Settings", host: str, port: int, demo: bool) -> Any:
    from api.supervisor import Plan

    try:
        admin_host, admin_port = settings.admin_address(port)
    except ValueError as error:
        _end(str(error), REFUSED)
    return Plan(
        host=host,
        port=port,
        workers=settings.workers,
        admin_host=admin_host,
        admin_port=0 if port == 0 and not settings.admin_bind else admin_port,
        data_dir=settings.data_dir,
        state_url=settings.state_url,
        valkey_bin=str(settings.valkey_bin or ""),
        epoch_ms=1000 * settings.epoch_s,
        demo=demo,
        durability_weak=settings.durability == "weak",
    )


def _load_kernels() -> None:
    from geo.warm import compile_kernels

    started_s = time.monotonic()

    def progress(module: str, done: int, total: int) -> None:
        if module and time.monotonic() - started_s > _PATIENCE_S:
            _say(f"kernels: {done} of {total} ready, now {module} (they are compiled at the first start only)")

    with _scipy_hidden():
        compile_kernels(progress)


@contextlib.contextmanager
def _scipy_hidden() -> Iterator[None]:
    """Numba looks for SciPy's BLAS with its first kernel: 0.3 s of a start, and no kernel here does linear algebra."""
    hide = "scipy" not in sys.modules
    if hide:
        sys.modules["scipy"] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        if hide:
            del sys.modules["scipy"]


def _announce(host: str, running: "Running") -> None:
    print(f"Nearhive is ready at {_url(host, running.public_port)}", flush=True)


def _announce_demo(settings: "Settings", host: str, running: "Running") -> None:
    from api.demo.announce import TOKEN_TTL_S, announcement
    from api.demo.population import YOU
    from api.demo.run import brand_key, key_file

    token = _token(settings, YOU, "adult", TOKEN_TTL_S)
    print(announcement(_url(host, running.public_port), token, brand_key(key_file(settings)) or ""), flush=True)


def _url(host: str, port: int) -> str:
    shown = {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
    return f"http://{shown}:{port}"


def _say(line: str) -> None:
    print(f"nearhive: {line}", file=sys.stderr, flush=True)


# --- token, settings ---


@app.command()
def token(
    user: Annotated[str, typer.Argument(metavar="USER", help="The app's id of the person.")],
    minor: Annotated[bool, typer.Option("--minor", help="State that the person is a minor; else an adult.")] = False,
    ttl_s: Annotated[int, typer.Option("--ttl-s", min=1, max=86_400, help="Seconds that the token lives.")] = 43_200,
) -> None:
    """Print a token of USER, as the app's backend would sign it."""
    from api.settings import load_settings

    try:
        print(_token(load_settings(), user, "minor" if minor else "adult", ttl_s))
    except ValueError as error:
        _end(f"USER: {error}", REFUSED)


def _token(settings: "Settings", user: str, age: Literal["adult", "minor"], ttl_s: int) -> str:
    from api.auth import mint_token

    assert settings.jwt_secret is not None
    secret = settings.jwt_secret.get_secret_value()
    audience, issuer = settings.jwt_audience, settings.jwt_issuer or None
    return mint_token(secret, user, age, ttl_s, time.time(), audience=audience, issuer=issuer)


@app.command()
def settings() -> None:
    """List all settings: variable, value, meaning. Secrets are not shown."""
    import textwrap

    from api.settings import SECRETS, describe, read_settings

    known = read_settings()
    for name, row in zip(type(known).model_fields, describe(), strict=True):
        value = getattr(known, name)
        secret = name in SECRETS
        shown = ("(set)" if value else row.default) if secret else _shown(value, row.default)
        changed = "" if secret or shown == row.default else f"   (default: {row.default or 'empty'})"
        print(f"{row.name} = {shown}{changed}")
        print(textwrap.fill(row.description, _WIDTH, initial_indent="    ", subsequent_indent="    "))


def _shown(value: object, default: str) -> str:
    """As it would be written in the environment; a password inside a URL is left out."""
    import re

    if isinstance(value, bool):
        yes, no = ("true", "false") if default in {"true", "false"} else ("on", "off")
        return yes if value else no
    text = "" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
    return re.sub(r"//[^@/]*@", "//…@", text)


# --- brand ---


@brand_app.command("add")
def brand_add(
    brand: BrandName,
    name: Annotated[str, typer.Option(help="What people call it; else the id.")] = "",
    website: Annotated[str | None, typer.Option(help="http or https address.")] = None,
    url: Url = HERE,
    admin_key: AdminKey = "",
) -> None:
    """Create BRAND, or change its name and website."""
    body = {"name": name or brand, **({"website": website} if website else {})}
    answer = client_of(url, admin_key).call("PUT", brand_path(brand), body=body)
    print(f"{answer['brand']}: {answer['name']}")


@brand_app.command("key")
def brand_key(
    brand: BrandName,
    kind: Annotated[Literal["secret", "publishable"], typer.Option(help="What the key may do.")] = "secret",
    origin: Annotated[
        list[str] | None, typer.Option(help="Of pages that a publishable key is for; may be given more than once.")
    ] = None,
    quota_per_day: Annotated[int | None, typer.Option(min=1, help="Most requests in a UTC day; else no limit.")] = None,
    url: Url = HERE,
    admin_key: AdminKey = "",
) -> None:
    """Make a key of BRAND and print it: it is shown this once. Two of a kind live at once."""
    body = {"kind": kind, "origins": origin or [], "quota_per_day": quota_per_day}
    print(client_of(url, admin_key).call("POST", f"{brand_path(brand)}/keys", body=body)["key"])


@brand_app.command("keys")
def brand_keys(brand: BrandName, url: Url = HERE, admin_key: AdminKey = "") -> None:
    """List the live keys of BRAND: id, kind, requests of the last 31 days, quota, origins."""
    for key in client_of(url, admin_key).call("GET", f"{brand_path(brand)}/keys")["keys"]:
        requests = sum(day["requests"] for day in key["usage"])
        quota = f"{key['quota_per_day']:,} a day" if key["quota_per_day"] else "no quota"
        print("  ".join([key["key_id"], key["kind"], f"{requests:,} requests", quota, *key["origins"]]))


@brand_app.command("revoke")
def brand_revoke(
    brand: BrandName,
    key_id: Annotated[str, typer.Argument(metavar="KEY_ID", help="As `nearhive brand keys` lists it.")],
    url: Url = HERE,
    admin_key: AdminKey = "",
) -> None:
    """End a key of BRAND: nobody can use it when this returns."""
    from urllib.parse import quote

    client_of(url, admin_key).call("DELETE", f"{brand_path(brand)}/keys/{quote(key_id, safe='')}")


# --- doctor ---


@app.command()
def doctor(
    url: Url = HERE,
    admin_key: AdminKey = "",
    as_json: Annotated[bool, typer.Option("--json", help="The whole report as JSON.")] = False,
) -> None:
    """Say what is running, where the data is, and whether all workers agree; status 1 if they do not."""
    import json

    from api.doctor import healthy, report

    client = client_of(url, admin_key)
    status = client.call("GET", "/v1/app/status")
    print(json.dumps(status, indent=2) if as_json else report(client.url, status))
    sys.exit(0 if healthy(status) else FAILED)


# --- audit ---


@app.command("audit-privacy")
def audit_privacy(
    url: Annotated[str, typer.Argument(metavar="URL", help="The service to attack; better a copy than the live one.")],
    mint: Annotated[
        str,
        typer.Option(metavar="CMD", help="Command that prints a token of the user id given to it; else as `token`."),
    ] = "",
    victims: Annotated[int, typer.Option(min=1, max=10_000, help="Made-up people to look for.")] = 12,
    seed: Annotated[int, typer.Option(min=0, help="Of where they are; 0 takes a new one.")] = 0,
    shakes: Annotated[bool, typer.Option("--shakes", help="Attack by shakes too: each round waits a window.")] = False,
) -> None:
    """Attack URL with made-up accounts: metres by which each attack missed; status 1 if one came too close."""
    import asyncio
    import secrets

    from api.audit.command import audit, mint_by
    from api.settings import load_settings

    settings = load_settings()

    async def local(user: str) -> str:
        return _token(settings, user, "adult", 43_200)

    chosen = mint_by(mint) if mint else local
    held = asyncio.run(audit(url, chosen, victims, seed or secrets.randbits(32), shakes, settings.shake_window_s))
    sys.exit(0 if held else FAILED)
