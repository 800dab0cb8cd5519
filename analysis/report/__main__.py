"""One page with all tables and figures, a list of what is missing, and how to reproduce each, from MLflow's runs.

python -m analysis.report
python -m analysis.report --tracking-uri http://127.0.0.1:5000 --experiment altub --output results/report.html
"""

from __future__ import annotations

import argparse

from altub_exp.machine.disk import write_text
from altub_exp.text import say
from analysis.options import add_options, chosen_records, end_with, errors_as_sentences
from analysis.report.contents import report, states
from analysis.runs.artifacts import Artifacts


def main(arguments: list[str] | None = None) -> None:
    """Write the report."""
    parser = argparse.ArgumentParser(
        prog="python -m analysis.report",
        description="One self-contained HTML file with the paper's tables and figures from the runs that MLflow holds.",
        epilog="example: python -m analysis.report --tracking-uri http://127.0.0.1:5000 --experiment altub",
    )
    add_options(parser, output="results/report.html")
    chosen = parser.parse_args(arguments)
    with errors_as_sentences(chosen.output, "file"):
        uri, records, problems = chosen_records(chosen)
        options = ["--tracking-uri", records.uri]
        for name in chosen.experiment or ():
            options += ["--experiment", name]
        if chosen.window is not None:
            options += ["--window", *map(str, chosen.window)]
        text, failures = report(records, Artifacts(uri), options, problems)
        chosen.output.parent.mkdir(parents=True, exist_ok=True)
        write_text(chosen.output, text)
    size = chosen.output.stat().st_size / 1e6
    say(f"{chosen.output}: {len(records.runs)} runs ({states(records.runs) or 'none'}), {size:.1f} MB")
    end_with([*problems, *failures])


if __name__ == "__main__":
    main()
