"""An empty MLflow store, prepared by the program once per process and copied from then on: that takes seconds."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from functools import cache
from pathlib import Path

from altub_exp.tracking.store import prepare_store


def place_store(folder: Path) -> Path:
    """``mlflow.db`` in the folder; one that is there already stays as it is."""
    path = folder / "mlflow.db"
    if not path.exists():
        shutil.copy(_empty(), path)
    return path


@cache
def _empty() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="empty-store-"))
    atexit.register(shutil.rmtree, folder)
    prepare_store(f"sqlite:///{folder}/mlflow.db")
    return folder / "mlflow.db"
