"""docs/mlflow.md: every filter, as it is written there, gives the runs of its table through MLflow's own client."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from mlflow import MlflowClient

from tests.analysis.filler import Filler, write
from tests.commandline import ROOT

DOCUMENT = ROOT / "docs" / "mlflow.md"


@dataclass(frozen=True)
class Query:
    title: str
    filter: str
    columns: tuple[str, ...]
    sort: str
    descending: bool


def queries() -> Iterator[Query]:
    """In the order of the document."""
    for section in DOCUMENT.read_text().split("\n## ")[1:]:
        title = section.partition("\n")[0]
        found = re.findall(
            r"^- Filter: `(.+)`\n- Columns: (.+)\n- Sort: `(\w+)`(, descending)?$", section, re.MULTILINE
        )
        assert len(found) == section.count("- Filter:")
        for text, columns, sort, descending in found:
            yield Query(title, text, tuple(re.findall(r"`(\w+)`", columns)), sort, bool(descending))


def fastflow(spot, *bases):
    return (spot.dataset, spot.model) == ("mvtec", "fastflow") and spot.altub in (bases or ("none", "alternating"))


def capsule(spot, *bases):
    return spot.category == "capsule" and fastflow(spot, *bases)


EXPECTED = {
    "Table A1": [
        lambda spot: fastflow(spot),
        lambda spot: capsule(spot, "alternating") and spot.backbone == "cait",
    ],
    "Table 1": [lambda spot: spot.model == "cflow", lambda spot: capsule(spot, "alternating")],
    "Table 2": [lambda spot: spot.model == "cflow"],
    "Table 3": [lambda spot: spot.dataset == "btad"],
    "Table 4": [lambda spot: spot.dataset == "btad"],
    "Table 5": [lambda spot: capsule(spot)],
    "Table 6": [lambda spot: capsule(spot, "none", "stereotype", "cnn", "alternating")],
    "Table 7": [lambda spot: capsule(spot)],
    "Unfinished runs": [lambda spot: capsule(spot, "cnn") and spot.backbone == "wrn50"],
}
"""The paper's runs that each query finds."""

EMPTY = ("inference_ms", "pixel_auroc_mean", "pixel_auroc_std")
"""Columns that a run that crashed early may lack."""


@pytest.fixture(scope="module")
def specs():
    """The paper's runs, and one on other images that every filter has to leave out."""
    other = Filler(only=lambda spot: spot.category == "capsule").specs()[0]
    other.tags |= {"dataset": "folder"}
    return [*Filler().specs(), other]


@pytest.fixture(scope="module")
def client(specs, tmp_path_factory):
    return MlflowClient(write(specs, tmp_path_factory.mktemp("queries")))


def test_every_table_has_its_queries():
    titles = [query.title for query in queries()]
    assert titles == [title for title, found in EXPECTED.items() for _ in found]


@pytest.mark.slow
@pytest.mark.parametrize(("title", "place"), [(t, n) for t, found in EXPECTED.items() for n in range(len(found))])
def test_a_query_finds_the_runs_of_its_table(client, specs, title, place):
    query = [query for query in queries() if query.title == title][place]
    kind = "metrics" if query.sort.startswith(("pixel", "image", "ks", "inference")) else "tags"
    found = client.search_runs(
        [client.get_experiment_by_name("altub").experiment_id],
        query.filter,
        order_by=[f"{kind}.{query.sort} {'DESC' if query.descending else 'ASC'}"],
    )
    wanted = [
        spec.run_id for spec in specs if EXPECTED[title][place](spec.spot) and spec.tags["dataset"] == spec.spot.dataset
    ]
    assert wanted
    assert sorted(run.info.run_id for run in found) == sorted(wanted)
    shown = [{**run.data.tags, **run.data.metrics} for run in found]
    order = [one[query.sort] for one in shown]
    assert order == sorted(order, reverse=query.descending)
    for one in shown:
        lacking = [column for column in query.columns if column not in one]
        assert set(lacking) <= (set(EMPTY) if one["status"] == "crashed" else set())


@pytest.mark.slow
def test_a_setting_that_is_not_the_papers_is_told_apart(client):
    (text,) = re.findall(r"`(params\..+?)`,", DOCUMENT.read_text())
    experiment = client.get_experiment_by_name("altub").experiment_id
    found = client.search_runs([experiment], f"tags.model = 'fastflow' and {text}")
    assert found
    assert {run.data.params["train.epochs"] for run in found} == {"300"}
    assert client.search_runs([experiment], f"tags.model = 'cflow' and {text}") == []
