"""MLflow's web interface: sweeps and runs as one opens it; docs/mlflow.md's filters lead to the paper's tables."""

import re
import time
from urllib.parse import quote

import pytest
from mlflow import MlflowClient
from selenium.webdriver.common.keys import Keys

from altub_exp.server import first_page
from tests.analysis.filler import Filler
from tests.analysis.test_queries import queries
from tests.browser.pages import cells, names, open_runs, text
from tests.commandline import TINY, run
from tests.integration.conftest import Server

pytestmark = pytest.mark.browser

TABLE = "tags.dataset = 'mvtec' and tags.category = 'capsule' and tags.model = 'fastflow' and tags.backbone = 'cait'"


@pytest.fixture(scope="module")
def altub(server):
    """The server with the paper's numbers, and the id of the experiment."""
    Filler(only=lambda spot: spot.category in ("capsule", "pill")).fill(server.folder)
    server.start()
    return server, MlflowClient(server.uri).get_experiment_by_name("altub").experiment_id


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """Another server, with a sweep of two runs."""
    folder = tmp_path_factory.mktemp("demo")
    run(folder, "-m", *TINY, "altub=none,alternating")
    server = Server(folder)
    try:
        server.start()
        yield server
    finally:
        server.kill()


def matching(browser):
    found = re.search(r"(\d+) matching runs?", text(browser))
    return int(found[1]) if found else None


def test_a_filter_of_the_document_shows_its_runs_in_order(browser, altub, tmp_path):
    server, experiment = altub
    query = next(query.filter for query in queries() if query.title == "Table 7")
    address = f"{server.uri}/#/experiments/{experiment}/runs?workflowType=machine_learning&searchFilter={quote(query)}"
    browser.open(f"{address}&orderByKey={quote('metrics.`inference_ms`')}&orderByAsc=true")
    browser.wait(lambda: matching(browser) == 8 and len(names(browser)) == 8)
    found = MlflowClient(server.uri).search_runs([experiment], query, order_by=["metrics.inference_ms ASC"])
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
    browser.wait(lambda: any("0.989" in cell for cell in cells(browser)))
    shown = cells(browser)
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


def test_the_first_page_names_sweep_runs_images_and_source(browser, demo, tmp_path):
    open_runs(browser, first_page(demo.uri, demo.store))
    assert names(browser)[0] == "altub=none,alternating"
    assert set(names(browser)[1:]) == {"fabric · none", "fabric · alternating"}
    browser.wait(lambda: cells(browser).count("altub_exp.train") == 3)
    assert sum("synthetic/fabric (" in cell for cell in cells(browser)) == 3
    browser.screenshot(tmp_path / "runs.png", 500)


def test_the_pages_of_sweep_and_run_describe_their_outcome(browser, demo, tmp_path):
    client = MlflowClient(demo.uri)
    experiment = client.get_experiment_by_name("demo").experiment_id
    runs = {run.info.run_name: run.info.run_id for run in client.search_runs([experiment])}
    page = f"{demo.uri}/#/experiments/{experiment}/runs"
    browser.open(f"{page}/{runs['altub=none,alternating']}?workflowType=machine_learning")
    browser.wait(lambda: "2 runs: 2 finished" in text(browser))
    browser.wait(lambda: len(browser.find("table tr")) >= 3)
    assert "python -m altub_exp.train -m experiment=demo" in text(browser)
    browser.screenshot(tmp_path / "sweep.png")
    browser.open(f"{page}/{runs['altub=none,alternating']}/artifacts/stability.csv?workflowType=machine_learning")
    browser.wait(lambda: "fabric · alternating" in text(browser) and "image_auroc_mean" in text(browser))
    browser.screenshot(tmp_path / "table.png")
    browser.open(f"{page}/{runs['altub=none,alternating']}/artifacts/auroc-synthetic-fabric.png")
    browser.wait(lambda: browser.script("return [...document.images].some((image) => image.naturalWidth > 1000)"))
    browser.open(f"{page}/{runs['fabric · none']}?workflowType=machine_learning")
    browser.wait(lambda: "finished 6 epochs in" in text(browser))
    assert re.search(r"pixel AUROC [\d.]+ ± [\d.]+ %, image AUROC .+ over epochs 2 to 6", text(browser))
    browser.screenshot(tmp_path / "run.png")
