"""A table on the terminal."""

from __future__ import annotations

from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table as RichTable
from rich.text import Text as RichText

from analysis.tables.table import Sheet

SUPERSCRIPT = str.maketrans("0123456789,", "⁰¹²³⁴⁵⁶⁷⁸⁹˒")

UNBOUNDED = 10_000
"""A width in characters that no table exceeds."""

LISTED_RUNS = 6
"""The ids of at most this many runs are printed; the files list all of them."""


def show(sheet: Sheet, console: Console) -> None:
    """Print a table; a terminal that is narrower than the table folds its lines and cuts nothing off."""
    table = RichTable(title=sheet.title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    previous = ""
    for index, (group, column) in enumerate(zip(sheet.column_groups, sheet.columns, strict=True)):
        head = group.replace(" + ", "\n+ ").replace(" (", "\n(") if group != previous else ""
        previous = group
        justify = "left" if index < sheet.labels else "right"
        table.add_column(f"{head}\n{column}".lstrip("\n"), justify=justify, no_wrap=True, vertical="bottom")
    for block in sheet.blocks:
        for line in block:
            entries = [
                RichText(text.text, "bold" if text.bold else "").append(sheet.marks(text).translate(SUPERSCRIPT))
                for text in line
            ]
            table.add_row(*entries, end_section=line is block[-1] and len(block) > 1)
    fold = {"soft_wrap": not console.is_terminal}
    console.print(RichText(sheet.caption), **fold)
    width = console.width
    console.width = max(width, Measurement.get(console, console.options.update(width=UNBOUNDED), table).maximum)
    console.print(table)
    console.width = width
    sentences = [f"{str(number).translate(SUPERSCRIPT)} {note}" for note, number in sheet.footnotes.items()]
    sentences += [*sheet.remarks, *sheet.provenance]
    if sheet.run_ids:
        ids = sheet.run_ids if len(sheet.run_ids) <= LISTED_RUNS else [f"{len(sheet.run_ids)}, named in the files"]
        sentences += [f"Runs: {', '.join(ids)}"]
    for sentence in sentences:
        console.print(RichText(sentence), **fold)
