"""The GPUs of this machine, by the names that CUDA_VISIBLE_DEVICES takes, counted without PyTorch."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence

from altub_exp.errors import UserError


def visible_gpus(wanted: Sequence[str] | None) -> list[str]:
    """Return the names of the GPUs to use, in the form of CUDA_VISIBLE_DEVICES: those wanted, or by default all.

    Without CUDA_VISIBLE_DEVICES, all are those of ``nvidia-smi -L``: the number of a GPU, or the ids of its MIG devices
    if it is divided. PyTorch would take seconds, and a context on every GPU.

    Raises:
        UserError: a wanted GPU is not visible.
    """
    variable = os.environ.get("CUDA_VISIBLE_DEVICES")
    if variable is not None:
        visible = [name.strip() for name in variable.split(",")]
        end = next((number for number, name in enumerate(visible) if name in ("", "-1")), None)  # as CUDA reads it
        visible = visible[:end]
        source, known = f"CUDA_VISIBLE_DEVICES={variable}", set(visible)
    else:
        visible, known = _listed()
        source = "nvidia-smi -L"
    if wanted is None:
        return visible
    if (variable is not None or known) and (unknown := [name for name in wanted if name not in known]):
        raise UserError(
            f"hydra.launcher.gpus names {unknown[0]}, which {source} does not show: choose from "
            f"{', '.join(visible) or 'none'}."
        )
    return list(wanted)


def _listed() -> tuple[list[str], set[str]]:
    try:
        text = subprocess.run(["nvidia-smi", "-L"], check=True, capture_output=True, text=True, timeout=60).stdout
    except (OSError, subprocess.SubprocessError):
        return [], set()
    devices: list[list[str]] = []  # for each GPU its number, or its MIG devices
    known: set[str] = set()
    for line in text.splitlines():
        name, _, rest = line.strip().partition(":")
        uuid = rest.partition("(UUID: ")[2].rstrip(") ")
        if name.startswith("GPU "):
            devices.append([name.removeprefix("GPU ")])
            known |= {devices[-1][0], uuid}
        elif name.startswith("MIG ") and devices:
            devices[-1] = [device for device in devices[-1] if not device.isdigit()] + [uuid]
            known.add(uuid)
    return [name for names in devices for name in names], known
