"""A detector as a model of MLflow, for ``mlflow models serve`` and ``mlflow.pyfunc.load_model``."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from importlib import metadata
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from altub_exp.data.decoding import read_rgb
from altub_exp.data.files import INVALID, reason_of
from altub_exp.data.images import resize
from altub_exp.detector.graph import FACTS
from altub_exp.errors import UserError
from altub_exp.tracking.store import import_mlflow

if TYPE_CHECKING:
    import pandas as pd

PROGRAM = "detector.pt2"
"""Name of the program's file, see :func:`altub_exp.detector.export.write_torch`, in the model's data."""

COLUMN = "image"
"""The column of a request: the bytes of image files; in JSON they are base64."""


class ServedDetector:
    """The model that MLflow loads.

    Args:
        file: the program.
    """

    def __init__(self, file: Path) -> None:
        extra = {FACTS: ""}
        try:
            with file.open("rb") as stream:
                self._program = torch.export.load(stream, extra_files=extra).module()
        except Exception as error:
            raise UserError(
                f"{file} cannot be read by PyTorch {torch.__version__}: install the versions in the model's "
                "requirements.txt, or export the run again."
            ) from error
        self._facts = json.loads(extra[FACTS])

    def predict(self, table: pd.DataFrame, params: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
        """Score the images of a table, each by itself.

        Args:
            table: the column ``image`` has the bytes of image files.
            params: ``maps=True`` adds the anomaly maps.

        Returns:
            For each image its ``score`` and, if they are asked for, its ``map``, S lists of S numbers.

        Raises:
            MlflowException: an image cannot be read; a server answers with status 400.
        """
        return [self._row(number, data, (params or {}).get("maps", False)) for number, data in enumerate(table[COLUMN])]

    def _row(self, number: int, data: bytes, with_map: bool) -> dict[str, Any]:
        with torch.no_grad():
            outputs = self._program(self._pixels(number, data)[None])
        row: dict[str, Any] = {"score": float(outputs["score"])}
        return row | {"map": outputs["map"][0].tolist()} if with_map else row

    def _pixels(self, number: int, data: bytes) -> Tensor:
        try:
            rgb = read_rgb(BytesIO(data), self._facts["bit_depth"])
        except INVALID as error:
            from mlflow.exceptions import MlflowException

            raise MlflowException.invalid_parameter_value(
                f"Image {number + 1} cannot be read as an image ({reason_of(error)})."
            ) from error
        return resize(rgb, 2 * (self._facts["size"],), self._facts["interpolation"])


def _load_pyfunc(data_path: str) -> ServedDetector:
    """Load the model; MLflow calls it."""
    return ServedDetector(Path(data_path) / PROGRAM)


def save_model(folder: Path, data: Path, facts: Mapping[str, object]) -> None:
    """Save a model of MLflow whose data are a folder with the program; the model brings this package's code along.

    Args:
        folder: the model's folder, which does not exist yet.
        data: the folder.
        facts: become the model's metadata.
    """
    import_mlflow()
    from mlflow.models import ModelSignature
    from mlflow.pyfunc import save_model as save
    from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema

    requirements = [line for line in metadata.requires("altub-exp") or () if "extra ==" not in line]
    parameters = ParamSchema([ParamSpec("maps", DataType.boolean, False)])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MLflow would like an example of the input
        save(
            str(folder),
            loader_module=__name__,
            data_path=str(data),
            code_paths=[str(Path(__file__).parents[1])],
            signature=ModelSignature(Schema([ColSpec(DataType.binary, COLUMN)]), params=parameters),
            pip_requirements=[*requirements, f"torch=={torch.__version__.split('+')[0]}"],
            metadata=dict(facts),
        )
