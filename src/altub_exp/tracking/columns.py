"""The columns Source and Dataset of MLflow's interface, and the description of a run, as MLflow itself fills them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from altub_exp.tracking.store import import_mlflow

if TYPE_CHECKING:
    from mlflow import MlflowClient

NOTE = "mlflow.note.content"
"""MLflow's tag for the description of a run, in Markdown."""

NOTE_DIGEST = "note_digest"
"""Tag with a hash of the description, by which an edited one is recognised."""


def source_tags(commit: str | None, dirty: bool | None) -> dict[str, str]:
    """Return MLflow's tags for the program, the commit and the user that a run starts with.

    Args:
        commit: commit of the checkout; None outside of one.
        dirty: True if files differ from it.
    """
    import_mlflow()
    from mlflow.tracking.context.git_context import GitRunContext
    from mlflow.tracking.context.registry import resolve_tags
    from mlflow.utils.mlflow_tags import MLFLOW_GIT_COMMIT, MLFLOW_GIT_DIRTY, MLFLOW_SOURCE_NAME

    own = {MLFLOW_SOURCE_NAME: "altub_exp.train"}  # MLflow would show the path of the file
    if commit is not None:
        own |= {MLFLOW_GIT_COMMIT: commit, MLFLOW_GIT_DIRTY: str(dirty).lower()}
    # MLflow's own git context reads the repository of the working folder, which need not be that of the program
    tags: dict[str, str] = resolve_tags(own, ignore=[GitRunContext])
    return tags


def log_datasets(client: MlflowClient, run_id: str, datasets: Sequence[Mapping[str, Any]]) -> None:
    """Record the images of a run as MLflow datasets; those that the run has already change nothing.

    Args:
        client: MLflow's client.
        run_id: id of the run.
        datasets: for each its ``name``, ``digest``, ``source`` and ``profile``, the numbers of its images.

    Raises:
        MlflowException: the server cannot be reached.
    """
    from mlflow.entities import Dataset, DatasetInput, InputTag
    from mlflow.exceptions import MlflowException
    from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT

    if not datasets:
        return
    inputs = []
    for dataset in datasets:
        entity = Dataset(
            name=dataset["name"],
            digest=dataset["digest"],
            source_type="local",
            source=json.dumps({"uri": dataset["source"]}),
            profile=json.dumps(dataset["profile"]),
        )
        inputs.append(DatasetInput(entity, [InputTag(MLFLOW_DATASET_CONTEXT, "training")]))
    try:
        client.log_inputs(run_id, inputs)
    except MlflowException as error:
        if error.error_code != "BAD_REQUEST":
            raise
        client.log_inputs(run_id, inputs)  # another run recorded the same images at the same moment


def description_tags(present: Mapping[str, str], text: str) -> dict[str, str]:
    """Return the tags that set the description of a run, or none if a user has edited it.

    Args:
        present: the tags that the run has.
        text: the description, Markdown.
    """
    if NOTE in present and present.get(NOTE_DIGEST) != _digest(present[NOTE]):
        return {}
    return {NOTE: text, NOTE_DIGEST: _digest(text)}


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
