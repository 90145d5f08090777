"""Settings from the environment, and the secrets that are made once."""

import multiprocessing
import os
import re
import stat
from pathlib import Path
from typing import Any

import pytest

from api.settings import (
    SECRETS,
    BadSettings,
    Settings,
    describe,
    load_settings,
    parse_bind,
    read_settings,
    unknown_variables,
)

LONG = "long enough: " + "x" * 30


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.upper().startswith("NEARHIVE_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("NEARHIVE_DATA_DIR", str(tmp_path))


def test_defaults() -> None:
    settings = read_settings()
    assert (settings.epoch_s, settings.workers, settings.require_age) == (900, 1, True)
    assert (settings.rate_limits, settings.speed_limit, settings.exposure_caps) == (True, True, True)
    assert (settings.jwt_audience, settings.shake_window_s, settings.durability) == ("nearhive", 5.0, "strict")
    assert settings.admin_address(8000) == ("127.0.0.1", 8001)
    assert settings.jwt_secret is None


def test_environment_and_overrides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEARHIVE_EPOCH_S", "30")
    monkeypatch.setenv("NEARHIVE_RATE_LIMITS", "off")
    monkeypatch.setenv("NEARHIVE_SPEED_LIMIT", "ON")
    monkeypatch.setenv("NEARHIVE_REQUIRE_AGE", "false")
    monkeypatch.setenv("NEARHIVE_LOG_LEVEL", "DEBUG")
    monkeypatch.setenv("NEARHIVE_ADMIN_BIND", "[::1]:9000")
    monkeypatch.setenv("NEARHIVE_JWT_SECRET", "")
    settings = read_settings(workers=3)
    assert (settings.epoch_s, settings.workers, settings.log_level) == (30, 3, "debug")
    assert (settings.rate_limits, settings.speed_limit, settings.require_age) == (False, True, False)
    assert settings.admin_address(8000) == ("::1", 9000)
    assert settings.jwt_secret is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("EPOCH_S", "0"),
        ("EPOCH_S", "1.5"),
        ("EPOCH_S", "soon"),
        ("WORKERS", "0"),
        ("RATE_LIMITS", "perhaps"),
        ("DURABILITY", "none"),
        ("LOG_LEVEL", "trace"),
        ("LOG_FORMAT", "xml"),
        ("SHAKE_WINDOW_S", "nan"),
        ("SHAKE_WINDOW_S", "-1"),
        ("BOTTLE_THROWS_PER_DAY", "-1"),
        ("STATE_URL", "http://secret-host:6379"),
        ("ADMIN_BIND", "8001"),
        ("ADMIN_BIND", "localhost:0"),
        ("JWT_SECRET", "secret-too-short"),
        ("ADMIN_KEY", "secret-too-short"),
        ("PRIVACY_SECRET", "secret-too-short"),
    ],
)
def test_a_bad_value_is_refused_by_name_and_not_shown(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(f"NEARHIVE_{name}", value)
    with pytest.raises(BadSettings) as refused:
        read_settings()
    assert [line.split(":")[0] for line in refused.value.lines] == [f"NEARHIVE_{name}"]
    assert "secret-" not in str(refused.value)


def test_all_bad_values_are_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEARHIVE_EPOCH_S", "0")
    monkeypatch.setenv("NEARHIVE_WORKERS", "x")
    with pytest.raises(BadSettings) as refused:
        read_settings()
    assert len(refused.value.lines) == 2


def test_secrets_are_made_once_and_kept(tmp_path: Path) -> None:
    first, second = load_settings(), load_settings()
    values = {name: getattr(first, name).get_secret_value() for name in SECRETS}
    assert values == {name: getattr(second, name).get_secret_value() for name in SECRETS}
    assert len(set(values.values())) == 3
    assert sorted(path.name for path in (tmp_path / "secrets").iterdir()) == sorted(SECRETS)
    for name, value in values.items():
        assert len(value.encode()) >= 32
        assert stat.S_IMODE((tmp_path / "secrets" / name).stat().st_mode) == 0o600


def test_given_secrets_are_used_and_nothing_is_made_for_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in SECRETS:
        monkeypatch.setenv(f"NEARHIVE_{name.upper()}", LONG)
    settings = load_settings()
    assert settings.jwt_secret is not None
    assert settings.jwt_secret.get_secret_value() == LONG
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("value", ["é" * 16, "x" * 32, "with spaces and 'quotes' of any kind"])
def test_any_string_of_32_bytes_will_do(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("NEARHIVE_JWT_SECRET", value)
    assert read_settings().jwt_secret is not None


def test_a_short_or_unreadable_file_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "jwt_secret").write_text("short-secret")
    with pytest.raises(BadSettings, match=r"secrets/jwt_secret.*NEARHIVE_JWT_SECRET") as refused:
        load_settings()
    assert "short-secret" not in str(refused.value)
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(BadSettings, match="NEARHIVE_JWT_SECRET is not set"):
        load_settings(data_dir=blocked)


def test_a_file_open_to_others_is_closed(tmp_path: Path) -> None:
    load_settings()
    path = tmp_path / "secrets" / "admin_key"
    path.chmod(0o644)
    load_settings()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def _load(data_dir: Path, results: Any) -> None:
    settings = load_settings(data_dir=data_dir)
    results.put(tuple(getattr(settings, name).get_secret_value() for name in SECRETS))


def test_processes_that_start_together_agree(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    results = context.SimpleQueue()
    processes = [context.Process(target=_load, args=(tmp_path / "new", results)) for _ in range(8)]
    for process in processes:
        process.start()
    found = {results.get() for _ in processes}
    for process in processes:
        process.join()
    assert len(found) == 1
    assert len(list((tmp_path / "new" / "secrets").iterdir())) == 3


def test_secrets_are_never_shown() -> None:
    settings = load_settings(state_url="redis://:password@host")
    shown = f"{settings!r} {settings} {settings.model_dump()} {describe()}".replace(str(settings.state_url), "", 0)
    for name in SECRETS:
        assert getattr(settings, name).get_secret_value() not in shown
    assert "password" not in repr(settings)


def test_describe_has_every_setting() -> None:
    rows = describe()
    assert [row.name for row in rows] == [f"NEARHIVE_{name.upper()}" for name in Settings.model_fields]
    assert all(len(row.description) > 10 for row in rows)
    defaults = {row.name.removeprefix("NEARHIVE_"): row.default for row in rows}
    assert (defaults["EPOCH_S"], defaults["RATE_LIMITS"], defaults["REQUIRE_AGE"]) == ("900", "on", "true")
    assert (defaults["JWT_SECRET"], defaults["SHAKE_WINDOW_S"]) == ("(made in DATA_DIR)", "5")


def test_unknown_variables_are_named() -> None:
    environ = {"NEARHIVE_EPOCH": "1", "NEARHIVE_EPOCH_S": "1", "NEARHIVE_TEST_DATA": "x", "OTHER": "1"}
    assert unknown_variables(environ) == ["NEARHIVE_EPOCH"]


@pytest.mark.parametrize("text", ["", "host", "host:", ":80", "host:x", "host:65536", "host:٣"])
def test_bad_binds(text: str) -> None:
    with pytest.raises(ValueError, match=re.escape("host:port")):
        parse_bind(text)


def test_no_port_after_the_last() -> None:
    with pytest.raises(ValueError, match="NEARHIVE_ADMIN_BIND"):
        read_settings().admin_address(65535)
