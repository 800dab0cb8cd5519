"""One run of this program as MLflow holds it: tags, parameters, last values and series of its metrics."""

from __future__ import annotations

from dataclasses import dataclass, field

from altub_exp.errors import UserError
from altub_exp.metrics.stability import Stability, stability
from altub_exp.runs.states import RunState

UNKNOWN = "unknown"
"""The state of a run that has not recorded one."""


@dataclass(frozen=True)
class Run:
    """One MLflow run; metrics are fractions, loss in nats per dimension, times in Unix milliseconds, epochs from 1.

    Attributes:
        run_id: MLflow's id of the run.
        name: MLflow's name of the run.
        experiment: the name of its MLflow experiment.
        tags: all tags.
        params: the flattened configuration.
        metrics: the last value of every metric.
        series: {metric: {epoch: value}} of the metrics in :data:`analysis.runs.readers.SERIES`; of an epoch that was
            recorded twice the later value.
        started: the time at which it began.
        chosen_window: first and last epoch of the statistics, if they replace the run's own.
    """

    run_id: str
    name: str
    experiment: str
    tags: dict[str, str] = field(default_factory=dict)
    params: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    series: dict[str, dict[int, float]] = field(default_factory=dict)
    started: int = 0
    chosen_window: tuple[int, int] | None = None

    @property
    def state(self) -> str:
        """``running``, ``finished``, ``failed`` or ``crashed``; ``unknown`` if none of them is recorded."""
        status = self.tags.get("status", "")
        return status if status in list(RunState) else UNKNOWN

    @property
    def seed(self) -> str:
        """The seed; ``?`` if it is not recorded."""
        return self.tags.get("seed", "?")

    @property
    def seed_order(self) -> tuple[int, str]:
        """The key that sorts runs by their seeds."""
        return (int(self.seed), "") if self.seed.isdecimal() else (0, self.seed)

    @property
    def window(self) -> tuple[int, int]:
        """First and last epoch of the stability statistics: those chosen, otherwise the run's own.

        Raises:
            UserError: the run has not recorded its own.
        """
        if self.chosen_window is not None:
            return self.chosen_window
        try:
            return int(self.params["eval.first_epoch"]), int(self.params["eval.last_epoch"])
        except (KeyError, ValueError):
            raise UserError(
                f"MLflow run {self.run_id} ({self.name}) has not recorded its window of epochs: choose one by "
                "--window FIRST LAST, or delete the run."
            ) from None

    def complaint(self) -> str | None:
        """Return a sentence if no table can show this run, since its record in MLflow is damaged."""
        try:
            self.missing()
            for metric in self.series:
                self.statistics(metric)
        except UserError as error:
            return str(error)
        except (ArithmeticError, ValueError) as error:
            return f"MLflow run {self.run_id} ({self.name}) cannot be read ({error}): delete the run."
        return None

    @property
    def due_epochs(self) -> list[int]:
        """The epochs of the window that are evaluated."""
        first, last = self.window
        every = int(self.params.get("eval.every", 1))
        return [epoch for epoch in range(first, last + 1) if epoch % every == 0]

    def missing(self, metric: str | None = None) -> int:
        """Return the number of evaluations in the window that lack a metric.

        By default it is the one that every evaluation has: ``image_auroc``, or the loss if the run has no AUROC, since
        its images are all normal.
        """
        series = self.series.get(metric or "image_auroc") or self.series.get(metric or "loss", {})
        return sum(epoch not in series for epoch in self.due_epochs)

    @property
    def last_epoch(self) -> int:
        """The last epoch that any series reaches; 0 before the first."""
        return max((epoch for series in self.series.values() for epoch in series), default=0)

    def statistics(self, metric: str) -> Stability | None:
        """Return mean, standard deviation and best as fractions; None if the run does not reach into its window."""
        series = self.series.get(metric)
        return stability(series, *self.window) if series else None
