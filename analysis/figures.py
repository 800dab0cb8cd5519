"""Figures from what MLflow holds.

python -m analysis.figures all
python -m analysis.figures fig4 --tracking-uri http://127.0.0.1:5000 --experiment altub
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Iterator

from altub_exp.errors import UserError
from analysis.choice import add_choices, chosen_records
from analysis.contact import contact_sheets
from analysis.curves import stability_plot
from analysis.drawing import CAPTIONS, Drawing, Gallery, Undrawn
from analysis.heatmap import heat_map
from analysis.paper.paper_cells import Source
from analysis.reproductions import fig1, fig3, fig4
from analysis.runs.artifacts import Artifacts
from analysis.runs.conditions import settings
from analysis.runs.records import Records

Draw = Callable[[Records, Artifacts], Iterable[Drawing | Undrawn]]


def _stability(records: Records, artifacts: Artifacts) -> Iterator[Drawing | Undrawn]:
    for setting in settings(records.runs):
        yield stability_plot(setting)


FIGURES: dict[str, Draw] = {
    "fig1": lambda records, artifacts: [fig1(records.runs, artifacts)],
    "fig3": lambda records, artifacts: [fig3(records.runs, artifacts)],
    "fig4": lambda records, artifacts: [fig4(records.runs, artifacts)],
    "heatmap": lambda records, artifacts: [heat_map(Source(records))],
    "stability": _stability,
    "maps": lambda records, artifacts: contact_sheets(settings(records.runs), artifacts),
}
"""{name on the command line: what draws it}; one name may stand for several figures."""


def draw(records: Records, artifacts: Artifacts, names: Iterable[str]) -> Iterator[Drawing | Undrawn]:
    """The figures that these names stand for, one by one."""
    for name in names:
        yield from FIGURES[name](records, artifacts)


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
