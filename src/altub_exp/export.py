"""Writes a finished run's detector for use without altub-exp.   python -m altub_exp.export --help"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from altub_exp.errors import UserError
from altub_exp.machine.command_line import command_parser, run_command
from altub_exp.text import say

if TYPE_CHECKING:
    from altub_exp.runs.folder import RunFolder
    from altub_exp.tracking.tracker import Tracker

FILES = {"onnx": Path("detector.onnx"), "torch": Path("detector.pt2")}
"""The default output of each format that is a file."""

EPILOG = """examples:
  python -m altub_exp.export runs/folder/bolts/fastflow-r18/alternating/seed25-1a2b3c4d --format onnx
  python -m altub_exp.export RUN --format torch --output bolts.pt2
  python -m altub_exp.export RUN --format mlflow

The file is one graph, from pixels to anomaly map and score: input `images`, uint8 [B, 3, S, S], RGB, resized to S × S
beforehand; outputs `map` [B, S, S] and `score` [B]. Its metadata name S, the resizing and the run. Before it is written
its numbers are compared to the run's own on the CPU; a file whose numbers differ is refused.
onnx needs pip install 'altub-exp[export]'. mlflow adds a model to the run in MLflow, for `mlflow models serve`."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Export the run of the command line, and return the exit status."""
    options = _parser().parse_args(arguments)
    return run_command(lambda: _export(options))


def _export(options: argparse.Namespace) -> int:
    logging.getLogger("altub_exp").addHandler(logging.NullHandler())
    from altub_exp.config.compose import load_config
    from altub_exp.detector.export import WRITERS, file_facts, images_of_check, require_modules, require_plain
    from altub_exp.detector.inference import Detector  # after the parser: --help needs no torch
    from altub_exp.detector.served import PROGRAM, save_model
    from altub_exp.runs.folder import RunFolder
    from altub_exp.tracking.tracker import Tracker

    require_modules(options.format)
    output: Path | None = options.output or FILES.get(options.format)
    if output is not None and options.format not in FILES:
        raise UserError(f"--format {options.format} writes no file: leave --output out.")
    if output is not None and output.exists() and not options.overwrite:
        raise UserError(f"{output} exists: give another file with --output, or --overwrite.")
    detector = Detector.load(options.run, "cpu", options.weights)
    require_plain(detector)
    folder = RunFolder(options.run)
    tracker = Tracker.from_record(folder) if output is None else None
    if output is None and tracker is None:
        raise UserError(f"{folder.path} has no record for MLflow: give the run's training command again.")
    config = load_config(folder.config)
    images, origin = images_of_check(config)
    facts = file_facts(folder, config, detector)
    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
        deviation = WRITERS[options.format](output, detector, facts, images)
        say(f"{output}: {output.stat().st_size / 1e6:.1f} MB")
    elif tracker is not None:
        with tempfile.TemporaryDirectory() as temporary:
            data, model = Path(temporary, "data"), Path(temporary, "model")
            data.mkdir()
            deviation = WRITERS["torch"](data / PROGRAM, detector, facts, images)
            save_model(model, data, facts)
            uri = log_model(folder, tracker, model)
        say(f"MLFLOW_TRACKING_URI={tracker.uri} mlflow models serve --env-manager local --model-uri {uri}")
    largest = f"maps {deviation.maps:.1e}, scores {deviation.scores:.1e} of the maps' spread"
    say(f"checked on {len(images)} {origin}, largest difference from the run: {largest}")
    return 0


def log_model(folder: RunFolder, tracker: Tracker, model: Path) -> str:
    """Send what MLflow lacks of a run, and a saved model of it; return the model's URI.

    Raises:
        UserError: MLflow does not answer, or another process uses the run.
    """
    from altub_exp.tracking.store import Unreachable, unreachable
    from altub_exp.tracking.sync import sync_run

    try:
        sync_run(folder)
        with folder.lock(), unreachable(tracker.uri):
            return tracker.log_model(model, "detector")
    except Unreachable as error:
        raise UserError(f"{error} Give the same command again when it does.") from error


def _parser() -> argparse.ArgumentParser:
    parser = command_parser("export", "Write a finished run's detector for use without altub-exp.", EPILOG)
    parser.add_argument("run", type=Path, help="folder of a finished run")
    parser.add_argument("--format", choices=(*FILES, "mlflow"), required=True)
    parser.add_argument("--output", type=Path, help="default: detector.onnx or detector.pt2 in this folder")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing file")
    parser.add_argument("--weights", help="the backbone's weights file, if it has moved since the training")
    return parser


if __name__ == "__main__":
    sys.exit(main())
