"""The report through the command line: complete in itself, honest, and safe with what runs are called."""

import base64
import csv
import io
import re
from html.parser import HTMLParser

import pytest

from tests.analysis.filler import write
from tests.analysis.reports import EVIL, other, troubled
from tests.commandline import run

REPORT = "analysis.report"
VOID = {"meta", "link", "img", "br"}


class Page(HTMLParser):
    """Elements in their order, the text below each id, and whether every tag is closed."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.open, self.texts = [], [], {}
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.elements.append((tag, attributes))
        if tag not in VOID:
            self.open.append((tag, attributes.get("id")))

    def handle_endtag(self, tag):
        assert self.open.pop()[0] == tag

    def handle_data(self, data):
        if self.open and self.open[-1][0] in ("script", "style"):
            return
        for _, name in self.open:
            if name:
                self.texts[name] = self.texts.get(name, "") + data

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]

    def text(self, name):
        return " ".join(self.texts[name].split())


def make(folder, uri):
    stdout, _ = run(folder, "--tracking-uri", uri, module=REPORT)
    return stdout, (folder / "results" / "report.html").read_text()


@pytest.fixture(scope="module")
def trouble(tmp_path_factory):
    folder = tmp_path_factory.mktemp("troubled")
    return make(folder, troubled(folder))


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    folder = tmp_path_factory.mktemp("own")
    return make(folder, write(other("bolts"), folder))


@pytest.mark.parametrize("store", [pytest.param("trouble", marks=pytest.mark.slow), "own"])
def test_the_page_is_complete_in_itself(store, request):
    _, text = request.getfixturevalue(store)
    page = Page(text)
    ids = [attributes["id"] for _, attributes in page.elements if attributes.get("id")]
    assert len(ids) == len(set(ids))
    targets = [attributes["href"] for attributes in page.all("a")]
    assert targets
    assert {target[1:] for target in targets if target.startswith("#")} <= set(ids)
    assert all(target.startswith(("#", "data:text/csv")) for target in targets)
    assert page.all("img")
    assert all(image["src"].startswith("data:image/") and image["alt"] for image in page.all("img"))
    assert not re.search(r"@import|url\(|fetch\(|https?://", text.replace("http://www.w3.org", ""))
    (policy,) = [
        one["content"] for one in page.all("meta") if "content-security-policy" in one.get("http-equiv", "").lower()
    ]
    assert policy.startswith("default-src 'none'")


@pytest.mark.slow
def test_what_runs_are_called_is_text(trouble):
    _, text = trouble
    page = Page(text)
    assert len(page.all("script")) == 1
    assert all(image["src"] != "x" for image in page.all("img"))
    assert page.all("b") == []
    assert EVIL in page.text("own")
    assert "in 'second <b>try</b>' finished" in page.text("table_a1")


@pytest.mark.slow
def test_it_answers_first_and_beside_the_paper(trouble):
    stdout, text = trouble
    counts = r"37 runs \(33 finished, 2 crashed, 1 failed, 1 running\)"
    assert re.fullmatch(rf"results/report\.html: {counts}, \d\.\d MB\n", stdout)
    page = Page(text)
    told = page.text("help")
    assert "5 of 7 cells paper: 54 of 60" in told
    assert "6 of 7 cells paper: 53 of 60" in told
    assert "not independent" in told


@pytest.mark.slow
def test_it_says_what_is_missing_and_what_computes_it(trouble):
    _, text = trouble
    page = Page(text)
    told = page.text("missing")
    for sentence in (
        "Table 3: python -m altub_exp.train -m +sweeps=table3",
        "1 running, 1 incomplete, 1 failed, 1 conflict, 1 crashed",
        "crashed in epoch 150: its training diverged, which is its result.",
        "failed after epoch 150 of 300; the same command completes it.",
        "3 of its evaluations are not in MLflow",
        "Fig. 1: latents",
    ):
        assert sentence in told
    assert "table3" not in page.texts  # one line for a table without any run
    assert "Conflicting duplicates of seed 25" in page.text("table_a1")
    assert "Deviates from the paper's protocol: train.batch_size=16" in page.text("table_a1")


@pytest.mark.slow
@pytest.mark.slow
def test_the_tables_in_it_are_those_of_the_tables_command(trouble, tmp_path):
    _, text = trouble
    uri = re.search(r"--tracking-uri (\S+?)<", text)[1]
    run(tmp_path, "table_a1", "--tracking-uri", uri, module="analysis.tables")
    written = (tmp_path / "results" / "tables" / "table_a1.csv").read_text()
    (link,) = [one["href"] for one in Page(text).all("a") if one.get("download") == "table_a1.csv"]
    assert base64.b64decode(link.partition(",")[2]).decode() == written
    assert len(list(csv.DictReader(io.StringIO(written)))) == 128


def test_without_a_run_of_the_paper(own):
    stdout, text = own
    assert "2 runs (2 finished)" in stdout
    page = Page(text)
    assert "Not known yet on the paper's data" in page.text("help")
    assert "folder/bolts" in page.text("pairs")
    assert "folder/bolts" in page.text("stability")
    assert "tables" not in page.texts
    for name in ("1", "2", "3", "4", "5", "6", "7", "A1"):
        assert f"Table {name}: python -m altub_exp.train -m +sweeps=table" in page.text("missing")
    # Table A1, leather on R18: (99.5, 0.05) without, (99.6, 0.02) with AltUB
    assert re.search(r"pixel 1 99\.50 99\.60 \+0\.10 0\.05 0\.02 −0\.03", page.text("pairs"))


def test_no_store(tmp_path):
    stdout, stderr = run(tmp_path, module=REPORT, expect=1)
    assert stdout == ""
    assert re.fullmatch(
        r"error: There is no MLflow store .*mlflow\.db: give --tracking-uri, or train first\.\n", stderr
    )


def test_an_output_that_cannot_be_written(tmp_path):
    uri = write([], tmp_path)
    (tmp_path / "file").touch()
    _, stderr = run(tmp_path, "--tracking-uri", uri, "--output", "file/report.html", module=REPORT, expect=1)
    assert re.fullmatch(
        r"error: file/report\.html cannot be written \(.*\): choose another file by --output\.\n", stderr
    )


def test_a_store_without_runs(tmp_path):
    stdout, text = make(tmp_path, write([], tmp_path))
    assert stdout == f"results/report.html: 0 runs (none), {stdout.split()[-2]} MB\n"
    assert "Not known yet" in Page(text).text("help")
