"""The MLflow run that stands for a sweep: the parent of its runs, found again by its name when the sweep goes on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

from filelock import FileLock

from altub_exp.errors import UserError, was_interrupted
from altub_exp.machine.terminal import console
from altub_exp.runs.folder import RunFolder
from altub_exp.runs.journal import now_ms
from altub_exp.tracking.store import Unreachable, connect, experiment_id, parent_run, reason
from altub_exp.tracking.tracker import recorded
from altub_exp.tracking.uri import redacted, resolve_uri

T = TypeVar("T")

LOCK_WAIT = 60.0
"""Seconds to wait for another caller that looks for the same parent."""


@dataclass
class Parent:
    """A sweep's run in MLflow, as a context: created or taken up at its begin, ended at its end.

    Where MLflow cannot be reached the sweep goes on without; :meth:`open` and :meth:`close` may be called again later.

    Args:
        uri: what :func:`altub_exp.tracking.uri.resolve_uri` returned.
        experiment: name of the MLflow experiment.
        name: the sweep's.
        runs_dir: where its runs lie; two callers at once meet there, so that only one creates it.
        arguments: the command line, for the note that MLflow shows.
    """

    uri: str
    experiment: str
    name: str
    runs_dir: Path
    arguments: Sequence[str] = ()
    _run_id: str | None = field(default=None, init=False)
    _closed: bool = field(default=False, init=False)

    def find(self, started: int | None = None) -> bool:
        """Find it, or create it.

        Args:
            started: when the sweep began, Unix milliseconds; None: now.

        Returns:
            Whether MLflow says that it is running.

        Raises:
            UserError: the experiment was deleted.
            Exception: whatever keeps MLflow from recording it.
        """
        client = connect(self.uri)
        place = experiment_id(client, self.uri, self.experiment)
        lock = self.runs_dir / ".sweeps" / ".lock"
        lock.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(lock, timeout=LOCK_WAIT):
            self._run_id = parent_run(client, place, self.name)
            if self._run_id is not None:
                return str(client.get_run(self._run_id).info.status) == "RUNNING"
            tags = {"sweep_parent": self.name}
            if self.arguments:
                tags["mlflow.note.content"] = f"-m {' '.join(self.arguments)}"
            created = client.create_run(place, start_time=started or now_ms(), tags=tags, run_name=self.name)
            self._run_id = str(created.info.run_id)
            return True

    def open(self) -> None:
        """Find or create it, and mark it as running; does nothing where that has been done. Raises as :meth:`find`."""
        if self._run_id is None and not self.find():
            connect(self.uri).update_run(self._run_id, status="RUNNING")

    def close(self, ended: int | None = None, status: str = "FINISHED") -> None:
        """Mark it as ended, now or at a time in Unix milliseconds. Raises as :meth:`find`."""
        self.open()
        connect(self.uri).set_terminated(self._run_id, status, ended)
        self._closed = True

    def __enter__(self) -> Parent:
        """Open it, or say that MLflow does not record."""
        try:
            self.open()
        except UserError:
            raise
        except Exception as error:  # whatever MLflow or the network raise: the runs record themselves later
            where = redacted(self.uri)
            console.print(f"MLflow at {where} does not record the sweep ({reason(error)}); its runs go on.")
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        """Close it, unless that has been done or tried in vain until now; after an interrupt as one that was killed."""
        if self._closed or self._run_id is None:
            return
        try:
            self.close(status="FINISHED" if error is None else "KILLED" if was_interrupted(error) else "FAILED")
        except Exception as refusal:  # as above
            console.print(f"MLflow at {redacted(self.uri)} does not record the sweep's end ({reason(refusal)}).")


def told(parent: Parent, work: Callable[[], T]) -> T:
    """Do something with a sweep's own run; whatever keeps MLflow from recording it becomes :class:`Unreachable`."""
    try:
        return work()
    except UserError:
        raise
    except Exception as error:
        raise Unreachable(parent.uri, error) from error


class Parents:
    """The parents of runs that are synchronised: found or created before their runs are sent, ended behind them.

    Args:
        root: the folder of the runs.
        uri: where they are sent instead of their own places.
        experiment: likewise.
    """

    def __init__(self, root: Path, uri: str | None, experiment: str | None) -> None:
        self._root, self._uri, self._experiment = root, uri, experiment
        self._found: dict[tuple[str, str, str], tuple[Parent, bool, list[RunFolder]]] = {}

    def take(self, folder: RunFolder) -> None:
        """A run is about to be sent: its parent, if it has one, has to be there.

        Raises:
            UserError: a file of the run is damaged, or its experiment was deleted.
            Unreachable: the server does not record.
        """
        record = recorded(folder)
        if record is None or "sweep" not in record["tags"]:
            return
        uri, experiment = self._uri or resolve_uri(record["uri"]), self._experiment or record["experiment"]
        key = (uri, experiment, record["tags"]["sweep"])
        if key not in self._found:
            parent = Parent(*key, self._root)
            self._found[key] = parent, told(parent, lambda: parent.find(record["start_time"])), []
        self._found[key][2].append(folder)

    def end(self) -> list[str]:
        """Mark those as ended none of whose runs is computed any more; returns their names. Raises as :meth:`take`."""
        names = []
        for parent, running, folders in self._found.values():
            if running and not any(folder.is_locked() for folder in folders):
                ended = max(int((folder.status() or {}).get("ended", 0)) for folder in folders)
                told(parent, partial(parent.close, ended or None))
                names.append(parent.name)
        return names
