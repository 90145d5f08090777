"""PostGIS: ``<->`` with ST_DWithin on a geography column with a GiST index, from a throwaway cluster of Debian's.

Statements are prepared and answers binary, over a unix socket; the table is in shared memory as a whole.
"""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import psycopg
from numpy.typing import NDArray

from loadtest.engine.peers import Asked
from loadtest.engine.peers.child import Child, NotStarted
from loadtest.engine.worlds import Points

_PROGRAMS = Path("/usr/lib/postgresql/15/bin")
_INSTALL = Path(__file__).with_name("install-postgis.sh")
_OWNER = "postgres"  # the server refuses to run as root
_OPTIONS = {
    "listen_addresses": "",
    "shared_buffers": "1GB",
    "work_mem": "64MB",
    "maintenance_work_mem": "512MB",
    "max_connections": "8",
    "fsync": "off",
    "autovacuum": "off",
    "jit": "off",
    "max_parallel_workers_per_gather": "0",
}
_COPY_HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_COPY_END = b"\xff\xff"
_ROW = np.dtype(
    [("fields", ">i2"), ("l0", ">i4"), ("id", ">i4"), ("l1", ">i4"), ("lon", ">f8"), ("l2", ">i4"), ("lat", ">f8")]
)
_NEAREST = """
SELECT id FROM points
WHERE ST_DWithin(place, ST_SetSRID(ST_MakePoint(%s, %s), 4326)::geography, %s, false)
ORDER BY place <-> ST_SetSRID(ST_MakePoint(%s, %s), 4326)::geography LIMIT %s"""


class Cluster:
    """One cluster for all worlds. Raises NotStarted, which says why."""

    def __init__(self) -> None:
        _install()
        self._folder = tempfile.TemporaryDirectory(prefix="nearhive-bench-pg-")
        folder = Path(self._folder.name)
        user = None if os.geteuid() else _OWNER
        if user is not None:
            owner = pwd.getpwnam(user)
            os.chown(folder, owner.pw_uid, owner.pw_gid)
        data = folder / "data"
        self._initdb(data, user)
        settings = [word for name, value in _OPTIONS.items() for word in ("-c", f"{name}={value}")]
        command: list[str | Path] = [_PROGRAMS / "postgres", "-D", data, "-k", folder, *settings]
        self._child = Child(command, signal.SIGINT, folder / "log", user)
        self._where = f"host={folder} user=bench dbname=postgres"
        self._child.wait_until(self._answers, 30.0)
        self.connection = psycopg.connect(self._where, autocommit=True, prepare_threshold=0)
        self.connection.execute("CREATE EXTENSION postgis")
        self.version = "PostgreSQL {}, PostGIS {}".format(*self._versions())

    @staticmethod
    def _initdb(data: Path, user: str | None) -> None:
        command = (_PROGRAMS / "initdb", "-D", data, "-U", "bench", "--auth", "trust", "--no-sync", "-E", "UTF8")
        done = subprocess.run(command, user=user, capture_output=True, text=True, check=False)
        if done.returncode:
            raise NotStarted(done.stderr[-500:])

    def _answers(self) -> bool:
        try:
            psycopg.connect(self._where).close()
        except psycopg.OperationalError:
            return False
        return True

    def _versions(self) -> tuple[str, str]:
        row = self.connection.execute("SELECT current_setting('server_version'), postgis_lib_version()").fetchone()
        assert row is not None
        return row[0].split()[0], row[1]

    def end(self) -> None:
        self.connection.close()
        self._child.end()
        self._folder.cleanup()


def _install() -> None:
    """By the package manager, if it is not there. Raises NotStarted."""
    if not shutil.which("bash"):
        raise NotStarted("no bash")
    done = subprocess.run(["bash", _INSTALL], capture_output=True, text=True, check=False)
    if done.returncode:
        raise NotStarted(done.stderr.strip()[-500:])


class PostGIS:
    name: ClassVar[str] = "PostGIS"
    off_m: ClassVar[float] = 0.01
    largest: ClassVar[int] = 1_000_000
    why_no_larger: ClassVar[str] = "its index over 10 million takes minutes to build, in each world"

    def __init__(self, points: Points, cluster: Cluster) -> None:
        """The points replace those of the world before."""
        self._connection = cluster.connection
        self._cursor = cluster.connection.cursor(binary=True)
        execute = cluster.connection.execute
        execute("DROP TABLE IF EXISTS points, plain")
        execute("CREATE UNLOGGED TABLE plain (id int4, lon float8, lat float8)")
        with self._cursor.copy("COPY plain FROM STDIN (FORMAT binary)") as copy:
            copy.write(_copied(points))
        execute(
            "CREATE UNLOGGED TABLE points AS "
            "SELECT id, ST_SetSRID(ST_MakePoint(lon, lat), 4326)::geography AS place FROM plain"
        )
        execute("CREATE INDEX nearest ON points USING gist (place)")
        execute("VACUUM ANALYZE points")

    @property
    def bytes_used(self) -> int:
        """Of the table and its index."""
        row = self._connection.execute("SELECT pg_total_relation_size('points')").fetchone()
        assert row is not None
        return int(row[0])

    def asked(self, lat: float, lon: float, k: int, radius_m: float) -> Asked:
        return partial(self._nearest, (lon, lat, radius_m, lon, lat, k))

    def _nearest(self, given: tuple[float, ...]) -> list[Any]:
        return self._cursor.execute(_NEAREST, given, prepare=True).fetchall()

    def ids(self, answer: Any) -> NDArray[np.int64]:
        return np.array([row for (row,) in answer], np.int64)


def _copied(points: Points) -> bytes:
    rows = np.empty(len(points[0]), _ROW)
    rows["fields"], rows["l0"], rows["l1"], rows["l2"] = 3, 4, 8, 8
    rows["id"], rows["lat"], rows["lon"] = np.arange(len(rows)), *points
    return _COPY_HEADER + rows.tobytes() + _COPY_END
