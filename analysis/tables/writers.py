"""A table as CSV, Markdown and LaTeX."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from altub_exp.machine.disk import write_text
from analysis.tables.table import Table

LATEX = str.maketrans(
    {character: f"\\{character}" for character in "&%$#_{}"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "|": r"\textbar{}"}
    | {"<": r"\textless{}", ">": r"\textgreater{}", '"': r"\textquotedbl{}"}
    | {"`": r"\textquotesingle{}", "'": r"\textquotesingle{}", "†": r"\dag{}", "…": r"\ldots{}", "—": "---", "–": "--"}
    | {"±": r"$\pm$", "−": "$-$", "×": r"$\times$", "≥": r"$\ge$", "·": r"$\cdot$", "√": r"$\surd$"}
    | {"Δ": r"$\Delta$", "ρ": r"$\rho$"}
)
"""Characters that LaTeX reads otherwise, or that its 8-bit fonts lack."""

MARKDOWN = {ord(character): f"\\{character}" for character in "\\|*_`<["} | {ord("\n"): " "}
"""Characters that Markdown reads otherwise."""

ENVIRONMENT = Environment(
    loader=FileSystemLoader(Path(__file__).parent), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
)
ENVIRONMENT.filters["plain"] = lambda text: text.translate(MARKDOWN)

LATEX_ENVIRONMENT = ENVIRONMENT.overlay(  # whose own braces would hide jinja's
    block_start_string="<%",
    block_end_string="%>",
    variable_start_string="<<",
    variable_end_string=">>",
    comment_start_string="<#",
    comment_end_string="#>",
)
LATEX_ENVIRONMENT.filters = ENVIRONMENT.filters | {"plain": lambda text: text.translate(LATEX)}


def csv_text(table: Table) -> str:
    """One row per cell; empty where there is no value."""
    columns = dict.fromkeys(column for datum in table.data for column in datum)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(columns), lineterminator="\n")
    writer.writeheader()
    writer.writerows(table.data)
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
