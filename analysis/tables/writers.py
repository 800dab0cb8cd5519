"""A table as CSV, Markdown, LaTeX and on the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd
from rich import box
from rich.console import Console, JustifyMethod
from rich.measure import Measurement
from rich.table import Table as RichTable
from rich.text import Text as RichText

from altub_exp.machine.disk import write_text
from analysis.tables.table import Sheet, Text

SUPERSCRIPT = str.maketrans("0123456789,", "⁰¹²³⁴⁵⁶⁷⁸⁹˒")

LATEX = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        "&": r"\&",
        "%": r"\%",
        "$": r"\$",
        "#": r"\#",
        "_": r"\_",
        "{": r"\{",
        "}": r"\}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "|": r"\textbar{}",
        '"': r"\textquotedbl{}",
        "`": r"\textquotesingle{}",
        "'": r"\textquotesingle{}",
        "±": r"$\pm$",
        "−": r"$-$",
        "×": r"$\times$",
        "Δ": r"$\Delta$",
        "ρ": r"$\rho$",
        "≥": r"$\ge$",
        "·": r"$\cdot$",
        "√": r"$\surd$",
        "†": r"\dag{}",
        "—": "---",
        "–": "--",
        "…": r"\ldots{}",
    }
)

HEAD = r"""% \input it into a document that loads booktabs, graphicx and textcomp, or compile it by itself.
\makeatletter
\ifx\@nodocument\relax
  \def\finish{}
\else
  \documentclass{article}
  \usepackage[a4paper,margin=12mm]{geometry}
  \usepackage[T1]{fontenc}
  \usepackage[utf8]{inputenc}
  \usepackage{booktabs,graphicx,textcomp}
  \begin{document}
  \def\finish{\end{document}}
\fi
\makeatother
"""

UNBOUNDED = 10_000
"""Columns, more than any table has."""

TERMINAL_IDS = 6
"""More run ids than these are left to the files."""


def _marks(sheet: Mapping[str, int], text: Text) -> str:
    return ",".join(str(sheet[note]) for note in text.notes)


def frame(sheet: Sheet) -> pd.DataFrame:
    """The table's numbers, one row per cell; whole numbers stay whole where others are missing."""
    return pd.DataFrame(list(sheet.data), dtype=object)


def csv(sheet: Sheet) -> str:
    """One row per cell; empty where there is nothing."""
    return str(frame(sheet).to_csv(index=False, lineterminator="\n"))


def _plain(text: str) -> str:
    for character in ("\\", "|", "*", "_", "`", "<", "["):
        text = text.replace(character, f"\\{character}")
    return text.replace("\n", " ")


def markdown(sheet: Sheet) -> str:
    """GitHub's Markdown, with numbered footnotes below."""
    notes = sheet.footnotes

    def cell(text: Text) -> str:
        shown = _plain(text.text)
        marks = _marks(notes, text)
        return (f"**{shown}**" if text.bold and shown else shown) + (f"<sup>{marks}</sup>" if marks else "")

    heads = [f"{group} {column}".strip() for group, column in zip(_spread(sheet), sheet.columns, strict=True)]
    lines = [
        f"**{sheet.title}.** {_plain(sheet.caption)}",
        "",
        "| " + " | ".join(map(_plain, heads)) + " |",
        "|" + "|".join(["---"] * sheet.labels + ["--:"] * (len(heads) - sheet.labels)) + "|",
    ]
    lines += ["| " + " | ".join(map(cell, line)) + " |" for block in sheet.blocks for line in block]
    lines += [""]
    lines += [f"<sup>{number}</sup> {_plain(note)}  " for note, number in notes.items()]
    lines += ["", *(f"{_plain(remark)}  " for remark in sheet.remarks)]
    lines += ["", *(f"{_plain(sentence)}  " for sentence in sheet.provenance)]
    if sheet.run_ids:
        lines += [f"Runs: {', '.join(sheet.run_ids)}"]
    return "\n".join(lines).rstrip() + "\n"


def _spread(sheet: Sheet) -> list[str]:
    """The group above each column."""
    if not sheet.groups:
        return [""] * len(sheet.columns)
    return [text for text, span in sheet.groups for _ in range(span)]


def latex(sheet: Sheet) -> str:
    """A ``table`` with booktabs and its notes behind it; compiles by itself and inside another document."""
    notes = sheet.footnotes

    def plain(text: str) -> str:
        return text.translate(LATEX)

    def cell(text: Text) -> str:
        shown = plain(text.text)
        marks = _marks(notes, text)
        return (rf"\textbf{{{shown}}}" if text.bold and shown else shown) + (
            rf"\textsuperscript{{{marks}}}" if marks else ""
        )

    count = len(sheet.columns)
    wide = count > 5
    lines = [HEAD + r"\begin{table}[!htbp]", r"\centering\footnotesize", r"\setlength{\tabcolsep}{4pt}"]
    lines += [
        rf"\caption{{{plain(sheet.caption)} ({plain(sheet.title)})}}",
        rf"\label{{tab:{sheet.name.replace('_', '-')}}}",
    ]
    lines += [r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%"] if wide else []
    lines += [rf"\begin{{tabular}}{{{'l' * sheet.labels}{'r' * (count - sheet.labels)}}}", r"\toprule"]
    if sheet.groups:
        lines += [
            " & ".join(
                plain(text) if span == 1 else rf"\multicolumn{{{span}}}{{c}}{{{plain(text)}}}"
                for text, span in sheet.groups
            )
            + r" \\"
        ]
        start = 1
        for text, span in sheet.groups:
            lines += [rf"\cmidrule(lr){{{start}-{start + span - 1}}}"] if text and span > 1 else []
            start += span
    lines += [" & ".join(map(plain, sheet.columns)) + r" \\"]
    for block in sheet.blocks:
        lines += [r"\midrule" if block is sheet.blocks[0] or len(block) > 1 else "%"]
        lines += [" & ".join(map(cell, line)) + r" \\" for line in block]
    lines += [
        r"\bottomrule",
        r"\end{tabular}" + ("}" if wide else ""),
        r"\end{table}",
        r"\par\noindent\begingroup\scriptsize\raggedright",
    ]
    lines += [rf"\textsuperscript{{{number}}} {plain(note)}\par" for note, number in notes.items()]
    lines += [rf"{plain(sentence)}\par" for sentence in (*sheet.remarks, *sheet.provenance)]
    if sheet.run_ids:
        lines += [rf"Runs: {', '.join(sheet.run_ids)}\par"]
    return "\n".join([*lines, r"\endgroup", r"\finish", ""])


def show(sheet: Sheet, console: Console) -> None:
    """Print it; a terminal that is narrower than the table folds its lines, and nothing is cut off."""
    notes = sheet.footnotes
    table = RichTable(title=sheet.title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    above = ""
    for place, (group, column) in enumerate(zip(_spread(sheet), sheet.columns, strict=True)):
        head = group.replace(" + ", "\n+ ").replace(" (", "\n(") if group != above else ""
        above = group
        justify: JustifyMethod = "left" if place < sheet.labels else "right"
        table.add_column(f"{head}\n{column}".lstrip("\n"), justify=justify, no_wrap=True, vertical="bottom")
    for block in sheet.blocks:
        for line in block:
            table.add_row(
                *(
                    RichText(text.text, "bold" if text.bold else "").append(_marks(notes, text).translate(SUPERSCRIPT))
                    for text in line
                ),
                end_section=line is block[-1] and len(block) > 1,
            )
    natural = Measurement.get(console, console.options.update(width=UNBOUNDED), table).maximum
    before = console.width
    console.print(RichText(sheet.caption), soft_wrap=not console.is_terminal)
    console.width = max(before, natural)
    console.print(table)
    console.width = before
    below = [f"{str(number).translate(SUPERSCRIPT)} {note}" for note, number in notes.items()]
    below += [*sheet.remarks, *sheet.provenance]
    if sheet.run_ids:
        ids = sheet.run_ids if len(sheet.run_ids) <= TERMINAL_IDS else [f"{len(sheet.run_ids)}, named in the files"]
        below += [f"Runs: {', '.join(ids)}"]
    for sentence in below:
        console.print(RichText(sentence), soft_wrap=not console.is_terminal)


WRITERS = {"csv": csv, "md": markdown, "tex": latex}


def write(sheet: Sheet, folder: Path) -> list[Path]:
    """``NAME.csv``, ``NAME.md`` and ``NAME.tex``, each replaced as a whole."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for ending, render in WRITERS.items():
        path = folder / f"{sheet.name}.{ending}"
        write_text(path, render(sheet))
        written.append(path)
    return written
