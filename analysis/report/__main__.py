"""One page with all tables and figures, what is missing and how to reproduce each, from what MLflow holds.

python -m analysis.report
python -m analysis.report --tracking-uri http://127.0.0.1:5000 --experiment altub --output results/report.html
"""

from __future__ import annotations

import argparse
import sys

from altub_exp.errors import UserError
from altub_exp.machine.disk import write_text
from analysis.options import add_choices, chosen_records
from analysis.report.contents import report, states
from analysis.runs.artifacts import Artifacts


def main(arguments: list[str] | None = None) -> None:
    """Write the report."""
    parser = argparse.ArgumentParser(
        prog="python -m analysis.report",
        description="One HTML file, complete in itself, with the paper's tables and figures from what MLflow holds.",
        epilog="example: python -m analysis.report --tracking-uri http://127.0.0.1:5000 --experiment altub",
    )
    add_choices(parser, output="results/report.html")
    chosen = parser.parse_args(arguments)
    try:
        uri, records = chosen_records(chosen)
        options = ["--tracking-uri", records.uri]
        for name in chosen.experiment or ():
            options += ["--experiment", name]
        if chosen.window is not None:
            options += ["--window", *map(str, chosen.window)]
        text = report(records, Artifacts(uri), options)
        chosen.output.parent.mkdir(parents=True, exist_ok=True)
        write_text(chosen.output, text)
    except UserError as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        sys.exit(f"error: {chosen.output} cannot be written ({error.strerror}): choose another file by --output.")
    size = chosen.output.stat().st_size / 1e6
    print(f"{chosen.output}: {len(records.runs)} runs ({states(records.runs) or 'none'}), {size:.1f} MB")


if __name__ == "__main__":
    main()
