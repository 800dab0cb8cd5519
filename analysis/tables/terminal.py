"""A table on the terminal."""

from __future__ import annotations

from rich import box
from rich.console import JustifyMethod
from rich.measure import Measurement
from rich.table import Table as RichTable
from rich.text import Text as RichText

from altub_exp.machine.terminal import PlainConsole
from analysis.tables.table import Table

SUPERSCRIPT = str.maketrans("0123456789,", "⁰¹²³⁴⁵⁶⁷⁸⁹˒")

UNBOUNDED = 10_000
"""A width in characters that no table exceeds."""

LISTED_RUNS = 6
"""The ids of at most this many runs are printed; the files list all of them."""


def show(table: Table, console: PlainConsole) -> None:
    """Print a table; a terminal that is narrower than the table folds its lines and cuts nothing off."""
    grid = RichTable(title=table.title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    previous = ""
    for index, (group, column) in enumerate(zip(table.column_groups, table.columns, strict=True)):
        head = group.replace(" + ", "\n+ ").replace(" (", "\n(") if group != previous else ""
        previous = group
        justify: JustifyMethod = "left" if index < table.labels else "right"
        grid.add_column(f"{head}\n{column}".lstrip("\n"), justify=justify, no_wrap=True, vertical="bottom")
    for block in table.blocks:
        for line in block:
            entries = [
                RichText(entry.text, "bold" if entry.bold else "").append(table.marks(entry).translate(SUPERSCRIPT))
                for entry in line
            ]
            grid.add_row(*entries, end_section=line is block[-1] and len(block) > 1)
    console.print(RichText(table.caption), soft_wrap=not console.is_terminal)
    width = console.width
    console.width = max(width, Measurement.get(console, console.options.update(width=UNBOUNDED), grid).maximum)
    console.print(grid)
    console.width = width
    sentences = [f"{str(number).translate(SUPERSCRIPT)} {note}" for note, number in table.footnotes.items()]
    sentences += [*table.remarks, *table.provenance]
    if table.run_ids:
        ids = table.run_ids if len(table.run_ids) <= LISTED_RUNS else [f"{len(table.run_ids)}, named in the files"]
        sentences += [f"Runs: {', '.join(ids)}"]
    for sentence in sentences:
        console.print(RichText(sentence), soft_wrap=not console.is_terminal)
