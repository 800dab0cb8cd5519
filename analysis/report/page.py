"""The report's page: how tables, figures and sentences become HTML."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from analysis.paper.cells import CONFLICT, INCOMPLETE, MISSING, PARTIAL
from analysis.paper.values import OVERALL
from analysis.tables.layout import label
from analysis.tables.table import MINUS, Line, Sheet, Text
from analysis.tables.writers import csv_text

TEMPLATE = "report.html.j2"
SCRIPT = "report.js"
STYLE = "report.css"

NUMBER = re.compile(rf"\(?([+\-{MINUS}]?\d+(?:\.\d+)?(?:e[+-]?\d+)?)")
STATES = (MISSING, INCOMPLETE, CONFLICT, PARTIAL, "crashed", "running", "failed", "unknown")


def number(text: str) -> float | None:
    """What a cell is sorted by: the first number that it opens with; None where there is none.

    >>> number("(98.16, 0.25)"), number("−0.20 [−0.31, −0.08]"), number("54/60"), number("1.2e-05")
    (98.16, -0.2, 54.0, 1.2e-05)
    >>> number("—"), number("missing"), number("")
    (None, None, None)
    """
    found = NUMBER.match(text)
    return float(found[1].replace(MINUS, "-")) if found else None


def ticked(text: str) -> Markup:
    """A sentence in which what stands between backticks is code.

    >>> ticked("`make <b>` does it")
    Markup('<code>make &lt;b&gt;</code> does it')
    """
    parts = text.split("`")
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if place % 2 and place < len(parts) - 1 else escape(part)
        for place, part in enumerate(parts)
    )


def columns(sheet: Sheet) -> list[dict[str, Any]]:
    """Each column's name, whether it is a label, and whether it is sorted by numbers.

    A first column that the paper leaves without a name gets that of what its rows are.
    """
    first = [block[0] for block in sheet.blocks if block]
    found = [
        {"name": name, "label": place < sheet.labels, "number": any(_numeric(line, place) for line in first)}
        for place, name in enumerate(sheet.columns)
    ]
    if not sheet.columns[0] and sheet.data:
        categories = {datum.get("category") for datum in sheet.data}
        found[0] |= {"name": "model" if "group" in sheet.data[0] else "category" if len(categories) > 1 else "base"}
    return found


def _numeric(line: Line, place: int) -> bool:
    return number(line[place].text) is not None


def stays(block: Sequence[Line]) -> bool:
    """Whether a row is the overall one, which stays at the end however the table is sorted."""
    return bool(block) and block[0][0].text == label(OVERALL)


def kind(text: Text) -> str:
    """The CSS class of a cell whose text says how a run stands."""
    return "state" if text.text.split(",")[0] in STATES else ""


def csv_uri(sheet: Sheet) -> str:
    """The table's numbers as a data URI."""
    return data_uri("text/csv;charset=utf-8", csv_text(sheet).encode())


def data_uri(media: str, content: bytes) -> str:
    """Content that travels inside the page."""
    return f"data:{media};base64,{base64.b64encode(content).decode()}"


def render(context: Mapping[str, object]) -> str:
    """The whole page; everything in the context is taken as text and escaped.

    The page's policy forbids whatever could leave it, and every script but its own.
    """
    folder = Path(__file__).parent
    environment = Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"ticked": ticked, "number": number, "kind": kind, "label": label, "csv_uri": csv_uri}
    environment.globals |= {"columns": columns, "stays": stays}
    script = (folder / SCRIPT).read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    own = {
        "script": Markup(script),
        "style": Markup((folder / STYLE).read_text(encoding="utf-8")),
        "policy": f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'",
    }
    return environment.get_template(TEMPLATE).render(**context, **own)
