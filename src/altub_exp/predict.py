"""Scores new images with a finished run.   python -m altub_exp.predict --help"""

from __future__ import annotations

import argparse
import csv
import logging
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from altub_exp.config.schema import Device
from altub_exp.errors import UserError
from altub_exp.machine.command_line import INTERRUPTED, command_parser, run_command
from altub_exp.text import csv_cell, say

EPILOG = """examples:
  python -m altub_exp.predict runs/folder/bolts/fastflow-r18/alternating/seed25-1a2b3c4d new/bolts
  python -m altub_exp.predict RUN part1.png part2.png --output today --maps tiff --no-overlays
  python -m altub_exp.predict RUN new/bolts --threshold quantile=0.99

OUTPUT/scores.csv has a row per image: file, score (higher is more anomalous), map, overlay, error. With --threshold it
has a column decision too: defective if the score is above the threshold, otherwise normal. quantile=Q is that quantile
of the scores of the run's normal test images, or without test images of its training images; f1 is where F1 over its
test images is largest.
OUTPUT/maps/ has one map per image at the model's input size, with tiles at that of all of them: 16-bit PNG on the scale
of the run's own test images (0 is their smallest value, 65535 their largest; values beyond are cut off; the PNG's texts
minimum and maximum name both), or TIFF with the values themselves. OUTPUT/overlays/ has the map in colours over the
image, on the same scale.
A file that cannot be read gets a message in the column error; the others are scored, and the exit status is 1."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Score the images of the command line, and return the exit status."""
    options = _parser().parse_args(arguments)
    return run_command(lambda: _predict(options))


def _predict(options: argparse.Namespace) -> int:
    logging.getLogger("altub_exp").addHandler(logging.NullHandler())
    from altub_exp.detector.inference import Detector  # after the parser: --help needs no torch
    from altub_exp.detector.predictions import find_images, left_out, score
    from altub_exp.detector.threshold import DEFECTIVE, NORMAL, find_threshold, parse_rule
    from altub_exp.method.scoring import localises

    rule = None if options.threshold is None else parse_rule(options.threshold)
    table = options.output / "scores.csv"
    items = find_images(options.images)
    for sentence in left_out(options.images):
        say(f"note: {sentence}", error=True)
    if table.exists() and not options.overwrite:
        raise UserError(f"{table} exists: give another folder with --output, or --overwrite.")
    detector = Detector.load(options.run, options.device, options.weights, replay=True)
    if not localises(detector.scoring):
        say("note: the run's model scores images as a whole: there are no maps and overlays", error=True)
        options.maps, options.overlays = "none", False
    threshold = None if rule is None else find_threshold(rule, detector.images)
    columns = ["file", "score", *(["decision"] if threshold else []), "map", "overlay", "error"]
    options.output.mkdir(parents=True, exist_ok=True)
    broken, decisions = 0, Counter[str]()
    try:
        with table.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:  # names as they are
            rows = csv.DictWriter(file, columns)
            rows.writeheader()
            for row in score(detector, items, options.output, options.maps, options.overlays):
                if threshold and not row["error"]:
                    row["decision"] = threshold.decision(float(row["score"]))
                    decisions[row["decision"]] += 1
                rows.writerow({column: csv_cell(value) for column, value in row.items()})
                file.flush()
                broken += 1 if row["error"] else 0
    except KeyboardInterrupt:
        say(f"interrupted; the scores so far are in {table}", error=True)
        return INTERRUPTED
    say(f"{len(items) - broken} images scored: {table}")
    if threshold:
        say(f"threshold {threshold.value} ({threshold.origin})")
        say(f"{decisions[DEFECTIVE]} {DEFECTIVE}, {decisions[NORMAL]} {NORMAL}")
    if broken:
        say(f"error: {broken} files could not be read as images; {table} names them.", error=True)
    return 1 if broken else 0


def _parser() -> argparse.ArgumentParser:
    parser = command_parser(
        "predict", "Score new images with a finished run: image scores, anomaly maps and heat-map overlays.", EPILOG
    )
    parser.add_argument("run", type=Path, help="folder of a finished run")
    parser.add_argument("images", type=Path, nargs="+", help="image files, or folders of images")
    parser.add_argument("--output", type=Path, default=Path("predictions"), help="default: %(default)s")
    parser.add_argument("--overwrite", action="store_true", help="replace earlier results in the output folder")
    parser.add_argument("--maps", choices=("png", "tiff", "none"), default="png", help="default: %(default)s")
    parser.add_argument("--no-overlays", dest="overlays", action="store_false", help="write no overlays")
    parser.add_argument(
        "--threshold", metavar="quantile=Q|f1|NUMBER", help="decide which images are defective: quantile=0.99, f1, 1.5"
    )
    parser.add_argument("--weights", help="the backbone's weights file, if it has moved since the training")
    parser.add_argument("--device", choices=[device.value for device in Device], default="auto", help="default: auto")
    return parser


if __name__ == "__main__":
    sys.exit(main())
