"""Draws docs/images/demo.png, the demo's stability curves beside its anomaly maps.   make picture"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
PICTURE = ROOT / "docs" / "images" / "demo.png"
COMMANDS = (
    "altub_exp.train -m experiment=demo altub=none,alternating",
    "analysis.figures stability --experiment demo",
    "analysis.figures maps --experiment demo",
)
HEIGHT, MARGIN, GAP = 820, 24, 48
"""Pixels: of the two figures, around the picture, and between them."""

COLOURS = 256
"""A palette of this size keeps the file below 300 KB, and no difference is visible."""


def side_by_side(figures: list[Path]) -> Image.Image:
    """Return the figures at the same height on white, from left to right."""
    parts = []
    for figure in figures:
        with Image.open(figure) as opened:
            image = opened.convert("RGB")
        parts.append(image.resize((round(image.width * HEIGHT / image.height), HEIGHT), Image.Resampling.LANCZOS))
    width = sum(part.width for part in parts) + GAP * (len(parts) - 1) + 2 * MARGIN
    picture = Image.new("RGB", (width, HEIGHT + 2 * MARGIN), "white")
    left = MARGIN
    for part in parts:
        picture.paste(part, (left, MARGIN))
        left += part.width + GAP
    return picture


def main() -> None:
    """Run the demo in a temporary folder, draw its figures, and write the picture."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)])}
    environment.pop("MLFLOW_TRACKING_URI", None)
    with tempfile.TemporaryDirectory() as folder:
        for command in COMMANDS:
            subprocess.run([sys.executable, "-m", *command.split()], cwd=folder, env=environment, check=True)
        drawn = Path(folder, "results", "figures")
        picture = side_by_side([next(drawn.glob(f"{kind}-*.png")) for kind in ("stability", "maps")])
    PICTURE.parent.mkdir(exist_ok=True)
    picture.quantize(COLOURS, kmeans=3, dither=Image.Dither.NONE).save(PICTURE, optimize=True)
    print(f"{PICTURE}: {picture.width} × {picture.height} pixels, {PICTURE.stat().st_size / 1000:.0f} KB")


if __name__ == "__main__":
    main()
