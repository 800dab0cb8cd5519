"""A whole training epoch with its evaluation: ours and anomalib's model in a plain loop, measured alternately.

make bench-peers
python -m bench.peers --python .venv-rivals/bin/python --only fastflow-r18 --rounds 5

Images, batch and threads are the same; weights are random, which take the same time. Ours keeps the features of the
frozen backbone, anomalib computes them in every epoch. Filling our features is not counted: it happens once for all
runs. The third line of FastFlow is its subnets only, forward and backward: the limit, if everything else took no time.
With ``--compiled``, which needs a C++ compiler, a fourth line is our flow as ``torch.compile`` fuses it.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch
from rich import box
from rich.console import Console
from rich.table import Table

from bench.turns import OWN, STEPS, WORK, Work, by_turns


def main() -> None:
    """Print the time of whole epochs, ours and anomalib's."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.peers", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--python", default=".venv-rivals/bin/python", help="anomalib's Python (default: %(default)s)")
    parser.add_argument("--only", choices=WORK, nargs="+", default=list(WORK))
    parser.add_argument("--rounds", type=int, default=3, help="rounds to measure (default: %(default)s)")
    parser.add_argument("--compiled", action="store_true", help="compare with torch.compile too; needs a C++ compiler")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="threads (default: %(default)s)")
    chosen = parser.parse_args()
    if not Path(chosen.python).exists():
        sys.exit(f"error: {chosen.python} does not exist: `make rivals` makes it.")
    console = Console()
    console.width = max(console.width, 120)
    table = Table("", *STEPS, "epoch", "times faster", "peak GiB", box=box.SIMPLE_HEAD)
    for name in chosen.only:
        work = Work(*WORK[name], threads=chosen.threads)
        commands = {"altub-exp": OWN, "anomalib": [chosen.python, "-m", "bench.peer"]}
        if work.model == "fastflow":
            commands["subnets only"] = [*OWN, "--subnets"]
            if chosen.compiled:
                commands["compiled"] = [*OWN, "--compiled"]
        sides = dict(zip(commands, by_turns(list(commands.values()), work, chosen.rounds), strict=True))
        for label, side in sides.items():
            faster = "" if label == "anomalib" else f"{sides['anomalib']['epoch'] / side['epoch']:.2f}"
            steps = [f"{side[step]:.3f}" for step in STEPS]
            table.add_row(
                f"{name} {work.size} px, {label}", *steps, f"{side['epoch']:.3f}", faster, f"{side['peak']:.2f}"
            )
    console.print(table)
    console.print(
        f"Seconds, median of {chosen.rounds} alternating rounds; torch {torch.__version__}, {chosen.threads} threads"
    )


if __name__ == "__main__":
    main()
