"""A real PostgreSQL of Debian's packages for tests and measurements: loopback, a password, a folder of its own.

It may be killed and started again on the same data and port.
"""

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import pytest

from .killable_server import KillableServer  # noqa: TID252 - tests call this folder `support`, bench `tests.support`

USER, DATABASE = "prefect", "prefect"
READY_S = 60.0
STOP_S = 20.0


def postgres_programs() -> Path | None:
    """Folder of the newest version's programs, or None where there is none: Debian keeps them off the path."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: float(path.parts[-3]))
    on_path = shutil.which("initdb")
    return found[-1].parent if found else Path(on_path).parent if on_path else None


class PostgresServer:
    """Use as a context manager: starts it with an empty database; `url` is what Prefect connects to.

    The test that wants it is skipped where PostgreSQL is not installed.
    """

    def __init__(self, password: str = "postgres-7d40e6c1b9") -> None:
        programs = postgres_programs()
        if programs is None:
            pytest.skip("PostgreSQL's programs are not installed (Debian: apt-get install postgresql)")
        self._programs = programs
        self.password = password
        # Directly in the folder of temporary files: pytest's own are closed to the user PostgreSQL runs as.
        self.folder = Path(tempfile.mkdtemp(prefix="caprl-postgres-"))
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = int(free.getsockname()[1])
        self._server = KillableServer("PostgreSQL", self.folder / "server.log")
        self._as_user: dict[str, Any] = {}
        if os.geteuid() == 0:
            # PostgreSQL refuses to run as root.
            account = _account()
            self._as_user = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
            os.chown(self.folder, account.pw_uid, account.pw_gid)

    @property
    def url(self) -> str:
        """For `PREFECT_API_DATABASE_CONNECTION_URL`."""
        return f"postgresql+asyncpg://{USER}:{self.password}@127.0.0.1:{self.port}/{DATABASE}"

    @property
    def pid(self) -> int:
        """Of the postmaster, whose children all others are."""
        return self._server.pid

    @property
    def log(self) -> str:
        """What it has said."""
        return self._server.words()

    def start(self) -> None:
        """Start it on the data there are; returns when it takes connections."""
        command = [str(self._programs / "postgres"), "-D", str(self.folder / "data"), "-p", str(self.port)]
        # No socket in a folder for all, and nobody but this machine.
        command += ["-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="]
        self._server.start(
            command,
            environment=self._environment(),
            answers=self._answers,
            seconds=READY_S,
            cwd=self.folder,
            **self._as_user,
        )

    def kill(self) -> None:
        """SIGKILL to every process of it at once."""
        self._server.kill()

    def stop(self) -> None:
        """End it in order; idempotent."""
        self._server.stop(signal.SIGINT, STOP_S)  # its "fast" shutdown: clients are sent away

    def query(self, sql: str) -> list[list[str]]:
        """Rows of a statement, as text."""
        done = self._run("psql", *self._client(), "-At", "-F", "\t", "-c", sql, DATABASE)
        return [line.split("\t") for line in done.stdout.splitlines()]

    def dump(self) -> bytes:
        """Everything in the database, as SQL."""
        return self._run("pg_dump", *self._client(), DATABASE).stdout.encode()

    def __enter__(self) -> Self:
        secret = self.folder / "password"
        secret.write_text(self.password)
        if self._as_user:
            os.chown(secret, self._as_user["user"], self._as_user["group"])
        try:
            # Without --no-sync it waits for the disk although nothing is lost yet.
            how = ["--auth=scram-sha-256", f"--username={USER}", f"--pwfile={secret}", "--no-sync"]
            self._run("initdb", "--locale=C.UTF-8", "--encoding=UTF8", *how, "-D", str(self.folder / "data"))
            secret.unlink()
            self.start()
            self._run("createdb", *self._client(), DATABASE)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _client(self) -> Sequence[str]:
        return ("-h", "127.0.0.1", "-p", str(self.port), "-U", USER, "--no-password")

    def _environment(self) -> dict[str, str]:
        kept = {name: os.environ[name] for name in ("PATH", "TMPDIR", "TZ") if name in os.environ}
        return kept | {"LC_ALL": "C.UTF-8", "HOME": str(self.folder), "PGPASSWORD": self.password}

    def _run(self, program: str, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [str(self._programs / program), *arguments],
            env=self._environment(),
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            **self._as_user,
        )
        if check and done.returncode:
            raise RuntimeError(f"{program}: {done.stdout}{done.stderr}")
        return done

    def _answers(self) -> bool:
        return not self._run("pg_isready", *self._client()[:4], "-t", "1", check=False).returncode


def _account() -> pwd.struct_passwd:
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    pytest.skip("this is root, PostgreSQL refuses to run as root, and there is no user postgres or nobody")
