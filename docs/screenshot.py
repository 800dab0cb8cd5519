"""Draws docs/images/mlflow.png: the runs of the demo in MLflow's interface, in Debian's Chromium.   make screenshot"""

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
from tests.browser.pages import cells, open_runs  # noqa: E402
from tests.integration.conftest import Server  # noqa: E402

PICTURE = ROOT / "docs" / "images" / "mlflow.png"
COMMAND = "altub_exp.train -m experiment=demo altub=none,alternating"
WIDTH, HEIGHT = 1400, 400
"""Pixels; below, the page is empty."""

COLOURS = 64


def main() -> None:
    """Run the demo in a temporary folder, open its experiment in a browser, and write the picture."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)])}
    environment.pop("MLFLOW_TRACKING_URI", None)
    with tempfile.TemporaryDirectory() as folder:
        server = Server(Path(folder))
        subprocess.run([sys.executable, "-m", *COMMAND.split()], cwd=folder, env=environment, check=True)
        browser = Browser()
        try:
            server.start()
            open_runs(browser, first_page(server.uri, server.store), WIDTH)
            browser.wait(lambda: "altub_exp.train" in cells(browser))
            browser.screenshot(Path(folder, "page.png"), HEIGHT)
        finally:
            browser.driver.quit()
            server.kill()
        with Image.open(Path(folder, "page.png")) as page:
            page.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE).save(PICTURE, optimize=True)
    print(f"{PICTURE}: {WIDTH} × {HEIGHT} pixels, {PICTURE.stat().st_size / 1000:.0f} KB")


if __name__ == "__main__":
    main()
