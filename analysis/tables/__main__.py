"""The paper's tables from what MLflow holds, ours beside the paper's values.

python -m analysis.tables all
python -m analysis.tables table_a1 --tracking-uri http://127.0.0.1:5000 --experiment altub
python -m analysis.tables stability --experiment demo
"""

from __future__ import annotations

import argparse
import sys

from rich.console import Console

from altub_exp.errors import UserError
from analysis.options import add_choices, chosen_records
from analysis.paper.paper_cells import Source
from analysis.tables.catalogue import TABLES, build
from analysis.tables.terminal import show
from analysis.tables.writers import write


def main(arguments: list[str] | None = None) -> None:
    """Print the table that the command names, and write it as CSV, Markdown and LaTeX."""
    parser = argparse.ArgumentParser(
        prog="python -m analysis.tables",
        description="The paper's tables from what MLflow holds, ours beside the paper's values; written as CSV, "
        "Markdown and LaTeX.",
        epilog="example: python -m analysis.tables table_a1 --tracking-uri http://127.0.0.1:5000 --experiment altub",
    )
    parser.add_argument(
        "table",
        choices=[*TABLES, "all"],
        help="which table; benefit: does AltUB help?; stability: every run; all: writes all, and prints what is there",
    )
    add_choices(parser, output="results/tables")
    chosen = parser.parse_args(arguments)
    console = Console(highlight=False)
    try:
        source = Source(chosen_records(chosen)[1])
        sheets = build(source) if chosen.table == "all" else [TABLES[chosen.table](source)]
        for sheet in sheets:
            write(sheet, chosen.output)
    except UserError as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        sys.exit(f"error: {chosen.output} cannot be written ({error.strerror}): choose another folder by --output.")
    if chosen.table == "all":
        stable = sheets[-1]
        if stable.data:
            show(stable, console)
            console.print()
        for sheet in sheets:
            console.print(f"{sheet.name:9}  {sheet.summary}", soft_wrap=True)
        console.print(f"Written to {chosen.output}/: NAME.csv, NAME.md, NAME.tex", soft_wrap=True)
    else:
        show(sheets[0], console)


if __name__ == "__main__":
    main()
