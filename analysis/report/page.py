"""The HTML of the report: its template, and the filters that turn tables and sentences into elements."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from analysis.paper.cells import CellState
from analysis.paper.values import OVERALL
from analysis.tables.layout import label
from analysis.tables.table import MINUS, Entry, Line, Table
from analysis.tables.writers import csv_text

TEMPLATE = "report.html.j2"
SCRIPT = "report.js"
STYLE = "report.css"

NUMBER = re.compile(rf"\(?([+\-{MINUS}]?\d+(?:\.\d+)?(?:e[+-]?\d+)?)")
STATES = set(CellState) - {CellState.finished, CellState.quoted}


def number(text: str) -> float | None:
    """Return the number that a text begins with, by which its column is sorted; None if there is none.

    >>> number("(98.16, 0.25)"), number("−0.20 [−0.31, −0.08]"), number("54/60"), number("1.2e-05")
    (98.16, -0.2, 54.0, 1.2e-05)
    >>> number("—"), number("missing"), number("")
    (None, None, None)
    """
    found = NUMBER.match(text)
    return float(found[1].replace(MINUS, "-")) if found else None


def ticked(text: str) -> Markup:
    """Return a sentence in which the parts between backticks are code.

    >>> ticked("`make <b>` does it")
    Markup('<code>make &lt;b&gt;</code> does it')
    """
    parts = text.split("`")
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if index % 2 and index < len(parts) - 1 else escape(part)
        for index, part in enumerate(parts)
    )


class Head(NamedTuple):
    """The head of a column.

    Attributes:
        name: its text.
        label: True if the column holds labels.
        number: True if it is sorted by numbers.
    """

    name: str
    label: bool
    number: bool


def columns(table: Table) -> list[Head]:
    """Return the heads of a table; a first column without a name gets that of the things in its rows."""
    first = [block[0] for block in table.blocks if block]
    heads = [
        Head(name, index < table.labels, any(number(line[index].text) is not None for line in first))
        for index, name in enumerate(table.columns)
    ]
    if not table.columns[0] and table.data:
        categories = {datum.get("category") for datum in table.data}
        name = "model" if "group" in table.data[0] else "category" if len(categories) > 1 else "base"
        heads[0] = heads[0]._replace(name=name)
    return heads


def stays(block: Sequence[Line]) -> bool:
    """True if a row is the overall one, which stays at the end however the table is sorted."""
    return bool(block) and block[0][0].text == label(OVERALL)


def kind(entry: Entry) -> str:
    """Return the CSS class of an entry: ``state`` if its text is the state of a run."""
    return "state" if entry.text.split(",")[0] in STATES else ""


def csv_uri(table: Table) -> str:
    """Return the table's CSV as a data URI."""
    return data_uri("text/csv;charset=utf-8", csv_text(table).encode())


def data_uri(media: str, content: bytes) -> str:
    """Return content as a URI that holds it."""
    return f"data:{media};base64,{base64.b64encode(content).decode()}"


def render(context: Mapping[str, object]) -> str:
    """Return the whole page; everything in the context is taken as text and escaped.

    The page's policy forbids all requests, and every script except its own.
    """
    folder = Path(__file__).parent
    environment = Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"ticked": ticked, "number": number, "kind": kind, "csv_uri": csv_uri}
    environment.globals |= {"columns": columns, "stays": stays}
    script = (folder / SCRIPT).read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    own = {
        "script": Markup(script),
        "style": Markup((folder / STYLE).read_text(encoding="utf-8")),
        "policy": f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'",
    }
    return environment.get_template(TEMPLATE).render(**context, **own)
