"""The files that runs keep in MLflow, downloaded when a figure asks for them."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from altub_exp.tracking.store import import_mlflow, reason
from altub_exp.tracking.uri import whole
from analysis.runs.run import Run

if TYPE_CHECKING:
    from mlflow import MlflowClient


class MissingArtifact(Exception):
    """A run's file is not available; the message gives the reason, as the end of a sentence."""


class Artifacts:
    """A store's files, in a temporary folder that is removed with this object.

    Args:
        uri: the store, as :func:`analysis.runs.records.tracking_uri` returned it.
    """

    def __init__(self, uri: str):
        self._uri = uri
        self._client: MlflowClient | None = None
        self._folder = tempfile.TemporaryDirectory(prefix="altub-artifacts-")

    def get(self, run: Run, name: str) -> Path:
        """Return the path of one file of a run, and download it first if that has not been done.

        Raises:
            MissingArtifact: the run has no such file, or it cannot be downloaded.
        """
        target = Path(self._folder.name) / run.run_id
        if (target / name).is_file():
            return target / name
        self._client = self._client or import_mlflow()(tracking_uri=whole(self._uri))
        target.mkdir(exist_ok=True)
        try:
            if name in {file.path for file in self._client.list_artifacts(run.run_id)}:
                return Path(self._client.download_artifacts(run.run_id, name, str(target)))
        except Exception as error:  # whatever MLflow, the network or the file system raise
            raise MissingArtifact(f"its {name} cannot be downloaded ({reason(error)})") from error
        raise MissingArtifact(f"it has no {name} in MLflow")
