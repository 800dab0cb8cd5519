"""Figures from the runs that MLflow holds.

python -m analysis.figures all
python -m analysis.figures fig4 --tracking-uri http://127.0.0.1:5000 --experiment altub
"""

from __future__ import annotations

import argparse

from altub_exp.errors import UserError
from altub_exp.text import say
from analysis.figures.catalogue import FIGURES, draw
from analysis.figures.drawing import CAPTIONS, FigureFolder, Undrawn
from analysis.options import add_options, chosen_records, errors_as_sentences
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
        uri, records = chosen_records(chosen)
        folder = FigureFolder(chosen.output)
        if chosen.figure == "all":
            folder.clear()
        count, undrawn = 0, []
        for figure in draw(records, Artifacts(uri), FIGURES if chosen.figure == "all" else [chosen.figure]):
            if isinstance(figure, Undrawn):
                folder.leave_out(figure)
                undrawn.append(figure.sentence)
                continue
            png, _ = folder.save(figure)
            count += 1
            say(png)
            for note in figure.missing:
                say(f"  {note}")
        for sentence in undrawn:
            say(sentence)
        if not count:
            raise UserError(f"No figure was drawn from {records.uri}" + (": see above." if undrawn else ": no runs."))
        say(f"{count} figures with their captions ({CAPTIONS}) in {chosen.output}")


if __name__ == "__main__":
    main()
