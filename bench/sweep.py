"""The time that a sweep of 240 finished runs takes to find that all are finished.   python -m bench.sweep

MVTec AD's 15 categories have a few random images each; the folders are those of 240 finished runs of 300 epochs.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from hydra import compose, initialize_config_dir
from PIL import Image

from altub_exp.config.compose import conf_dir, register_schema
from altub_exp.runs.folder import RunFolder
from altub_exp.runs.states import RunState

ARGUMENTS = [
    *("-m", "backbone=r18,wrn50,deit,cait", "dataset.category=all", "altub=none,alternating", "seed=1,2"),
    "backbone.weights=random",
]


def command(*more: str) -> list[str]:
    """Return the sweep's command line."""
    return [sys.executable, "-m", "altub_exp.train", *ARGUMENTS, *more]


def draw(root: Path) -> None:
    """Write MVTec AD's layout with seven images of 16 px in each category."""
    random = np.random.default_rng(0)
    register_schema()
    with initialize_config_dir(conf_dir(), version_base="1.3"):
        categories = compose("train", ["dataset.category=screw"]).dataset.categories
    mask = np.pad(np.full((8, 8), 255, np.uint8), 4)
    for category in categories:
        for folder, count in (("train/good", 3), ("test/good", 2), ("test/cut", 2)):
            for number in range(count):
                file = root / category / folder / f"{number:03}.png"
                file.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(random.integers(256, size=(16, 16, 3), dtype=np.uint8)).save(file)
        for number in range(2):
            file = root / category / "ground_truth/cut" / f"{number:03}_mask.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(mask).save(file)


def finish(cwd: Path) -> int:
    """Write the folder of every run of the sweep as that of a finished one, and return their number."""
    plan = subprocess.run(command("sweep.dry_run=true"), cwd=cwd, check=True, capture_output=True, text=True).stderr
    folders = [RunFolder(cwd / line.split()[1]) for line in plan.splitlines() if "  runs/" in line]
    rows = [
        {"epoch": epoch, "loss": -0.5, "pixel_auroc": 0.97, "image_auroc": 0.95, "seconds": 1.0, "time": 1}
        for epoch in range(1, 301)
    ]
    for folder in folders:
        folder.write_status(state=RunState.finished, host="bench", checkpoint_epoch=300, summary={})
        folder.journal.file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        _, category, model, base, seed = folder.path.relative_to(cwd / "runs").parts
        name, _, backbone = model.partition("-")
        folder.config.write_text(
            f"model: {{name: {name}}}\nbackbone: {{key: {backbone}}}\ndataset: {{name: mvtec, category: {category}}}\n"
            f"altub: {{name: {base}}}\ntrain: {{epochs: 300}}\nseed: {seed.partition('-')[0].removeprefix('seed')}\n"
        )
    return len(folders)


def main() -> None:
    """Print the seconds until the sweep has found all runs finished."""
    parser = argparse.ArgumentParser(prog="python -m bench.sweep", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="rounds to measure (default: %(default)s)")
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder:
        cwd = Path(folder)
        draw(cwd / "data/mvtec")
        count = finish(cwd)
        for _ in range(rounds):
            start = time.perf_counter()
            summary = subprocess.run(command(), cwd=cwd, check=True, capture_output=True, text=True).stderr
            seconds = time.perf_counter() - start
            assert f"{count} runs: {count} finished; 0 to compute." in summary, summary
            print(f"{count} finished runs: nothing to do, found in {seconds:.1f} s")


if __name__ == "__main__":
    main()
