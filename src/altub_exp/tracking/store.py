"""The MLflow store of a tracking URI: its preparation, and a quiet client with short time-outs."""

from __future__ import annotations

import logging
import os
import re
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from filelock import FileLock, Timeout

from altub_exp.config.credentials import without_credentials
from altub_exp.errors import UserError, causes
from altub_exp.machine.disk import disk_full, no_space, replacing
from altub_exp.machine.memory import collection_paused
from altub_exp.tracking.uri import ARTIFACTS, artifact_location, database, is_server, whole

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

SQLITE_WAIT = 5.0
"""Seconds to wait for other writers of a SQLite store."""

PREPARE_WAIT = 600.0
"""Seconds to wait for another process that creates or upgrades the store."""

TIMEOUT = "MLFLOW_HTTP_REQUEST_TIMEOUT"
"""MLflow's variable: seconds that a server, and here also a database, may take to answer."""

DRIVERS = {"psycopg", "psycopg2", "pymysql", "mysqldb"}
"""Drivers of databases that take the option ``connect_timeout``."""

ENVIRONMENT = {
    TIMEOUT: "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",  # the tracker has its own back-off
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}


@collection_paused()
def import_mlflow() -> type[MlflowClient]:
    """Import MLflow (2–3 s) with fewer log messages and short time-outs; the user's environment takes precedence."""
    for key, value in ENVIRONMENT.items():
        os.environ.setdefault(key, value)
    from mlflow import MlflowClient

    # MLflow logs every failed request with its traceback; the tracker reports it in one sentence
    logging.getLogger("mlflow").setLevel(logging.CRITICAL)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)
    client: type[MlflowClient] = MlflowClient
    return client


@contextmanager
def answer_within(seconds: int) -> Iterator[None]:
    """Give servers and databases that many seconds to answer, unless the user's environment says how many."""
    import_mlflow()
    usual = os.environ[TIMEOUT]
    if usual == ENVIRONMENT[TIMEOUT]:
        os.environ[TIMEOUT] = str(seconds)
    try:
        yield
    finally:
        os.environ[TIMEOUT] = usual


@collection_paused()
def prepare_store(uri: str) -> None:
    """Create or upgrade a SQLite store, one process at a time; do nothing for a server.

    MLflow itself does not guard this: several processes that open a fresh store at once leave it broken. A store of an
    older MLflow is copied to ``NAME.before-upgrade-REVISION`` first.

    Raises:
        UserError: the file is not a store of this or an older MLflow, or another process locks it, or its disk is full.
    """
    path = database(uri)
    if path is None:
        return
    client = import_mlflow()
    from mlflow.exceptions import MlflowException

    try:
        with FileLock(path.with_name(f"{path.name}.lock"), timeout=PREPARE_WAIT):
            known = _revisions()
            revision = _revision(path)
            if revision is not None and revision not in known:
                raise OSError(f"its revision {revision} is of a newer MLflow")
            if revision not in (None, known[0]):
                backup = path.with_name(f"{path.name}.before-upgrade-{revision}")
                with closing(sqlite3.connect(path)) as old, closing(sqlite3.connect(backup)) as copy:
                    old.backup(copy)
            if revision is None:
                _create(path)
            elif revision != known[0]:
                _upgrade(uri)
            _correct_artifacts(path)
            client(tracking_uri=whole(uri))  # creates the default experiment
    except Timeout:
        raise UserError(f"Another process has been preparing {path} for {PREPARE_WAIT:.0f} s; end it.") from None
    except (MlflowException, OSError, sqlite3.DatabaseError, subprocess.SubprocessError) as error:
        why = reason(error)
        if full(error):
            raise disk_full(path, why) from None
        remedy = "end the process that holds it" if "locked" in why else "move it away, or set tracking.uri to another"
        raise UserError(f"MLflow cannot use {path} ({why}); {remedy}.") from None
    _prepared.add(uri)


_prepared: set[str] = set()


def _revisions() -> list[str]:
    """Return the revisions of the schema that the installed MLflow knows, newest first."""
    import mlflow
    from alembic.script import ScriptDirectory

    migrations = ScriptDirectory(str(Path(mlflow.__file__).parent / "store" / "db_migrations"))
    return [script.revision for script in migrations.walk_revisions()]


def _revision(path: Path) -> str | None:
    """Return the revision of the database's schema; None for an empty or absent one."""
    with closing(sqlite3.connect(path, timeout=SQLITE_WAIT)) as connection:
        if connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'").fetchone() is None:
            return None
        row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    return str(row[0]) if row else None


def _create(path: Path) -> None:
    """Create a new store under another name first: an unfinished store (killed, disk full) would stay unusable."""
    with replacing(path) as unfinished:  # not exclusive: the upgrade of a killed process may still be writing
        try:
            _upgrade(f"sqlite:///{unfinished}")
        finally:
            unfinished.with_name(f"{unfinished.name}-journal").unlink(missing_ok=True)


def _upgrade(uri: str) -> None:
    # in another process, since the migration changes the logging of its process
    command = [sys.executable, "-m", "mlflow", "db", "upgrade", uri]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PREPARE_WAIT)
    if done.returncode:
        lines = [line for line in done.stderr.strip().splitlines() if not line.startswith("(Background on")]
        full = [line for line in lines if "disk is full" in line]
        raise OSError([*(lines or ["mlflow db upgrade failed"]), *full][-1])


def _correct_artifacts(path: Path) -> None:
    """Correct the addresses of files that have been moved together with the store, which MLflow keeps absolute."""
    with closing(sqlite3.connect(path, timeout=SQLITE_WAIT)) as connection, connection:
        experiments = connection.execute("SELECT experiment_id, artifact_location FROM experiments").fetchall()
        for experiment, location in experiments:
            before, between, name = (location or "").rpartition(f"/{ARTIFACTS}/")
            now = path.parent / ARTIFACTS / unquote(name)
            if not between or not _is_gone(Path(unquote(urlsplit(before).path))) or not now.is_dir():
                continue
            connection.execute(
                "UPDATE experiments SET artifact_location = ? WHERE experiment_id = ?", (now.as_uri(), experiment)
            )
            connection.execute(
                "UPDATE runs SET artifact_uri = replace(artifact_uri, ?, ?) WHERE experiment_id = ?",
                (f"{location}/", f"{now.as_uri()}/", experiment),
            )


def _is_gone(folder: Path) -> bool:
    """True if there is no such folder; False too if this user may not look."""
    try:
        return not folder.exists()
    except OSError:
        return False


def connect(uri: str) -> MlflowClient:
    """Return a client of the store, after checking that a SQLite store can be written, or that a database answers.

    Raises:
        ConnectionError: the store cannot be used; a server is not checked before the first request.
    """
    client = import_mlflow()
    try:
        if uri not in _prepared:
            prepare_store(uri)
        if path := database(uri):
            # MLflow would wait 20 s for a locked database, and retry for hours to open a damaged one
            patience = min(SQLITE_WAIT, float(os.environ[TIMEOUT]))
            with closing(sqlite3.connect(f"{path.as_uri()}?mode=rw", uri=True, timeout=patience)) as probe:
                probe.execute("BEGIN IMMEDIATE")
                probe.rollback()
        elif not is_server(uri):
            _reach(uri)
    except (UserError, sqlite3.DatabaseError) as error:
        raise ConnectionError(str(error)) from error
    return client(tracking_uri=whole(uri))


def _reach(uri: str) -> None:
    """Connect to a database once; MLflow itself would try again for minutes, and wait without end for an answer."""
    from sqlalchemy import NullPool, create_engine, make_url

    address = make_url(whole(uri))
    options = {"connect_timeout": int(os.environ[TIMEOUT])} if address.get_driver_name() in DRIVERS else {}
    create_engine(address, poolclass=NullPool, connect_args=options).connect().close()


def experiment_id(client: MlflowClient, uri: str, name: str) -> str:
    """Return the id of an experiment, and create a missing one; several processes may call this at once.

    Raises:
        UserError: the experiment was deleted.
        MlflowException: the server cannot be reached.
    """
    from mlflow.exceptions import MlflowException

    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        try:
            return str(client.create_experiment(name, artifact_location(uri, name)))
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        experiment = client.get_experiment_by_name(name)  # another process was quicker
    if experiment.lifecycle_stage != "active":
        raise UserError(
            f"the experiment {name!r} was deleted there: restore it by `mlflow experiments restore "
            f"-x {experiment.experiment_id}`, or choose another tracking.experiment"
        )
    return str(experiment.experiment_id)


def active_run(client: MlflowClient, run_id: str) -> Run | None:
    """Return the run of an id, or None if it was deleted or never existed.

    Raises:
        MlflowException: the server cannot be reached.
    """
    from mlflow.exceptions import MlflowException

    try:
        run = client.get_run(run_id)
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return None
        raise
    return run if run.info.lifecycle_stage == "active" else None


def tagged_run(client: MlflowClient, experiment: str, tag: str, value: str) -> Run | None:
    """Return a run of an experiment (by its id) whose tag has a value of any characters, or None.

    Raises:
        MlflowException: the server cannot be reached.
    """
    token = None
    while True:
        page = client.search_runs([experiment], f"tags.{tag} {_equal_to(value)}", page_token=token)
        for run in page:
            if run.data.tags.get(tag) == value:
                return run
        if not (token := page.token):
            return None


def _equal_to(value: str) -> str:
    r"""Return the comparison with a value in MLflow's filters, which know no escapes: the runs may be too many.

    >>> print(_equal_to("it's"), _equal_to('"it\'s"'))
    = "it's" LIKE '_it_s_'
    """
    for quote in ("'", '"'):
        if quote not in value:
            return f"= {quote}{value}{quote}"
    return "LIKE '{}'".format(re.sub(r"[^\w ]", "_", value))


def parent_run(client: MlflowClient, experiment: str, sweep: str) -> str | None:
    """Return the id of a sweep's own run in an experiment (by its id), or None; errors as in :func:`tagged_run`."""
    run = tagged_run(client, experiment, "sweep_parent", sweep)
    return None if run is None else str(run.info.run_id)


def full(error: BaseException) -> bool:
    """Return True if the error, the system's or SQLite's, says that no space is left."""
    return no_space(error) is not None or "disk is full" in str(error)


class Unreachable(Exception):
    """Error when MLflow at ``uri`` does not record; the message gives the reason.

    Attributes:
        uri: the store.
        is_away: True if it answers no request; False if it has refused one, and may grant the next.
    """

    def __init__(self, uri: str, error: Exception):
        super().__init__(f"MLflow at {uri} does not record ({reason(error)}).")
        self.uri, self.is_away = uri, _is_away(error)


@contextmanager
def unreachable(uri: str) -> Iterator[None]:
    """Turn every error of MLflow, its database or the network into :class:`Unreachable`."""
    try:
        yield
    except (UserError, Unreachable):
        raise
    except Exception as error:
        raise Unreachable(uri, error) from error


def _is_away(error: BaseException) -> bool:
    import requests
    import sqlalchemy as sa

    kinds = (
        ConnectionError,
        TimeoutError,
        requests.RequestException,
        sqlite3.OperationalError,
        sa.exc.OperationalError,
    )
    return full(error) or any(
        isinstance(cause, kinds) or getattr(cause, "error_code", None) == "UNAUTHENTICATED" for cause in causes(error)
    )


def reason(error: BaseException) -> str:
    """Return the reason why a request failed, in a few words for the user."""
    import requests
    import urllib3

    chain = list(causes(error))
    if any(isinstance(cause, requests.Timeout | urllib3.exceptions.ReadTimeoutError) for cause in chain):
        return f"no answer within {os.environ[TIMEOUT]} s"
    if any(isinstance(cause, requests.ConnectionError) for cause in chain):
        return "no connection"
    if any(getattr(cause, "error_code", None) == "UNAUTHENTICATED" for cause in chain):
        return "it asks for a name and a password: set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
    if "Invalid Host header" in str(error):
        return "it does not answer to this name: start it with --allowed-hosts 'NAME,NAME:*'"
    return without_credentials((str(error).strip().splitlines() or [type(error).__name__])[0][:300])
