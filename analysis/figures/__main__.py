"""Figures from the runs that MLflow holds.

python -m analysis.figures all
python -m analysis.figures fig4 --tracking-uri http://127.0.0.1:5000 --experiment altub
"""

from __future__ import annotations

import argparse
from pathlib import Path

from altub_exp.errors import UserError
from altub_exp.text import say
from analysis.figures.catalogue import FIGURES, draw
from analysis.figures.drawing import CAPTIONS, Drawing, FigureFolder, Undrawn
from analysis.options import add_options, chosen_records, end_with, errors_as_sentences
from analysis.runs.artifacts import Artifacts


def main(arguments: list[str] | None = None) -> None:
    """Draw the figures that the command names."""
    parser = argparse.ArgumentParser(
        prog="python -m analysis.figures",
        description="Figures from the runs that MLflow holds, as PNG and PDF with their captions.",
        epilog="example: python -m analysis.figures fig4 --experiment altub",
    )
    parser.add_argument("figure", choices=["all", *FIGURES], help="the figures to draw")
    add_options(parser, output="results/figures")
    chosen = parser.parse_args(arguments)
    with errors_as_sentences(chosen.output, "folder"):
        uri, records, problems = chosen_records(chosen)
        folder = FigureFolder(chosen.output)
        if chosen.figure == "all":
            folder.clear()
        names = FIGURES if chosen.figure == "all" else [chosen.figure]
        count, undrawn = 0, list[str]()

        def keep(drawing: Drawing) -> tuple[Drawing, Path]:
            return drawing, folder.save(drawing)[0]

        for figure in draw(records, Artifacts(uri), names, keep):
            if isinstance(figure, Undrawn):
                folder.leave_out(figure)
                (problems if figure.failed else undrawn).append(figure.sentence)
                continue
            drawing, png = figure
            count += 1
            say(png)
            for note in drawing.missing:
                say(f"  {note}")
        for sentence in undrawn:
            say(sentence)
        if count:
            say(f"{count} figures with their captions ({CAPTIONS}) in {chosen.output}")
        elif not problems:
            raise UserError(f"No figure was drawn from {records.uri}" + (": see above." if undrawn else ": no runs."))
    end_with(problems)


if __name__ == "__main__":
    main()
