"""Real MLflow servers on this machine, over SQLite and PostgreSQL, and a proxy that loses replies."""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import signal
import socket
import subprocess
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from altub_exp.server import command, prepare
from tests.integration.postgresql import PostgreSQL, missing
from tests.stores import place_store


class Server:
    """The server of `python -m altub_exp.server`, which can be killed and started again at the same address.

    Args:
        folder: for log and artifacts.
        store: its database; a SQLite file in the folder unless given.
    """

    def __init__(self, folder: Path, store: str = ""):
        self.folder = folder
        self.store = store or f"sqlite:///{place_store(folder)}"
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.uri = f"http://127.0.0.1:{self.port}"
        clean = {key: value for key, value in os.environ.items() if not key.startswith("MLFLOW_")}
        self.environment = prepare(self.store, None, clean)
        artifacts = ["--artifacts-destination", str(folder / "artifacts")]
        self.command = command("127.0.0.1", self.port, *artifacts)
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and return when it answers, after about 14 s."""
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                self.command, cwd=self.folder, env=self.environment, stdout=log, stderr=log, start_new_session=True
            )
        deadline = time.monotonic() + 120
        while not self.answers():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                pytest.fail((self.folder / "server.log").read_text()[-2000:])
            time.sleep(0.2)

    def answers(self) -> bool:
        with contextlib.suppress(OSError):
            return urllib.request.urlopen(f"{self.uri}/health", timeout=5).status == 200
        return False

    def kill(self) -> None:
        """Send SIGKILL to the server and its workers, which share a process group."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgreSQL]:
    """Debian's PostgreSQL with a password and an empty database."""
    if why := missing():
        pytest.skip(why)
    with tempfile.TemporaryDirectory(prefix="postgresql-") as folder:  # where its own user may enter
        database = PostgreSQL(Path(folder))
        try:
            database.start()
            yield database
        finally:
            database.stop()


@pytest.fixture(scope="session")
def postgresql_server(postgresql: PostgreSQL, tmp_path_factory) -> Iterator[Server]:
    """A server over PostgreSQL."""
    server = Server(tmp_path_factory.mktemp("server"), postgresql.uri)
    try:
        server.start()
        yield server
    finally:
        server.kill()


@pytest.fixture(scope="session")
def server(tmp_path_factory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("server"))
    try:
        server.start()
        yield server
    finally:
        server.kill()


class Proxy(http.server.ThreadingHTTPServer):
    """A proxy that passes every request on, and loses the first reply to each path in `lose`."""

    def __init__(self, target: str):
        super().__init__(("127.0.0.1", 0), Handler)
        self.target = target
        self.uri = f"http://127.0.0.1:{self.server_port}"
        self.lose: list[str] = []
        self.lost: list[str] = []
        self.points: Counter[tuple[str, int]] = Counter()
        """Count the transmissions of each (metric, step)."""


class Handler(http.server.BaseHTTPRequestHandler):
    server: Proxy

    def handle_one(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0))) or None
        headers = {"Content-Type": self.headers.get("Content-Type", "application/json")}
        request = urllib.request.Request(self.server.target + self.path, body, headers, method=self.command)
        try:
            with urllib.request.urlopen(request, timeout=30) as reply:
                status, content = reply.status, reply.read()
        except urllib.error.HTTPError as error:
            status, content = error.code, error.read()
        name = self.path.partition("?")[0].partition("mlflow/")[2]
        metrics = json.loads(body).get("metrics", []) if name == "runs/log-batch" and body else []
        self.server.points.update((metric["key"], int(metric["step"])) for metric in metrics)
        name += "+metrics" if metrics else ""
        if name in self.server.lose:
            self.server.lose.remove(name)
            self.server.lost.append(name)
            self.close_connection = True
            return
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = do_PUT = do_PATCH = handle_one

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def proxy(server: Server) -> Iterator[Proxy]:
    proxy = Proxy(server.uri)
    thread = threading.Thread(target=proxy.serve_forever)
    thread.start()
    try:
        yield proxy
    finally:
        proxy.shutdown()
        thread.join()
        proxy.server_close()
