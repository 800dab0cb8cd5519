"""Figures from what MLflow holds.

python -m analysis.figures all
python -m analysis.figures fig4 --tracking-uri http://127.0.0.1:5000 --experiment altub
"""

from __future__ import annotations

import argparse
import sys

from altub_exp.errors import UserError
from analysis.figures.catalogue import FIGURES, draw
from analysis.figures.drawing import CAPTIONS, Gallery, Undrawn
from analysis.options import add_choices, chosen_records
from analysis.runs.artifacts import Artifacts


def main(arguments: list[str] | None = None) -> None:
    """Draw the figures that the command names."""
    parser = argparse.ArgumentParser(
        prog="python -m analysis.figures",
        description="Figures from what MLflow holds, as PNG and PDF with their captions.",
        epilog="example: python -m analysis.figures fig4 --experiment altub",
    )
    parser.add_argument("figure", choices=["all", *FIGURES], help="which figure")
    add_choices(parser, output="results/figures")
    chosen = parser.parse_args(arguments)
    try:
        uri, records = chosen_records(chosen)
        gallery = Gallery(chosen.output)
        if chosen.figure == "all":
            gallery.clear()
        drawn, left_out = 0, []
        for made in draw(records, Artifacts(uri), FIGURES if chosen.figure == "all" else [chosen.figure]):
            if isinstance(made, Undrawn):
                gallery.leave_out(made)
                left_out.append(made.sentence)
                continue
            png, _ = gallery.save(made)
            drawn += 1
            print(png)
            for note in made.missing:
                print(f"  {note}")
        for sentence in left_out:
            print(sentence)
        if not drawn:
            raise UserError(f"No figure was drawn from {records.uri}" + (": see above." if left_out else ": no runs."))
        print(f"{drawn} figures with their captions ({CAPTIONS}) in {chosen.output}")
    except UserError as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        sys.exit(f"error: {chosen.output} cannot be written ({error.strerror}): choose another folder by --output.")


if __name__ == "__main__":
    main()
