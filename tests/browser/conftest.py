"""A real headless Chromium, driven through Debian's chromedriver."""

from __future__ import annotations

import base64
import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.remote.webelement import WebElement

from tests.integration.conftest import Server

PROGRAMS = ("chromium", "chromedriver")


class Browser:
    """One window; `driver` is selenium's."""

    def __init__(self) -> None:
        options = webdriver.ChromeOptions()
        options.binary_location = str(shutil.which("chromium"))
        for argument in ("headless=new", "no-sandbox", "disable-dev-shm-usage", "disable-gpu", "hide-scrollbars"):
            options.add_argument(f"--{argument}")
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        self.driver = webdriver.Chrome(options, Service(shutil.which("chromedriver")))

    def open(self, address: str, width: int = 1440, dark: bool = False) -> None:
        """Show a page in a window of this width, and drop earlier entries of the log."""
        self.command("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.command("Emulation.setEmulatedMedia", features=[scheme])
        self.driver.get("about:blank")
        self.console(), self.requests()
        self.driver.get(address)

    def command(self, name: str, **parameters: object) -> dict[str, Any]:
        return self.driver.execute_cdp_cmd(name, parameters)

    def script(self, text: str, *arguments: object) -> Any:
        return self.driver.execute_script(text, *arguments)

    def console(self) -> list[str]:
        """Return the page's messages in the console since the last call."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def requests(self) -> list[str]:
        """Return the addresses that were requested since then."""
        events = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        return [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]

    def find(self, selector: str) -> list[WebElement]:
        return self.driver.find_elements("css selector", selector)

    def wait(self, condition, seconds: float = 60) -> Any:
        deadline = time.monotonic() + seconds
        while not (found := condition()):
            assert time.monotonic() < deadline, self.script("return document.body.innerText")
            time.sleep(0.2)
        return found

    def screenshot(self, path: Path, height: int | None = None) -> None:
        """Take a picture of the whole page, or of its first `height` pixels."""
        whole = self.script("return [innerWidth, document.documentElement.scrollHeight]")
        clip = {"x": 0, "y": 0, "width": whole[0], "height": height or min(whole[1], 16000), "scale": 1}
        beyond = height is None  # enlarges the window for a moment, after which MLflow draws its page anew
        shot = self.command("Page.captureScreenshot", format="png", captureBeyondViewport=beyond, clip=clip)
        path.write_bytes(base64.b64decode(shot["data"]))


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    absent = [program for program in PROGRAMS if shutil.which(program) is None]
    if absent:
        pytest.skip(f"{' and '.join(absent)} not installed: tests/install.sh chromium")
    browser = Browser()
    try:
        yield browser
    finally:
        browser.driver.quit()


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[Server]:
    """An MLflow server, not started yet."""
    server = Server(tmp_path_factory.mktemp("server"))
    try:
        yield server
    finally:
        server.kill()
