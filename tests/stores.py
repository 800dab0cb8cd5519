"""An empty MLflow store: preparing one takes seconds, so each process prepares one and copies it."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from functools import cache
from pathlib import Path

from altub_exp.tracking.store import prepare_store


def place_store(folder: Path) -> Path:
    """Create ``mlflow.db`` in the folder unless it exists."""
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
