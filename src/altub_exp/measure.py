"""Measures finished runs: normality of every unit, time and memory of an image.   python -m altub_exp.measure --help"""

from __future__ import annotations

import argparse
import logging
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from altub_exp.config.schema import Device
from altub_exp.errors import Divergence, UserError
from altub_exp.machine.command_line import command_parser, run_command
from altub_exp.text import say

if TYPE_CHECKING:
    from altub_exp.detector.inference import Detector
    from altub_exp.runs.folder import RunFolder

EPILOG = """examples:
  python -m altub_exp.measure runs/mvtec/capsule/fastflow-cait/none/seed25-1a2b3c4d --normality       (Fig. 1)
  python -m altub_exp.measure runs/mvtec/capsule/fastflow-*/*/seed25-* --timing 100                   (Table 7)

--normality writes normality.json: Shapiro-Wilk and Kolmogorov-Smirnov tests of every latent unit over the normal images
of training and of test. --timing N times N images one by one, from an image in memory to its anomaly map, and measures
the memory that this takes: run nothing else on the machine meanwhile. Neither changes a run's numbers; both are sent to
MLflow. A measurement that a run already has is not repeated. Name the folder of the images with --root if they have
moved since the training."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure the runs of the command line, and return the exit status."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if not (options.normality or options.timing):
        parser.error("nothing to measure: give --normality, --timing N, or both")
    return run_command(lambda: _measure(options))


def _measure(options: argparse.Namespace) -> int:
    from altub_exp.runs.folder import RunFolder

    logging.getLogger("altub_exp").addHandler(logging.NullHandler())
    for path in options.runs:
        say(f"{path}: {measure(RunFolder(path), options)}")
    return 0


def measure(folder: RunFolder, options: argparse.Namespace) -> str:
    """Take the missing measurements of one run, and add them to its summary.

    Returns:
        A short report of the new measurements.

    Raises:
        UserError: the run is not finished or in use, or it was trained on other images.
    """
    from altub_exp.detector.inference import Detector, cost_of_inference  # after the parser: --help needs no torch
    from altub_exp.tracking.lifecycle import add_to_summary

    # before the lock, which would create the folder
    detector = Detector.load(folder.path, options.device, options.weights)
    report: list[str] = []
    measured: dict[str, float] = {}
    with folder.lock():
        if options.normality and not folder.normality.exists():
            report.append(write_normality(folder, detector, options.root))
        if options.timing and "inference_mb" not in (folder.status() or {}).get("summary", {}):
            measured = cost_of_inference(detector, options.timing)
            report.append(
                "{inference_ms:.2f} ± {inference_ms_std:.2f} ms and {inference_mb:.0f} MB per image".format(**measured)
            )
        if report:
            add_to_summary(folder, measured)
    return "; ".join(report) or "nothing to do, it has been measured already"


def write_normality(folder: RunFolder, detector: Detector, root: str | None) -> str:
    """Test every latent unit for normality, and write ``normality.json`` (Fig. 1 of arXiv 2210.14913)."""
    from altub_exp.config.compose import load_config
    from altub_exp.data import open_category
    from altub_exp.detector.flow_system import load_features
    from altub_exp.detector.latents import unit_normality
    from altub_exp.machine.disk import write_json
    from altub_exp.metrics.shapiro import FEWEST_VALUES

    config = load_config(folder.config)
    config.dataset.root = root or config.dataset.root
    images = open_category(config.dataset, config.cache.dir)
    if images.fingerprint() != (folder.status() or {}).get("data"):
        raise UserError(f"{images.root} holds other images than those of the run {folder.path}: name theirs by --root.")
    features = load_features(config, images, detector.device)
    tested, left_out = {}, []
    for name, maps, rows in (("train", features.train, None), ("test_good", features.test, features.good)):
        if len(maps if rows is None else rows) < FEWEST_VALUES:
            left_out.append(f", fewer than {FEWEST_VALUES} images in {name}: not tested")
            continue
        try:
            units = unit_normality(detector.density, maps, rows, memory_gb=config.latent_memory_gb)
        except Divergence as error:
            raise UserError(f"The latent units of {folder.path} cannot be tested for normality: {error}.") from error
        tested[name] = units.to_json()
    write_json(folder.normality, tested)
    count = sum(math.prod(shape) for shape in detector.density.flow.shapes)
    return f"normality of {count:,} latent units in {folder.normality.name}{''.join(left_out)}"


def _parser() -> argparse.ArgumentParser:
    parser = command_parser(
        "measure", "Measure finished runs: normality of the units, time and memory of an image.", EPILOG
    )
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="folders of finished runs")
    parser.add_argument("--normality", action="store_true", help="test every latent unit for normality")
    parser.add_argument(
        "--timing", type=int, default=0, metavar="N", help="time N single images, and measure the memory"
    )
    parser.add_argument("--root", help="folder of the images, if they have moved since the training")
    parser.add_argument("--weights", help="the backbone's weights file, if it has moved since the training")
    parser.add_argument("--device", choices=[device.value for device in Device], default="auto", help="default: auto")
    return parser


if __name__ == "__main__":
    sys.exit(main())
