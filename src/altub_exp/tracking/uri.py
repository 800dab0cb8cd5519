"""Tracking URIs: the URI that applies, the file of a SQLite store, and the separation of credentials."""

from __future__ import annotations

import os
import re
from pathlib import Path

from altub_exp.config.credentials import public, refuse_credentials
from altub_exp.errors import UserError
from altub_exp.text import file_name

_SQLITE = re.compile(r"sqlite(?:\+\w+)?:///(?P<path>[^?]+)(?P<query>\?.*)?")
_SERVERS = re.compile(r"(https?|databricks|(postgresql|mysql|mssql)(\+\w+)?)://.+|databricks")


ARTIFACTS = "mlartifacts"
"""The folder of all experiments' files, beside a SQLite store."""

VARIABLE = "MLFLOW_TRACKING_URI"
"""The environment variable of MLflow that takes precedence; it may hold credentials."""


class TrackingUri(str):
    """A tracking URI without credentials, so that no message and no file can hold them; see :func:`whole`."""

    whole: str

    def __new__(cls, uri: str) -> TrackingUri:
        """Separate the credentials of an address."""
        made = super().__new__(cls, public(uri))
        made.whole = uri
        return made


def whole(uri: str) -> str:
    """Return the address with its credentials, for a connection only."""
    return uri.whole if isinstance(uri, TrackingUri) else uri


def resolve_uri(uri: str, *, variable: str | None = VARIABLE, name: str = "tracking.uri", write: bool = True) -> str:
    """Return the tracking URI that applies, a SQLite path made absolute.

    The folder of a SQLite store is created, unless the store is only read.

    Args:
        uri: ``sqlite:///PATH`` (relative to the working folder), or a server; without credentials.
        variable: the environment variable that takes precedence, or None.
        name: the option or key that has given ``uri``.
        write: False if the store is only read.

    Returns:
        A :class:`TrackingUri`.

    Raises:
        UserError: MLflow cannot record at this URI, or it holds credentials and is not from the environment.
    """
    given = os.environ.get(variable) if variable else None
    uri = given or refuse_credentials(uri, name, variable or VARIABLE)
    if _SERVERS.fullmatch(uri):
        return TrackingUri(uri.rstrip("/"))
    match = _SQLITE.fullmatch(uri)
    if match is None or match["path"] == ":memory:":
        raise UserError(
            f"MLflow cannot record at {public(uri)!r} (folders of files are no longer supported): "
            "set tracking.uri to sqlite:///PATH or to the address of a server."
        )
    path = Path(match["path"]).expanduser().absolute()
    resolved = TrackingUri(f"sqlite:///{path}{match['query'] or ''}")
    if not write:
        return resolved
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{path.parent} cannot be created for tracking.uri: {error.strerror}.") from None
    if path.is_dir() or not os.access(path.parent, os.W_OK) or (path.exists() and not os.access(path, os.W_OK)):
        raise UserError(f"{path} cannot be written; set tracking.uri to sqlite:///PATH of a place that can.")
    return resolved


def is_server(uri: str) -> bool:
    """True for the address of an MLflow server, False for that of a database."""
    return uri.startswith(("http", "databricks"))


def database(uri: str) -> Path | None:
    """Return the file of a SQLite store, or None for a server."""
    match = _SQLITE.fullmatch(uri)
    return Path(match["path"]) if match else None


def artifact_location(uri: str, experiment: str) -> str | None:
    """Return the folder for a new experiment's files, beside a SQLite store; None leaves the choice to the server."""
    path = database(uri)
    return (path.parent / ARTIFACTS / file_name(experiment)).as_uri() if path else None
