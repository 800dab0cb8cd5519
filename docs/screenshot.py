"""Draws docs/images/mlflow.png, the demo's runs and sweep in MLflow's interface, in Chromium.   make screenshot"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from altub_exp.server import first_page  # noqa: E402
from tests.browser.conftest import Browser  # noqa: E402
from tests.browser.pages import cells, open_runs, open_sweep  # noqa: E402
from tests.integration.conftest import Server  # noqa: E402

PICTURE = ROOT / "docs" / "images" / "mlflow.png"
COMMAND = "altub_exp.train -m experiment=demo altub=none,alternating"
WIDTH, RUNS_HEIGHT, SWEEP_HEIGHT = 1400, 360, 420
"""Pixels: of both pages, of the upper part of the list of runs, and of that of the sweep's page."""

COLOURS = 128


def main() -> None:
    """Run the demo in a temporary folder, open its pages in a browser, and write the picture."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)])}
    environment.pop("MLFLOW_TRACKING_URI", None)
    with tempfile.TemporaryDirectory() as folder:
        runs, sweep = Path(folder, "runs.png"), Path(folder, "sweep.png")
        server = Server(Path(folder))
        subprocess.run([sys.executable, "-m", *COMMAND.split()], cwd=folder, env=environment, check=True)
        browser = Browser()
        try:
            server.start()
            open_runs(browser, first_page(server.uri, server.store), WIDTH)
            browser.wait(lambda: "altub_exp.train" in cells(browser))
            browser.screenshot(runs, RUNS_HEIGHT)
            open_sweep(browser, "altub=none,alternating")
            browser.screenshot(sweep, SWEEP_HEIGHT)
        finally:
            browser.driver.quit()
            server.kill()
        with Image.open(runs) as above, Image.open(sweep) as below:
            picture = Image.new("RGB", (WIDTH, RUNS_HEIGHT + SWEEP_HEIGHT), "white")
            picture.paste(above.convert("RGB"))
            picture.paste(below.convert("RGB"), (0, RUNS_HEIGHT))
    picture.quantize(COLOURS, kmeans=3, dither=Image.Dither.NONE).save(PICTURE, optimize=True)
    print(f"{PICTURE}: {picture.width} × {picture.height} pixels, {PICTURE.stat().st_size / 1000:.0f} KB")


if __name__ == "__main__":
    main()
