"""Files of a detector that need no altub-exp, each checked against the detector before it takes its place."""

from __future__ import annotations

import importlib.util
import json
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from altub_exp.config.schema import Config, SyntheticConfig
from altub_exp.data import load_images, open_category
from altub_exp.data.canvas import Canvas
from altub_exp.data.painting import CATEGORIES, DEFECTS
from altub_exp.data.synthetic import image
from altub_exp.detector.graph import FACTS, INPUT, OUTPUTS, graph_facts, traced
from altub_exp.detector.inference import Detector
from altub_exp.detector.threshold import usual_thresholds
from altub_exp.errors import UserError, was_interrupted
from altub_exp.flows.flow import AutocastFlow
from altub_exp.machine.disk import replacing
from altub_exp.runs.folder import RunFolder

OPSET = 20
"""Version of ONNX's operators in the files; ONNX Runtime reads it from 1.17 on."""

TOLERANCE = 1e-4
"""The largest difference of maps and scores, relative to the spread of the detector's own maps of the same images."""

CHECKED = 6
"""Images of the check."""

NEEDED = {"onnx": ("onnx", "onnxruntime", "onnxscript")}
"""The modules that a format needs beyond the program's own dependencies; they are the extra ``export``."""

Outputs = tuple[NDArray[np.float32], NDArray[np.float32]]


class Deviation(NamedTuple):
    """The largest differences of a file from its detector, relative to the spread of the detector's maps.

    Attributes:
        maps: of the maps.
        scores: of the image scores.
    """

    maps: float
    scores: float


def require_plain(detector: Detector) -> None:
    """Raise a UserError if a detector's image is more than one stretched square, which is all that a graph takes."""
    if not detector.canvas.is_plain:
        raise UserError(
            f"The run has dataset.{'keep_aspect=true' if detector.canvas.tiles == 1 else 'tiles'}, and an exported "
            "graph takes one square image: score images with altub_exp.predict or altub_exp.Detector."
        )
    if (rotations := detector.backbone.passes.rotations) > 1:
        raise UserError(
            f"The run has model.rotations={rotations}, and an exported graph rotates no image: score images with "
            "altub_exp.predict or altub_exp.Detector."
        )


def require_modules(format: str) -> None:
    """Raise a UserError if a module that a format needs is not installed."""
    missing = [module for module in NEEDED.get(format, ()) if importlib.util.find_spec(module) is None]
    if missing:
        raise UserError(f"--format {format} needs {' and '.join(missing)}: pip install 'altub-exp[export]'.")


def write_onnx(path: Path, detector: Detector, facts: Mapping[str, object], images: Tensor) -> Deviation:
    """Write a detector as an ONNX file whose metadata are the facts, and return its deviation.

    Raises:
        UserError: ONNX lacks an operation, the file would be too large, or its numbers are others.
    """
    import onnxruntime

    if isinstance(detector.density.flow, AutocastFlow):
        raise UserError(
            "precision=bf16 rounds in a type that ONNX Runtime does not compute on a CPU: choose --format torch."
        )
    with _refusing("ONNX"), replacing(path) as unfinished:
        program = torch.onnx.export(
            traced(detector),
            dynamo=True,
            verbose=False,
            opset_version=OPSET,
            input_names=[INPUT],
            output_names=OUTPUTS,
            dynamic_shapes={INPUT: {0: "batch"}},
        )
        assert program is not None
        program.model.metadata_props.update({key: _text(value) for key, value in facts.items()})
        program.save(unfinished, external_data=False)
        session = onnxruntime.InferenceSession(unfinished, providers=["CPUExecutionProvider"])
        return deviation(lambda batch: session.run(list(OUTPUTS), {INPUT: batch.numpy()}), detector, images)


def write_torch(path: Path, detector: Detector, facts: Mapping[str, object], images: Tensor) -> Deviation:
    """Write a detector as a program of ``torch.export`` with the facts inside, and return its deviation.

    Raises:
        UserError: PyTorch cannot export an operation, or the file's numbers are others.
    """
    with _refusing("torch.export"), replacing(path) as unfinished:
        with unfinished.open("wb") as new:
            torch.export.save(traced(detector), new, extra_files={FACTS: json.dumps(facts)})
        with unfinished.open("rb") as written:
            program = torch.export.load(written).module()

        def run(batch: Tensor) -> Outputs:
            outputs = program(batch)
            maps, scores = (outputs[name].numpy() for name in OUTPUTS)
            return maps, scores

        return deviation(run, detector, images)


WRITERS: dict[str, Callable[[Path, Detector, Mapping[str, object], Tensor], Deviation]] = {
    "onnx": write_onnx,
    "torch": write_torch,
}
"""The writer of each format: takes a file, the detector, the facts, and the images of the check."""


@torch.no_grad()
def deviation(run: Callable[[Tensor], Outputs], detector: Detector, images: Tensor) -> Deviation:
    """Return the largest differences of maps and scores from those of the detector.

    The images are run in batches of two sizes.

    Args:
        run: returns maps [B, S, S] and scores [B] of uint8 images [B, 3, S, S].
        detector: the detector.
        images: uint8 [N, 3, S, S].

    Raises:
        UserError: one of them is larger than :data:`TOLERANCE`, or not a number.
    """
    parts = torch.split(images, [1, len(images) - 1]) if len(images) > 1 else [images]
    found = [run(part) for part in parts]
    wanted = [detector.score_pixels(part) for part in parts]
    maps, scores = (np.concatenate([part[kind] for part in found]).astype(np.float64) for kind in (0, 1))
    own_maps, own_scores = (torch.cat([part[kind] for part in wanted]).double().numpy() for kind in (0, 1))
    spread = float(np.ptp(own_maps))
    worst = [float(np.abs(a - b).max()) / spread for a, b in ((maps, own_maps), (scores, own_scores))]
    if not max(worst) <= TOLERANCE:  # also if it is NaN
        raise UserError(
            f"The exported detector would give other numbers than the run (by {max(worst):.1e} of the maps' spread, "
            f"{TOLERANCE:.0e} are allowed), so that no file is written: score images with altub_exp.predict."
        )
    return Deviation(*worst)


def images_of_check(config: Config) -> tuple[Tensor, str]:
    """Return images of the run's size for the check, uint8 [N, 3, S, S], and their origin in words.

    They are test images of the run, or, where those are not at their place any more, built-in images of all defects.
    """
    dataset = config.dataset
    size = dataset.image_size
    with suppress(UserError):
        if not isinstance(dataset, SyntheticConfig) or Path(dataset.root).is_dir():  # else they would be drawn to disk
            images = open_category(dataset)
            own = images.test or images.train
            chosen = [own[round(row)] for row in np.linspace(0, len(own) - 1, CHECKED)]
            return load_images(
                chosen, Canvas.of(dataset), dataset.interpolation, dataset.bit_depth
            ), "images of the run"
    random = np.random.default_rng(0)
    kinds = [(category, kind) for category in CATEGORIES for kind in DEFECTS[category]]
    drawn = [image(category, kind, max(size, 32), random)[0][:size, :size] for category, kind in kinds]
    return torch.from_numpy(np.stack(drawn)).permute(0, 3, 1, 2).contiguous(), "drawn images"


def file_facts(folder: RunFolder, config: Config, detector: Detector) -> dict[str, object]:
    """Return the facts that are written into a file: those of the graph, of the run and of the program."""
    status = folder.status() or {}
    return graph_facts(detector) | {
        "thresholds": usual_thresholds(detector.images),
        "model": config.model.name,
        "backbone": config.backbone.name,
        "altub": config.altub.name,
        "dataset": f"{config.dataset.name}/{config.dataset.category}",
        "run": folder.path.resolve().name,
        "run_uid": status.get("run_uid"),
        "altub_exp": metadata.version("altub-exp"),
        "torch": str(torch.__version__),
    }


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


@contextmanager
def _refusing(target: str) -> Iterator[None]:
    """Turn the errors of an export into one sentence, and keep its messages from the terminal."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except (UserError, OSError):
        raise
    except Exception as error:
        if was_interrupted(error):
            raise
        lines = (line.strip() for line in str(error).splitlines())
        reason = next((line for line in lines if line), type(error).__name__)[:300].rstrip(".:")
        raise UserError(f"This detector cannot be written for {target} ({reason}): choose another --format.") from error
    finally:
        logging.disable(before)
