"""The records of the study, and its page.

python -m analysis.study pack runs
python -m analysis.study unpack runs
python -m analysis.study page
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from altub_exp.machine.command_line import command_parser, run_command
from altub_exp.text import say
from analysis.study import records

EPILOG = """examples:
  python -m analysis.study pack runs       merge the finished runs below runs/ into study/
  python -m analysis.study unpack runs     restore the recorded runs' folders, without checkpoints
  python -m analysis.study page            write docs/study.md and its figures from the records

`python -m altub_exp.sync` sends restored runs to any MLflow store, and a sweep does not compute them again."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Pack or unpack the records, or write the page; return the exit status."""
    parser = command_parser("study", "The records of the study, and its page.", EPILOG, package="analysis")
    parser.add_argument("action", choices=("pack", "unpack", "page"), help="see the examples below")
    parser.add_argument("runs_dir", nargs="?", default="runs", type=Path, help="folder of the runs (default: runs)")
    parser.add_argument(
        "--experiment",
        default=records.EXPERIMENT,
        metavar="NAME",
        help="experiment of the packed runs (default: study)",
    )
    parser.add_argument("--docs", default="docs", type=Path, help="folder of the page (default: docs)")
    parser.add_argument(
        "--work", default="results/study", type=Path, help="folder of the store that the page is made from"
    )
    parser.add_argument("--records", default=records.FOLDER, type=Path, help="folder of the records (default: study)")
    options = parser.parse_args(arguments)
    work = {
        "pack": lambda: _pack(options.runs_dir, options.records, options.experiment),
        "unpack": lambda: _unpack(options.runs_dir, options.records),
        "page": lambda: _page(options.docs, options.records, options.work),
    }
    return run_command(work[options.action])


def _pack(runs_dir: Path, folder: Path, experiment: str) -> int:
    taken, total = records.pack(runs_dir, folder, experiment)
    say(f"{taken} finished or crashed runs of experiment {experiment!r} in {runs_dir} taken; {folder} holds {total}.")
    return 0


def _unpack(runs_dir: Path, folder: Path) -> int:
    restored = records.unpack(runs_dir, folder)
    say(f"{restored} runs restored below {runs_dir}. `python -m altub_exp.sync {runs_dir}` sends them to MLflow.")
    return 0


def _page(docs: Path, folder: Path, work: Path) -> int:
    from analysis.study.page import write_page  # imports PyTorch and matplotlib

    for file in write_page(docs, folder, work):
        say(file)
    return 0


if __name__ == "__main__":
    sys.exit(main())
