"""Debian's PostgreSQL below one temporary folder: its own port on 127.0.0.1, its own socket, a password."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

USER = "postgres"
START_WAIT = 60.0


def _programs() -> Path | None:
    """Return the folder of the newest PostgreSQL, which is not in Debian's PATH."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    return found[-1].parent if found else None


def missing() -> str:
    """Return one sentence about why this machine cannot run PostgreSQL, or an empty string."""
    return "" if _programs() else "PostgreSQL not found: run tests/install.sh postgresql"


class PostgreSQL:
    """One server process with the database ``mlflow``.

    Args:
        folder: an empty folder with a short path (sockets allow 107 characters).
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.password = secrets.token_hex(16)
        # PostgreSQL refuses to run as root
        self.account = {"user": USER, "group": pwd.getpwnam(USER).pw_gid, "extra_groups": []} if _root() else {}
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.uri = f"postgresql://mlflow:{self.password}@127.0.0.1:{self.port}/mlflow"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and return when it answers, after about 3 s.

        Raises:
            RuntimeError: it does not come up; with the end of its log.
        """
        if _root():
            shutil.chown(self.folder, USER)
        password = self.folder / "password"
        password.touch(mode=0o600)
        password.write_text(self.password)
        if _root():
            shutil.chown(password, USER)
        data = self.folder / "data"
        self._run("initdb", "--username=mlflow", "--auth=scram-sha-256", f"--pwfile={password}", "--no-sync", str(data))
        options = ["-D", str(data), "-h", "127.0.0.1", "-p", str(self.port), "-k", str(self.folder)]
        with (self.folder / "postgresql.log").open("ab") as log:
            self.process = subprocess.Popen(
                [self._program("postgres"), *options], stdout=log, stderr=log, start_new_session=True, **self.account
            )
        deadline = time.monotonic() + START_WAIT
        while not self._ready():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise RuntimeError((self.folder / "postgresql.log").read_text()[-2000:])
            time.sleep(0.1)
        self._run("createdb", *self._address(), "mlflow")

    def stop(self) -> None:
        """End it at once together with its child processes."""
        if self.process is not None:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.send_signal(signal.SIGQUIT)
                self.process.wait()
            self.process = None

    def query(self, sql: str) -> list[tuple]:
        """Return the rows of a query."""
        import psycopg

        with psycopg.connect(self.uri) as connection:
            return connection.execute(sql).fetchall()

    def _address(self) -> list[str]:
        return ["--host=127.0.0.1", f"--port={self.port}", "--username=mlflow"]

    def _ready(self) -> bool:
        done = subprocess.run([self._program("pg_isready"), *self._address()], capture_output=True)
        return done.returncode == 0

    def _program(self, name: str) -> str:
        return str(_programs() / name)

    def _run(self, name: str, *arguments: str) -> None:
        done = subprocess.run(
            [self._program(name), *arguments],
            env=os.environ | {"PGPASSWORD": self.password},
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=START_WAIT,
            **self.account,
        )
        if done.returncode:
            raise RuntimeError(f"{name} failed.\n{done.stdout}\n{done.stderr}")


def _root() -> bool:
    return os.geteuid() == 0
