"""Starts an MLflow server that many runs can write to at once.   python -m altub_exp.server --help"""

from __future__ import annotations

import importlib.util
import os
import secrets
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import psutil

from altub_exp.config.credentials import refuse_credentials
from altub_exp.errors import UserError
from altub_exp.machine.command_line import command_parser, run_command
from altub_exp.text import say
from altub_exp.tracking.store import import_mlflow, prepare_store
from altub_exp.tracking.uri import database, is_server, resolve_uri, whole

ENVIRONMENT = {
    # Each log_batch holds two connections. With SQLAlchemy's default of 15, about 15 requests at once block one another
    # for 30 s and are then refused: points are lost.
    "MLFLOW_SQLALCHEMYSTORE_POOL_SIZE": "50",
    "MLFLOW_SQLALCHEMYSTORE_MAX_OVERFLOW": "50",
    # background jobs for traces and evaluations, unused here, take half of the memory and of the start-up time
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}
"""Settings of a server for many writers; the user's environment takes precedence."""

STORE = "MLFLOW_BACKEND_STORE_URI"
EMPTY_EXPERIMENT = "0"
"""Id of the experiment Default, which MLflow creates with a store."""

DEFAULT_STORE = "sqlite:///mlflow.db"
DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 5000

EPILOG = """examples:
  python -m altub_exp.server
  MLFLOW_BACKEND_STORE_URI=postgresql://USER:PASSWORD@localhost/mlflow python -m altub_exp.server --host 0.0.0.0
  MLFLOW_AUTH_ADMIN_PASSWORD=... python -m altub_exp.server --app-name basic-auth

Runs reach it by tracking.uri=http://HOST:PORT. With basic-auth, every user needs MLFLOW_TRACKING_USERNAME and
MLFLOW_TRACKING_PASSWORD; the first start creates the user "admin" with MLFLOW_AUTH_ADMIN_PASSWORD.
Further options of `mlflow server` may follow, such as --artifacts-destination."""


def environment(present: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of the server: the present one, with the defaults of :data:`ENVIRONMENT`."""
    return {**ENVIRONMENT, **present}


def allowed_hosts() -> list[str]:
    """Return the host names by which runs may call the server: the names and addresses of this machine, each exactly.

    MLflow refuses all others (403), so that a page of another site cannot reach the server through a name of its own.
    ``--allowed-hosts`` and ``MLFLOW_SERVER_ALLOWED_HOSTS`` replace this list.
    """
    families = {socket.AF_INET: "{}", socket.AF_INET6: "[{}]"}
    addresses = [
        families[entry.family].format(entry.address.partition("%")[0])
        for entries in psutil.net_if_addrs().values()
        for entry in entries
        if entry.family in families
    ]
    own = [socket.gethostname(), socket.getfqdn(), *addresses]
    names = dict.fromkeys(["localhost", "127.0.0.1", "[::1]", "0.0.0.0", *own])
    # MLflow compares a name with a * as a pattern, in which [ begins a set of characters
    return [form for name in names for form in (name, f"{name.replace('[', '[[]')}:*")]


def command(host: str, port: int, *more: str) -> list[str]:
    """Return the command line of the server; its database is in the environment, where other users cannot read it.

    Args:
        host: the address to listen on.
        port: the port to listen on.
        more: further options of ``mlflow server``.
    """
    # one worker, since each has its own pool of connections
    return [sys.executable, "-m", "mlflow", "server", "--workers", "1", "--host", host, "--port", str(port), *more]


def prepare(store: str, app: str | None, present: Mapping[str, str]) -> dict[str, str]:
    """Prepare the database of the server and, with authentication, its secrets.

    With authentication, only this user can read the files that the server creates, and the database of passwords.

    Args:
        store: the resolved address of the database, SQLite or PostgreSQL.
        app: ``basic-auth``, or None for a server without authentication.
        present: the environment of this process.

    Returns:
        The environment of the server.

    Raises:
        UserError: the database cannot be used, its driver or a library is missing, or there is no password.
    """
    if is_server(store):
        raise UserError(f"{store} is a server itself; --backend-store-uri names the database of a server.")
    if store.startswith("postgresql") and importlib.util.find_spec("psycopg") is None:
        raise UserError("A PostgreSQL store needs psycopg: pip install 'psycopg[binary]'.")
    values = environment(present) | {STORE: whole(store)}
    values.setdefault("MLFLOW_SERVER_ALLOWED_HOSTS", ",".join(allowed_hosts()))
    if app == "basic-auth":
        if importlib.util.find_spec("flask_wtf") is None:
            raise UserError("MLflow's authentication needs Flask-WTF: pip install 'mlflow[auth]'.")
        if not {"MLFLOW_AUTH_ADMIN_PASSWORD", "MLFLOW_AUTH_CONFIG_PATH"} & present.keys():
            raise UserError(
                "Set MLFLOW_AUTH_ADMIN_PASSWORD (12 characters or more): the first start creates the user "
                "admin with it."
            )
        os.umask(0o077)
        users = Path("basic_auth.db")  # the place in MLflow's own configuration
        if users.exists():
            users.chmod(0o600)
        # signs the forms of the web interface: a new key at each start only makes open forms invalid
        values.setdefault("MLFLOW_FLASK_SERVER_SECRET_KEY", secrets.token_hex(32))
    if database(store):
        prepare_store(store)
    return values


def first_page(address: str, store: str) -> str:
    """Return the page of MLflow's interface with the runs of the newest experiment, or with the list of experiments.

    Args:
        address: address of the server, such as ``http://127.0.0.1:5000``.
        store: its database, prepared.
    """
    experiments = import_mlflow()(tracking_uri=store).search_experiments(order_by=["creation_time DESC"])
    newest = next((one.experiment_id for one in experiments if one.experiment_id != EMPTY_EXPERIMENT), None)
    page = f"experiments/{newest}/runs" if newest else "experiments"
    return f"{address}/#/{page}?workflowType=machine_learning"


def serve(words: Sequence[str], values: Mapping[str, str]) -> int:
    """Run the server until it ends, and return its exit status, 0 after SIGTERM and SIGHUP.

    Args:
        words: its command line.
        values: its environment.
    """
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(0))  # as asked for
    # in a process group of its own, since it answers a terminal's Ctrl-C by a traceback
    server = subprocess.Popen(words, env=values, process_group=0)
    try:
        return server.wait()
    finally:
        with suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGTERM)
        server.wait()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``mlflow server`` until it ends.

    Returns:
        Its exit status, 0 if SIGTERM ended it; 1 after one sentence on stderr if it cannot start; 130 after Ctrl-C.
    """
    parser = command_parser("server", "Starts an MLflow server that many runs can write to at once.", EPILOG)
    parser.add_argument(
        "--backend-store-uri",
        metavar="URI",
        help=f"database of the server: sqlite:///PATH or postgresql://… (default {DEFAULT_STORE}); give a password "
        "in MLFLOW_BACKEND_STORE_URI, since every user of the machine sees command lines",
    )
    parser.add_argument("--host", default=DEFAULT_HOST, help="address to listen on (default %(default)s)")
    parser.add_argument("--port", type=int, default=DEFAULT_PORT, help="port to listen on (default %(default)s)")
    parser.add_argument("--app-name", choices=["basic-auth"], help="ask every user for a name and a password")
    options, more = parser.parse_known_args(arguments)
    more += ["--app-name", options.app_name] if options.app_name else []

    def start() -> int:
        given = refuse_credentials(options.backend_store_uri or "", "--backend-store-uri", STORE)
        store = resolve_uri(given or DEFAULT_STORE, variable=None if given else STORE)
        values = prepare(store, options.app_name, os.environ)
        if database(store):
            say(f"Runs: {first_page(f'http://{options.host}:{options.port}', store)}")
        return serve(command(options.host, options.port, *more), values)

    return run_command(start)


if __name__ == "__main__":
    sys.exit(main())
