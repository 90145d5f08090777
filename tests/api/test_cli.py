"""The command line, against a real service where it needs one."""

import gzip
import json
import os
import re
import signal
import socketserver
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from api.auth import TokenRefused, Tokens
from api.cli import main

NEARHIVE = Path(sys.executable).with_name("nearhive")
ADMIN_KEY = "operator key of at least thirty-two bytes"
JWT_SECRET = "token secret of at least thirty-two bytes"
HEADER = "store_id,name,lat,lon,services\n"


class Ran(NamedTuple):
    """What one command left behind."""

    status: int
    out: str
    err: str


Run = Callable[..., Ran]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    """Runs one command in this process, with a data directory of its own unless the environment names one."""
    for name in [name for name in os.environ if name.startswith("NEARHIVE_") and "TEST" not in name]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("NEARHIVE_DATA_DIR", str(tmp_path / "data"))

    def command(*arguments: str, **environment: str) -> Ran:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(sys, "argv", ["nearhive", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        return Ran(int(ended.value.code or 0), *capsys.readouterr())

    return command


# --- without a service ---


def test_token_prints_a_token_and_nothing_else(run: Run) -> None:
    ran = run("token", "ada", NEARHIVE_JWT_SECRET=JWT_SECRET, NEARHIVE_JWT_ISSUER="app")
    caller = Tokens(JWT_SECRET, "nearhive", "app", time.time).caller(ran.out.strip())
    assert (ran.status, ran.err, ran.out.count("\n")) == (0, "", 1)
    assert (caller.user, caller.age) == ("ada", "adult")


def test_token_of_a_minor_and_its_end(run: Run) -> None:
    ran = run("token", "tim", "--minor", "--ttl-s", "60", NEARHIVE_JWT_SECRET=JWT_SECRET)
    tokens = Tokens(JWT_SECRET, "nearhive", None, lambda: time.time() + 30)
    assert tokens.caller(ran.out.strip()).age == "minor"
    with pytest.raises(TokenRefused):
        Tokens(JWT_SECRET, "nearhive", None, lambda: time.time() + 180).caller(ran.out.strip())


def test_token_makes_the_secret_once_where_none_is_set(run: Run, tmp_path: Path) -> None:
    first, again = run("token", "ada"), run("token", "ada")
    secret = tmp_path / "data" / "secrets" / "jwt_secret"
    tokens = Tokens(secret.read_text().strip(), "nearhive", None, time.time)
    assert [tokens.caller(ran.out.strip()).user for ran in (first, again)] == ["ada", "ada"]
    assert secret.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "arguments",
    [("token", "not an id"), ("token", "ada", "--ttl-s", "0"), ("token", "ada", "--ttl-s", "86401"), ("token",)],
)
def test_token_refuses_what_the_service_would(run: Run, arguments: tuple[str, ...]) -> None:
    ran = run(*arguments)
    assert (ran.status, ran.out) == (2, "")
    assert ran.err


def test_token_loads_neither_kernels_nor_an_http_client(tmp_path: Path) -> None:
    program = (
        "import sys; from api.cli import main; sys.argv = ['nearhive', 'token', 'ada']\n"
        "try: main()\n"
        "except SystemExit: print(*({'numba', 'numpy', 'httpx2', 'uvicorn'} & set(sys.modules)))"
    )
    environment = os.environ | {"NEARHIVE_DATA_DIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment, check=True)
    assert done.stdout.splitlines()[1] == ""


def test_settings_lists_all_and_shows_no_secret(run: Run) -> None:
    ran = run(
        "settings",
        NEARHIVE_JWT_SECRET=JWT_SECRET,
        NEARHIVE_STATE_URL="redis://name:password@host/0",
        NEARHIVE_EPOCH_S="30",
        NEARHIVE_RATE_LIMITS="off",
    )
    assert ran.status == 0
    assert "NEARHIVE_EPOCH_S = 30   (default: 900)" in ran.out
    assert "NEARHIVE_RATE_LIMITS = off   (default: on)" in ran.out
    assert "NEARHIVE_STATE_URL = redis://…@host/0" in ran.out
    assert "NEARHIVE_JWT_SECRET = (set)" in ran.out
    assert "NEARHIVE_ADMIN_KEY = (made in DATA_DIR)" in ran.out
    assert JWT_SECRET not in ran.out
    assert "password" not in ran.out


def test_a_bad_setting_is_named_without_its_value(run: Run) -> None:
    ran = run("settings", NEARHIVE_EPOCH_S="soon", NEARHIVE_ADMIN_KEY="short")
    assert (ran.status, ran.out) == (2, "")
    assert "NEARHIVE_EPOCH_S" in ran.err
    assert "NEARHIVE_ADMIN_KEY" in ran.err
    assert "short" not in ran.err


def test_nothing_there_is_one_line(run: Run) -> None:
    ran = run("doctor", "--url", "http://127.0.0.1:1", NEARHIVE_ADMIN_KEY=ADMIN_KEY)
    assert (ran.status, ran.out) == (1, "")
    assert ran.err.count("\n") == 1
    assert "nothing answers at http://127.0.0.1:1" in ran.err


def test_no_operator_key_is_said_and_none_is_made(run: Run, tmp_path: Path) -> None:
    ran = run("doctor")
    assert ran.status == 1
    assert "no operator key" in ran.err
    assert not (tmp_path / "data").exists()


def test_unknown_commands_and_options_are_bad_usage(run: Run) -> None:
    assert run("fly").status == 2
    assert run("doctor", "--fly").status == 2
    assert run("stores", "import", "shop", "absent.csv").status == 2


# --- with a service ---


class Service(NamedTuple):
    """A served empty world and the environment that reaches it."""

    url: str
    environment: dict[str, str]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """`nearhive serve` with two workers; Ctrl-C must end it with status 0."""
    data = {"NEARHIVE_DATA_DIR": str(tmp_path_factory.mktemp("served") / "data"), "NEARHIVE_EPOCH_S": "1"}
    arguments = [str(NEARHIVE), "serve", "--port", "0", "--workers", "2"]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True, env=os.environ | data) as process:
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            found = re.fullmatch(r"Nearhive is ready at (http://127\.0\.0\.1:\d+)\n", line)
            assert found, line
            yield Service(found[1], data)
        finally:
            process.send_signal(signal.SIGINT)
            status = process.wait(30)
    assert status == 0


@pytest.fixture
def ask(run: Run, service: Service) -> Run:
    """Runs one command against the service."""

    def command(*arguments: str) -> Ran:
        return run(*arguments, "--url", service.url, **service.environment)

    return command


@pytest.fixture
def brand(ask: Run, request: pytest.FixtureRequest) -> str:
    """A brand of this test alone."""
    name = re.sub(r"\W", "-", request.node.name)
    ran = ask("brand", "add", name, "--name", "A shop", "--website", "https://example.com")
    assert ran == (0, f"{name}: A shop\n", "")
    return name


def test_brand_key_prints_a_key_that_works(ask: Run, brand: str) -> None:
    ran = ask("brand", "key", brand)
    assert re.fullmatch(r"nh_sk_\w+\n", ran.out)
    listed = ask("stores", "nearest", brand, "--lat", "1", "--lon", "1", "--admin-key", ran.out.strip())
    assert listed == (0, "", "")


def test_wrong_key_unknown_brand_and_bad_id_are_one_line_each(ask: Run, brand: str) -> None:
    cases = (
        ("brand", "key", brand, "--admin-key", "wrong"),
        ("brand", "key", "no-such-brand"),
        ("brand", "add", "not an id"),
        ("brand", "key", brand, "--kind", "publishable"),
    )
    for case in cases:
        ran = ask(*case)
        assert (ran.status, ran.out, ran.err.count("\n")) == (1, "", 1), (case, ran)
        assert ran.err.startswith("nearhive: ")


def test_import_csv_then_nearest(ask: Run, brand: str, tmp_path: Path) -> None:
    file = tmp_path / "shops.csv"
    file.write_text(f"{HEADER}a,Near,48.86,2.35,wifi\nb,Far,50.0,2.35,\nc,Middle,49.0,2.35,\n")
    ran = ask("stores", "import", brand, str(file))
    assert ran == (0, f"{brand}: 3 added, 0 changed, 0 removed, 0 unchanged; 0 rejected, 0 warnings\n", "")
    listed = ask("stores", "nearest", brand, "--lat", "48.8566", "--lon", "2.3522", "--limit", "2")
    assert [line.split()[-2:] for line in listed.out.splitlines()] == [["a", "Near"], ["c", "Middle"]]
    assert listed.out.startswith("    0.411 km")


@pytest.mark.parametrize("suffix", [".geojson", ".json", ".geojson.gz", ".csv.gz"])
def test_import_by_suffix_packed_or_not(ask: Run, brand: str, tmp_path: Path, suffix: str) -> None:
    point = {"type": "Point", "coordinates": [2.35, 48.86]}
    feature = {"type": "Feature", "id": "a", "geometry": point, "properties": {"name": "Near"}}
    collection = json.dumps({"type": "FeatureCollection", "features": [feature]})
    content = (f"{HEADER}a,Near,48.86,2.35,\n" if "csv" in suffix else collection).encode()
    file = tmp_path / f"Shops{suffix.upper()}"
    file.write_bytes(gzip.compress(content) if suffix.endswith(".gz") else content)
    assert ask("stores", "import", brand, str(file)).out.startswith(f"{brand}: 1 added")


def test_rejected_rows_are_listed_and_refuse_the_import(ask: Run, brand: str, tmp_path: Path) -> None:
    file = tmp_path / "shops.csv"
    bad = "".join(f"bad-{row},Bad,91,2.35,\n" for row in range(25))
    file.write_text(f"{HEADER}good,Good,48.86,2.35,\n{bad}")
    refused = ask("stores", "import", brand, str(file))
    assert (refused.status, refused.out) == (1, "")
    lines = refused.err.splitlines()
    assert lines[0] == "rejected:"
    assert lines[1] == "  row 3: lat: outside -90..90: are lat and lon swapped?"
    assert lines[21:22] == ["  and 5 more"]
    assert "25 of 26 rows are rejected" in lines[22]
    assert ask("stores", "nearest", brand, "--lat", "1", "--lon", "1").out == ""
    dry = ask("stores", "import", brand, str(file), "--on-error", "skip", "--dry-run")
    assert "(dry run, nothing was changed): 1 added" in dry.out
    assert ask("stores", "nearest", brand, "--lat", "1", "--lon", "1").out == ""
    skipped = ask("stores", "import", brand, str(file), "--on-error", "skip")
    assert skipped.status == 0
    assert "1 added, 0 changed, 0 removed, 0 unchanged; 25 rejected" in skipped.out
    assert "  and 5 more" in skipped.out


def test_an_import_that_is_cut_off_after_the_file_was_sent_says_so(run: Run, tmp_path: Path) -> None:
    class Ends(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            found = b""
            while not found.endswith(b"\r\n0\r\n\r\n"):  # the last chunk
                found += self.request.recv(65536)

    file = tmp_path / "one.csv"
    file.write_text(f"{HEADER}a,Near,48.86,2.35,\n")
    with socketserver.TCPServer(("127.0.0.1", 0), Ends) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}"
        command = ("stores", "import", "acme", str(file), "--url", url, "--admin-key", ADMIN_KEY)
        ran = run(*command)
        assert (ran.status, "import again to be sure" in ran.err) == (1, True), ran
        assert "again" not in run(*command, "--dry-run").err
        server.shutdown()
    ran = run(*command)
    assert "again" not in ran.err, "nothing was sent"


def test_merge_export_and_report(ask: Run, brand: str, tmp_path: Path) -> None:
    one, two, said = tmp_path / "one.csv", tmp_path / "two.csv", tmp_path / "said.csv"
    one.write_text(f"{HEADER}a,Near,48.86,2.35,\nb,Far,50,2.35,\n")
    two.write_text(f"{HEADER}b,Far,51,2.35,\nc,Gulf,0,0,wifi\n")
    assert ask("stores", "import", brand, str(one)).status == 0
    ran = ask("stores", "import", brand, str(two), "--merge", "--report", str(said))
    assert ran.out.startswith(f"{brand}: 1 added, 1 changed, 0 removed, 1 unchanged; 0 rejected, 1 warnings\n")
    warned = 'warnings,3,lat,"0, 0 is in the Gulf of Guinea: is the point missing?"'
    assert said.read_text().splitlines() == ["kind,row,field,message", warned]
    for name in ("all.csv", "all.geojson", "all.geojson.gz"):
        file = tmp_path / name
        assert ask("stores", "export", brand, str(file)).out.startswith(f"{brand}: ")
        again = ask("stores", "import", brand, str(file)).out
        assert again.startswith(f"{brand}: 0 added, 0 changed, 0 removed, 3 unchanged; 0 rejected")
    assert ask("stores", "export", brand, str(tmp_path / "all.xlsx")).status == 2
    gone = ask("stores", "export", "no-such-brand", str(tmp_path / "none.csv"))
    assert (gone.status, gone.err.count("\n"), (tmp_path / "none.csv").exists()) == (1, 1, False)


def test_files_that_are_not_what_they_say_change_nothing(ask: Run, brand: str, tmp_path: Path) -> None:
    good = tmp_path / "good.csv"
    good.write_text(f"{HEADER}a,Near,48.86,2.35,\n")
    assert ask("stores", "import", brand, str(good)).status == 0
    cut = tmp_path / "cut.csv.gz"
    cut.write_bytes(gzip.compress(os.urandom(100_000))[:50_000])
    plain = tmp_path / "plain.csv.gz"
    plain.write_text(HEADER)
    empty = tmp_path / "empty.csv"
    empty.write_text("")
    broken = tmp_path / "broken.geojson"
    broken.write_text('{"type": "FeatureCollection", "features": [')
    for file in (cut, plain, empty, broken):
        ran = ask("stores", "import", brand, str(file))
        assert (ran.status, ran.out, ran.err.count("\n")) == (1, "", 1), ran
    unknown = tmp_path / "shops.xlsx"
    unknown.write_text("")
    assert ask("stores", "import", brand, str(unknown)).status == 2
    assert ask("stores", "nearest", brand, "--lat", "1", "--lon", "1").out.count("\n") == 1


def test_doctor_says_what_runs_and_that_workers_agree(ask: Run, service: Service) -> None:
    deadline_s = time.monotonic() + 20
    while (found := ask("doctor")).out.count(": ") < 4 or "equal: " not in found.out:
        assert time.monotonic() < deadline_s, found
        time.sleep(0.3)
    assert found.status == 0
    for text in ("2 workers", "embedded server, 1 shard, data format 2", "always: each write is on disk"):
        assert text in found.out
    for text in ("valkey-server", "appendfsync always", service.environment["NEARHIVE_DATA_DIR"], "all workers agree"):
        assert text in found.out
    for text in ("stream s00", "stream shake", "worker 0", "worker 1", "lease held", "lag ", "feed offset", "digest"):
        assert text in found.out
    report = json.loads(ask("doctor", "--json").out)
    assert len(report["workers"]) == 2
    assert [stream["stream"] for stream in report["streams"]] == ["s00", "shake"]


def test_serve_refuses_a_taken_port_and_a_taken_directory(run: Run, service: Service, tmp_path: Path) -> None:
    port = service.url.rpartition(":")[2]
    cases = (
        ({"NEARHIVE_DATA_DIR": str(tmp_path / "other")}, port, "the port is taken"),
        (service.environment, "0", "data"),
    )
    for environment, wanted, reason in cases:
        arguments = [str(NEARHIVE), "serve", "--port", wanted]
        done = subprocess.run(arguments, capture_output=True, text=True, env=os.environ | environment, timeout=60)
        assert done.returncode == 2, done
        assert reason in done.stderr.splitlines()[-1]
        assert done.stdout == ""
