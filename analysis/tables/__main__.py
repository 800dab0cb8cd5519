"""The paper's tables from the runs that MLflow holds, ours beside the paper's values.

python -m analysis.tables all
python -m analysis.tables table_a1 --tracking-uri http://127.0.0.1:5000 --experiment altub
python -m analysis.tables systems
python -m analysis.tables stability --experiment demo
python -m analysis.tables stability --end-metrics
"""

from __future__ import annotations

import argparse

from altub_exp.config.compose import options
from altub_exp.machine.terminal import PlainConsole
from analysis.options import add_options, chosen_records, end_with, errors_as_sentences
from analysis.paper.paper_cells import PaperCells
from analysis.tables.catalogue import TABLES, all_tables
from analysis.tables.stability import stability
from analysis.tables.terminal import show
from analysis.tables.writers import write


def main(arguments: list[str] | None = None) -> None:
    """Print the table that the command names, and write it as CSV, Markdown and LaTeX."""
    parser = argparse.ArgumentParser(
        prog="python -m analysis.tables",
        description="The paper's tables from the runs that MLflow holds, ours beside the paper's values; written as "
        "CSV, Markdown and LaTeX.",
        epilog="example: python -m analysis.tables table_a1 --tracking-uri http://127.0.0.1:5000 --experiment altub",
    )
    parser.add_argument(
        "table",
        choices=[*TABLES, "all"],
        help="the table; benefit: does AltUB help?; systems: all systems on the same images; stability: every run; "
        "all: writes all tables, and prints the number of complete cells of each",
    )
    parser.add_argument(
        "--reading",
        choices=options("reading"),
        help="the reading of the paper that the runs of its tables follow, as in +reading=… (default: the program's)",
    )
    parser.add_argument(
        "--end-metrics",
        action="store_true",
        help="stability: with AUPRO, AP and F1-max after the last epoch as columns (its CSV always has them)",
    )
    add_options(parser, output="results/tables")
    chosen = parser.parse_args(arguments)
    if chosen.end_metrics and chosen.table != "stability":
        parser.error("--end-metrics is for the table stability")
    with errors_as_sentences(chosen.output, "folder"):
        _, records, problems = chosen_records(chosen)
        cells = PaperCells(records, chosen.reading)
        if chosen.end_metrics:
            tables = [stability(records, end_metrics=True)]
        else:
            tables = all_tables(cells) if chosen.table == "all" else [TABLES[chosen.table](cells)]
        for table in tables:
            write(table, chosen.output)
    console = PlainConsole(highlight=False, markup=False, emoji=False)
    if chosen.table == "all":
        if tables[-1].data:
            show(tables[-1], console)
            console.print()
        for table in tables:
            console.print(f"{table.name:9}  {table.summary}", soft_wrap=True)
        console.print(f"Written to {chosen.output}/: NAME.csv, NAME.md, NAME.tex", soft_wrap=True)
    else:
        show(tables[0], console)
    end_with(problems)


if __name__ == "__main__":
    main()
