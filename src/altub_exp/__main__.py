"""Lists the program's commands or runs one.   altub-exp, or python -m altub_exp"""

from __future__ import annotations

import runpy
import sys
from collections.abc import Sequence

from altub_exp.errors import did_you_mean
from altub_exp.machine.command_line import take_interrupts
from altub_exp.text import say

COMMANDS = {
    "train": ("altub_exp.train", "train one model on one category, and record every number"),
    "sweep": ("altub_exp.train", "train many: lists of values, all categories, a table of the paper (train -m)"),
    "predict": ("altub_exp.predict", "score new images with a finished run"),
    "export": ("altub_exp.export", "write a finished run's detector as ONNX, for PyTorch or for MLflow"),
    "measure": ("altub_exp.measure", "test a finished run's latents for normality, time its inference"),
    "status": ("altub_exp.status", "show the state of all runs, and mark those whose process has died"),
    "sync": ("altub_exp.sync", "send missing parts of runs to MLflow"),
    "data": ("altub_exp.data", "download a data set, verify one, fetch weights of backbones"),
    "cache": ("altub_exp.cache", "show the feature cache, or prune it"),
    "server": ("altub_exp.server", "start an MLflow server for many runs"),
    "tables": ("analysis.tables", "the paper's tables and the stability table, from MLflow"),
    "figures": ("analysis.figures", "the paper's figures and those of all runs, from MLflow"),
    "report": ("analysis.report", "one page with all tables and figures"),
}
"""Module and purpose of each command."""

EPILOG = """altub-exp COMMAND --help explains a command; python -m MODULE is the same without the console script.
A first try on built-in images, a minute on two cores:
  altub-exp sweep experiment=demo altub=none,alternating && altub-exp tables stability --experiment demo"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command of the first argument; without arguments, list the commands."""
    take_interrupts()
    name, *rest = (sys.argv[1:] if arguments is None else arguments) or ["--help"]
    if name in ("-h", "--help"):
        say("usage: altub-exp COMMAND …\n")
        say("Does learning the base distribution (AltUB) make a flow-based anomaly detector better and steadier?\n")
        for command, (module, purpose) in COMMANDS.items():
            say(f"  {command:8} {purpose}  [{module}]")
        say(f"\n{EPILOG}")
        return 0
    if name not in COMMANDS:
        meant = did_you_mean(name, COMMANDS)
        say(f"error: there is no command {name!r}{meant}: choose one of {', '.join(COMMANDS)}.", error=True)
        return 1
    module, _ = COMMANDS[name]
    sys.argv = [f"altub-exp {name}", *(["-m"] if name == "sweep" else []), *rest]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
