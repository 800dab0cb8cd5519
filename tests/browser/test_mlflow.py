"""MLflow's web interface: the filters of docs/mlflow.md lead to the runs of the paper's tables."""

import re
import time
from urllib.parse import quote

import pytest
from mlflow import MlflowClient
from selenium.webdriver.common.keys import Keys

from tests.analysis.filler import Filler
from tests.analysis.test_queries import queries

pytestmark = pytest.mark.browser

TABLE = "tags.dataset = 'mvtec' and tags.category = 'capsule' and tags.model = 'fastflow' and tags.backbone = 'cait'"


@pytest.fixture(scope="module")
def altub(server):
    """The server with the paper's numbers, and the id of the experiment."""
    Filler(only=lambda spot: spot.category in ("capsule", "pill")).fill(server.folder)
    server.start()
    return server, MlflowClient(server.uri).get_experiment_by_name("altub").experiment_id


def names(browser):
    """Return the names of the runs in the table, from the top."""
    rows = browser.script(
        "return [...document.querySelectorAll('.ag-row a')]"
        ".filter((link) => link.href.includes('/runs/') && link.innerText.trim())"
        ".map((link) => [link.getBoundingClientRect().top, link.innerText])"
    )
    return [name for _, name in sorted(rows)]


def matching(browser):
    found = re.search(r"(\d+) matching runs?", browser.script("return document.body.innerText"))
    return int(found[1]) if found else None


def test_a_filter_of_the_document_shows_its_runs_in_order(browser, altub, tmp_path):
    server, experiment = altub
    text = next(query.filter for query in queries() if query.title == "Table 7")
    address = f"{server.uri}/#/experiments/{experiment}/runs?workflowType=machine_learning&searchFilter={quote(text)}"
    browser.open(f"{address}&orderByKey={quote('metrics.`inference_ms`')}&orderByAsc=true")
    browser.wait(lambda: matching(browser) == 8 and len(names(browser)) == 8)
    found = MlflowClient(server.uri).search_runs([experiment], text, order_by=["metrics.inference_ms ASC"])
    times = [run.data.metrics["inference_ms"] for run in found]
    shown = {run.info.run_name: run.data.metrics["inference_ms"] for run in found}
    assert [shown[name] for name in names(browser)] == times
    browser.screenshot(tmp_path / "runs.png", 900)


def test_a_filter_is_typed_and_columns_are_chosen(browser, altub, tmp_path):
    server, experiment = altub
    browser.command("Storage.clearDataForOrigin", origin=server.uri, storageTypes="all")  # what another test chose
    browser.open(f"{server.uri}/#/experiments/{experiment}/runs?workflowType=machine_learning", 2400)
    browser.wait(lambda: names(browser))
    field = browser.find("input[data-testid='search-box']")[0]
    field.send_keys(f"{TABLE} and tags.altub != 'stereotype' and tags.altub != 'cnn'", Keys.ENTER)
    browser.wait(lambda: matching(browser) == 2)
    assert set(names(browser)) == {f"mvtec/capsule fastflow-cait {altub} seed25" for altub in ("none", "alternating")}
    for column in ("altub", "pixel_auroc_mean", "pixel_auroc_std"):
        choose(browser, column)
    shown = browser.wait(lambda: cells(browser, "0.989"))
    assert "alternating" in shown
    browser.screenshot(tmp_path / "columns.png", 900)


def choose(browser, column):
    """Tick a column under *Columns*."""
    opener = next(one for one in browser.find("button") if "Columns" in one.text)
    opener.click()
    field = browser.wait(lambda: browser.find("input[placeholder='Search columns']"))[0]
    field.send_keys(column)
    time.sleep(0.5)
    browser.wait(lambda: tick(browser, column))
    field.send_keys(Keys.ESCAPE)
    browser.wait(lambda: not browser.find("input[placeholder='Search columns']"))


def tick(browser, column):
    return browser.script(
        "const found = [...document.querySelectorAll('[class*=tree-treenode]')]"
        ".filter((one) => one.innerText.trim() === arguments[0]);"
        "if (!found.length) return false;"
        "const leaf = found.at(-1); (leaf.querySelector('[class$=tree-checkbox]')).click(); return true",
        column,
    )


def cells(browser, text):
    """Return the text of the table as soon as it contains another text."""
    shown = browser.script("return [...document.querySelectorAll('.ag-cell')].map((cell) => cell.innerText)")
    return shown if any(text in one for one in shown) else None
