"""A table as CSV, Markdown and LaTeX."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from altub_exp.machine.disk import write_text
from altub_exp.text import csv_cell, printable
from altub_exp.text import markdown as markdown_text
from analysis.tables.table import Table

LATEX = str.maketrans(
    {character: f"\\{character}" for character in "&%$#_{}"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "|": r"\textbar{}"}
    | {"[": "{[}", "*": "{*}"}  # after a row they would belong to its end
    | {"<": r"\textless{}", ">": r"\textgreater{}", '"': r"\textquotedbl{}"}
    | {"`": r"\textquotesingle{}", "'": r"\textquotesingle{}", "†": r"\dag{}", "…": r"\ldots{}", "—": "---", "–": "--"}
    | {"±": r"$\pm$", "−": "$-$", "×": r"$\times$", "≥": r"$\ge$", "·": r"$\cdot$", "√": r"$\surd$"}
    | {"Δ": r"$\Delta$", "ρ": r"$\rho$"}
)
"""Characters that LaTeX reads otherwise, or that its 8-bit fonts lack."""

LETTERS = "\u017f"
"""The last letter that LaTeX's 8-bit fonts have; others become escapes."""


def latex_text(text: str) -> str:
    """Return a text for LaTeX, whose characters stand for themselves; those that its fonts lack become escapes."""
    known = "".join(each if each <= LETTERS or ord(each) in LATEX else ascii(each)[1:-1] for each in printable(text))
    return re.sub("-(?=-)", "-\0", known).translate(LATEX).replace("\0", "{}")


ENVIRONMENT = Environment(
    loader=FileSystemLoader(Path(__file__).parent), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
)
ENVIRONMENT.filters["plain"] = markdown_text

LATEX_ENVIRONMENT = ENVIRONMENT.overlay(  # whose own braces would hide jinja's
    block_start_string="<%",
    block_end_string="%>",
    variable_start_string="<<",
    variable_end_string=">>",
    comment_start_string="<#",
    comment_end_string="#>",
)
LATEX_ENVIRONMENT.filters = ENVIRONMENT.filters | {"plain": latex_text}


def csv_text(table: Table) -> str:
    """One row per cell; empty where there is no value."""
    columns = dict.fromkeys(column for datum in table.data for column in datum)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(columns), lineterminator="\n")
    writer.writeheader()
    writer.writerows({column: csv_cell(value) for column, value in datum.items()} for datum in table.data)
    return text.getvalue()


def markdown(table: Table) -> str:
    """GitHub's Markdown, with numbered footnotes below the table."""
    heads = [f"{group} {column}".strip() for group, column in zip(table.column_groups, table.columns, strict=True)]
    return ENVIRONMENT.get_template("table.md.j2").render(table=table, heads=heads).rstrip() + "\n"


def latex(table: Table) -> str:
    """A ``table`` with booktabs and its notes after it; compiles by itself and inside another document."""
    return LATEX_ENVIRONMENT.get_template("table.tex.j2").render(table=table) + "\n"


WRITERS = {"csv": csv_text, "md": markdown, "tex": latex}


def write(table: Table, folder: Path) -> list[Path]:
    """Write ``NAME.csv``, ``NAME.md`` and ``NAME.tex``, each replaced as a whole, and return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = {folder / f"{table.name}.{ending}": text for ending, text in WRITERS.items()}
    for path, text in paths.items():
        write_text(path, text(table))
    return list(paths)
