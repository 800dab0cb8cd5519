"""Pages of MLflow's interface, as the tests and docs/screenshot.py open them."""

from __future__ import annotations

from tests.browser.conftest import Browser

ASSISTANT = """
localStorage["mlflow.assistant.fab.autoOpenedOnFirstLoad_v1"] = "true";
localStorage["mlflow.assistant.panelOpen_v1"] = "false";
"""
"""Closes the panel of MLflow's assistant, which takes a quarter of the window on the first visit."""

NAMES = """
return [...document.querySelectorAll('.ag-row a')]
  .filter((link) => link.href.includes('/runs/') && link.innerText.trim())
  .map((link) => [link.getBoundingClientRect().top, link.innerText])
"""


def names(browser: Browser) -> list[str]:
    """Return the names of the runs in the table, from the top."""
    return [name for _, name in sorted(browser.script(NAMES))]


def cells(browser: Browser) -> list[str]:
    """Return the texts of the table's cells."""
    texts: list[str] = browser.script("return [...document.querySelectorAll('.ag-cell')].map((cell) => cell.innerText)")
    return texts


def text(browser: Browser) -> str:
    """Return the visible text of the page."""
    return str(browser.script("return document.body.innerText"))


def open_runs(browser: Browser, address: str, width: int = 1440) -> None:
    """Open the runs of an experiment, and unfold those of the uppermost sweep."""
    browser.open(address, width)
    browser.wait(lambda: names(browser))
    browser.script(ASSISTANT)
    browser.open(address, width)
    browser.wait(lambda: names(browser))
    before = len(names(browser))
    browser.find(".ag-row button[data-component-id*='runnamecellrenderer']")[0].click()
    browser.wait(lambda: len(names(browser)) > before)


def open_sweep(browser: Browser, name: str) -> None:
    """Open the page of a sweep's own run from the list of runs, and wait for its report."""
    next(link for link in browser.find(".ag-row a") if link.text == name).click()
    browser.wait(lambda: len(browser.find("table tr")) >= 3)
