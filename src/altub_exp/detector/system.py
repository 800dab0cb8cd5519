"""The system that a run trains and evaluates, as the loop over the epochs sees it: a flow, or a rival."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from altub_exp.detector.evaluation import Scores, TestSet
from altub_exp.flows.flow import Shape
from altub_exp.runs.folder import RunFolder


class System(Protocol):
    """A detector that learns from normal images epoch by epoch, and scores the test images after each.

    Attributes:
        test: the test images.
        versions: versions of the packages that compute it, beyond this program's own.
        resumable: True if :meth:`save` keeps its state.
    """

    test: TestSet
    versions: Mapping[str, str]
    resumable: bool

    def restore(self, folder: RunFolder) -> int:
        """Restore the state of a run's checkpoint, and return the epoch after which it was saved; 0 if there is none.

        Raises:
            UserError: the checkpoint is damaged.
        """

    def train(self, epoch: int) -> dict[str, float]:
        """Train on all images once, and return the mean losses over the images."""

    def evaluate(self, epoch: int) -> dict[str, float]:
        """Compute the metrics that are due after this epoch.

        Raises:
            Divergence: a score or a latent is not finite.
        """

    def note(self, epoch: int) -> str:
        """Return a remark on this epoch for the terminal; "" for none."""

    def save(self, checkpoint: Path, epoch: int, facts: Mapping[str, Any]) -> None:
        """Write the state after ``epoch``, sealed with the facts; only for a resumable system."""

    def final_scores(self) -> Scores:
        """Score the test images after the last epoch, as new images will be scored."""

    def kept(self) -> tuple[dict[str, Tensor], list[Shape]]:
        """Return the parameters that score new images, and the shapes of the feature maps that they take."""

    def cost(self) -> dict[str, float]:
        """Return the time and memory of single images if they are measured now, otherwise {}."""

    def __str__(self) -> str:
        """Return its origin in a few words: the place of the features, or the program that computes it."""
