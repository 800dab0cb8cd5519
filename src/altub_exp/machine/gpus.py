"""The GPUs of this machine, by the names that CUDA_VISIBLE_DEVICES takes, counted without PyTorch."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence

from altub_exp.errors import UserError


def visible_gpus(wanted: Sequence[str] | None) -> list[str]:
    """The GPUs to use, as CUDA_VISIBLE_DEVICES names them: those wanted, or all that may be used; none: [].

    Without CUDA_VISIBLE_DEVICES these are what ``nvidia-smi -L`` lists: a GPU by its number, and where it is divided,
    its MIG devices by their ids. PyTorch is not asked: it takes seconds, and a context on every GPU.

    Raises:
        UserError: one is wanted that may not be used.
    """
    variable = os.environ.get("CUDA_VISIBLE_DEVICES")
    if variable is not None:
        found = [name.strip() for name in variable.split(",")]
        found = found[: next((n for n, name in enumerate(found) if name in ("", "-1")), None)]  # as CUDA reads it
        source, known = f"CUDA_VISIBLE_DEVICES={variable}", set(found)
    else:
        found, known = _listed()
        source = "nvidia-smi -L"
    if wanted is None:
        return found
    if (variable is not None or known) and (wrong := [name for name in wanted if name not in known]):
        raise UserError(
            f"hydra.launcher.gpus names {wrong[0]}, which {source} does not show: choose from "
            f"{', '.join(found) or 'none'}."
        )
    return list(wanted)


def _listed() -> tuple[list[str], set[str]]:
    try:
        text = subprocess.run(["nvidia-smi", "-L"], check=True, capture_output=True, text=True, timeout=60).stdout
    except (OSError, subprocess.SubprocessError):
        return [], set()
    devices: list[list[str]] = []  # per GPU its number, or its MIG devices
    known: set[str] = set()
    for line in text.splitlines():
        name, _, rest = line.strip().partition(":")
        uuid = rest.partition("(UUID: ")[2].rstrip(") ")
        if name.startswith("GPU "):
            devices.append([name.removeprefix("GPU ")])
            known |= {devices[-1][0], uuid}
        elif name.startswith("MIG ") and devices:
            devices[-1] = [one for one in devices[-1] if not one.isdigit()] + [uuid]
            known.add(uuid)
    return [name for names in devices for name in names], known
