"""Tracking URIs: the URI that applies, the file of a SQLite store, and redaction of passwords."""

from __future__ import annotations

import os
import re
from pathlib import Path
from urllib.parse import urlsplit

from altub_exp.errors import UserError

_SQLITE = re.compile(r"sqlite(?:\+\w+)?:///(?P<path>[^?]+)(?P<query>\?.*)?")
_SERVERS = re.compile(r"(https?|databricks|(postgresql|mysql|mssql)(\+\w+)?)://.+|databricks")


def resolve_uri(uri: str, environment: bool = True, write: bool = True) -> str:
    """Return the tracking URI that applies: ``MLFLOW_TRACKING_URI`` before ``uri``, a SQLite path made absolute.

    The folder of a SQLite store is created, unless the store is only read.

    Args:
        uri: ``sqlite:///PATH`` (relative to the working folder), or a server.
        environment: True if ``MLFLOW_TRACKING_URI`` takes precedence.
        write: False if the store is only read.

    Raises:
        UserError: MLflow cannot record at this URI.
    """
    uri = (os.environ.get("MLFLOW_TRACKING_URI") if environment else None) or uri
    if _SERVERS.fullmatch(uri):
        return uri.rstrip("/")
    match = _SQLITE.fullmatch(uri)
    if match is None or match["path"] == ":memory:":
        raise UserError(
            f"MLflow cannot record at {uri!r} (folders of files are no longer supported): "
            "set tracking.uri to sqlite:///PATH or to the address of a server."
        )
    path = Path(match["path"]).expanduser().absolute()
    if not write:
        return f"sqlite:///{path}{match['query'] or ''}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{path.parent} cannot be created for tracking.uri: {error.strerror}.") from None
    if path.is_dir() or not os.access(path.parent, os.W_OK) or (path.exists() and not os.access(path, os.W_OK)):
        raise UserError(f"{path} cannot be written; set tracking.uri to sqlite:///PATH of a place that can.")
    return f"sqlite:///{path}{match['query'] or ''}"


def redacted(uri: str) -> str:
    """Return the URI without user name and password, for messages and files."""
    netloc = urlsplit(uri).netloc
    return uri.replace(netloc, netloc.rpartition("@")[2], 1) if "@" in netloc else uri


def database(uri: str) -> Path | None:
    """Return the file of a SQLite store, or None for a server."""
    match = _SQLITE.fullmatch(uri)
    return Path(match["path"]) if match else None


def artifact_location(uri: str, experiment: str) -> str | None:
    """Return the folder for a new experiment's files, beside a SQLite store; None leaves the choice to the server."""
    path = database(uri)
    return (path.parent / "mlartifacts" / re.sub(r"[^\w.-]+", "-", experiment)).as_uri() if path else None
