"""Addresses, SHA-256 sums and licences of the published data sets: the table ``downloads.toml``."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from altub_exp.errors import UserError, did_you_mean

TABLE = Path(__file__).with_name("downloads.toml")


@dataclass(frozen=True)
class Archive:
    """A published archive.

    Attributes:
        address: its URL.
        sha256: its SHA-256 sum in hexadecimal digits; None if none is published.
        size: its size in bytes; None if it is not published.
    """

    address: str
    sha256: str | None
    size: int | None

    @property
    def name(self) -> str:
        """Name of its file."""
        return self.address.rpartition("/")[2]


@dataclass(frozen=True)
class Download:
    """A data set that can be downloaded.

    Attributes:
        name: its key in the table, and the name of its layout.
        licence: name of its licence, with the main condition.
        licence_address: address of the licence's text.
        archive: the archive of the whole data set.
        categories: archives of single categories, if they are published.
    """

    name: str
    licence: str
    licence_address: str
    archive: Archive
    categories: dict[str, Archive]

    def of(self, category: str | None) -> Archive:
        """Return the archive of one category, or that of the whole data set.

        Raises:
            UserError: there is no archive of this category.
        """
        if category is None:
            return self.archive
        if not self.categories:
            raise UserError(f"{self.name} is published as one archive only: leave out --category.")
        if category not in self.categories:
            meant = did_you_mean(category, self.categories)
            raise UserError(
                f"{self.name} has no category {category!r}{meant}: choose one of {', '.join(self.categories)}."
            )
        return self.categories[category]


def read_downloads(file: Path = TABLE) -> dict[str, Download]:
    """Return the data sets of a table by name.

    Raises:
        UserError: there is no such file, or it is not such a table.
    """
    try:
        with file.open("rb") as table:
            return {name: _download(name, entry) for name, entry in tomllib.load(table).items()}
    except (OSError, tomllib.TOMLDecodeError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{file} cannot be read as a table of downloads ({error}): write it like {TABLE.name} of the program."
        ) from error


def _download(name: str, entry: dict[str, Any]) -> Download:
    categories = {category: _archive(each) for category, each in entry.get("categories", {}).items()}
    return Download(name, entry["licence"], entry["licence_address"], _archive(entry["archive"]), categories)


def _archive(entry: dict[str, Any]) -> Archive:
    return Archive(entry["address"], entry.get("sha256"), entry.get("bytes"))
