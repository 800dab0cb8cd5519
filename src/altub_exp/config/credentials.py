"""Credentials in addresses: an address is stored and shown without them."""

from __future__ import annotations

import re

from altub_exp.errors import UserError

HARMLESS = {
    "application_name",
    "charset",
    "connect_timeout",
    "driver",
    "sslcert",
    "sslkey",
    "sslmode",
    "sslrootcert",
    "target_session_attrs",
    "timeout",
}
"""Options of a database's address that are never secret; ``sslcert`` and ``sslkey`` are paths."""

_ADDRESS = re.compile(r"(?!sqlite)[a-z][a-z0-9+.-]*://[^\s'\"]+", re.IGNORECASE)


def public(uri: str) -> str:
    """Return an address without user name and password, and without options that may be secret.

    Everything up to the last @ counts as name and password, since a password may hold any other character.

    >>> public("postgresql://me:a/b#c?d@host:5432/mlflow?sslmode=require&password=e")
    'postgresql://host:5432/mlflow?sslmode=require'
    >>> public("sqlite:////home/me@here/mlflow.db")
    'sqlite:////home/me@here/mlflow.db'
    """
    scheme, separator, rest = uri.partition("://")
    if not separator or scheme.lower().startswith("sqlite"):
        return uri
    place, mark, query = rest.rpartition("@")[2].partition("?")
    kept = [option for option in query.split("&") if option.partition("=")[0].lower() in HARMLESS]
    return f"{scheme}://{place}{mark if kept else ''}{'&'.join(kept)}"


def without_credentials(text: str) -> str:
    """Return a text in which every address is :func:`public`.

    >>> without_credentials("could not translate host name in postgresql://me:secret@host/db (timeout)")
    'could not translate host name in postgresql://host/db (timeout)'
    """
    return _ADDRESS.sub(lambda match: public(match[0]), text)


def refuse_credentials(uri: str, name: str, variable: str) -> str:
    """Return an address that was given as an option or a key, unless it holds credentials.

    Options are visible to every user of the machine, and a configuration is recorded with its run.

    Args:
        uri: the address.
        name: the option or key.
        variable: the environment variable that may hold credentials.

    Raises:
        UserError: it may hold credentials.
    """
    if public(uri) != uri:
        raise UserError(
            f"{name} holds a user, a password or an option that may be secret; other users of this machine could read "
            f"it, and runs record it: leave it out, and set {variable} to the whole address."
        )
    return uri
