"""The paper's tables and figures as sweeps: their configurations and their headers."""

import itertools
import re
import tarfile
import zipfile
from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from hatchling.builders.sdist import SdistBuilder
from hatchling.builders.wheel import WheelBuilder

from altub_exp.config.check import check
from altub_exp.sweep import paper_sweeps
from altub_exp.sweep.names import run_names
from analysis.study.protocol import PARTS
from bench import cost
from tests.commandline import folders, run, status

ROOT = Path(__file__).resolve().parents[2]
PAPER = {*(f"table{number}" for number in range(1, 8)), "table_a1", "fig1", "fig3", "fig4"}
FOUR = ("r18", "wrn50", "deit", "cait")
OTHERS = {"smoke", "systems"}
WITHOUT_AND_WITH = ("none", "alternating")


class Sweeps(dict):
    """The jobs of the sweeps, each composed when a test asks for it."""

    def __missing__(self, name):
        self[name] = paper_sweeps.jobs(name)
        return self[name]


@pytest.fixture(scope="module")
def sweeps():
    return Sweeps()


def marked(names):
    """Mark the sweeps whose more than a hundred jobs take many seconds to compose."""
    large = ("table1", "table2", "table_a1")
    return [pytest.param(name, marks=pytest.mark.slow if name in large else ()) for name in names]


def cells(found):
    return Counter(
        (c.model.name, c.backbone.key, c.dataset.name, c.dataset.category, c.altub.name)
        for c in (job.config for job in found)
    )


def runs(found):
    return {job.folder.path for job in found}


def test_every_table_and_figure_has_its_sweep_at_the_root_and_in_conf():
    study = {sweep for sweeps in PARTS.values() for sweep in sweeps}  # see tests/analysis/study
    assert set(paper_sweeps.names()) == PAPER | OTHERS | study
    assert (ROOT / "sweeps").resolve() == ROOT / "conf" / "sweeps"


def header(name):
    """The comment at the beginning of a sweep's file."""
    lines = (ROOT / "conf" / "sweeps" / f"{name}.yaml").read_text().splitlines()[1:]  # the first is Hydra's @package
    return "\n".join(line.removeprefix("#").strip() for line in itertools.takewhile(lambda s: s.startswith("#"), lines))


@pytest.mark.parametrize("name", marked(sorted(PAPER | OTHERS)))
def test_headers_say_what_the_file_composes_to(sweeps, name):
    text = header(name)
    assert f"python -m altub_exp.train -m +sweeps={name}" in text
    assert int(re.search(r"^Jobs: (\d+)", text, re.MULTILINE)[1]) == len(sweeps[name])
    assert re.search(r"^Cost: [\d.]+ GPU-hours", text, re.MULTILINE)
    assert re.search(r"^Shared: ", text, re.MULTILINE)
    if name in PAPER:
        artefact = name.replace("table_a1", "Table A1").replace("table", "Table ").replace("fig", "Fig. ")
        assert text.startswith(f"{artefact} (")
        assert "section" in text.splitlines()[0] or "appendix" in text.splitlines()[0]
        assert "estimated, not measured" in text


@pytest.mark.parametrize("name", marked(sorted(PAPER | OTHERS)))
def test_every_job_is_valid_and_none_stands_twice(sweeps, name):
    for job in sweeps[name]:
        check(job.config)
    assert len(runs(sweeps[name])) == len(sweeps[name])
    assert len({repr(asdict(job.config)) for job in sweeps[name]}) == len(sweeps[name])


@pytest.mark.parametrize("name", marked(["table1", "table_a1", "table6", "smoke"]))
def test_no_two_runs_of_a_sweep_have_the_same_name(sweeps, name):
    found = list(run_names(sweeps[name]).values())
    assert len(set(found)) == len(found)


@pytest.mark.slow
def test_the_cells_of_each_artefact(sweeps, compose):
    mvtec = compose("dataset.category=screw").dataset.categories

    def cells_of(backbones, categories, bases, model="fastflow", dataset="mvtec"):
        return Counter((model, b, dataset, c, a) for b in backbones for c in categories for a in bases)

    a1 = cells_of(FOUR, mvtec, WITHOUT_AND_WITH)
    both = a1 + cells_of(["wrn50_tv"], mvtec, WITHOUT_AND_WITH, model="cflow")
    btad = cells_of(["wrn50"], ["01", "02", "03"], WITHOUT_AND_WITH, dataset="btad")
    capsule = cells_of(FOUR, ["capsule"], WITHOUT_AND_WITH)
    expected = {
        "table1": both,
        "table2": both,
        "table3": btad,
        "table4": btad,
        "table5": capsule,
        "table6": cells_of(FOUR, ["capsule"], ["none", "stereotype", "cnn", "alternating"]),
        "table7": capsule,
        "table_a1": a1,
        "fig1": cells_of(["cait"], ["capsule"], ["none"]),
        "fig4": cells_of(["cait"], ["pill"], WITHOUT_AND_WITH),
    }
    for name, wanted in expected.items():
        assert cells(sweeps[name]) == wanted, name
    assert [job.config.model.steps for job in sweeps["fig3"]] == [1, 2, 4, 8, 16]
    assert cells(sweeps["fig3"]) == {("fastflow", "r18", "mvtec", "capsule", "none"): 5}


@pytest.mark.slow
def test_artefacts_share_their_runs(sweeps):
    found = {name: runs(sweeps[name]) for name in PAPER}
    assert found["table1"] == found["table2"] > found["table_a1"]
    assert found["table3"] == found["table4"]
    assert found["table5"] == found["table7"] < found["table_a1"]
    assert found["table5"] < found["table6"]
    assert len(found["table6"] - found["table_a1"]) == 8
    assert found["fig4"] < found["table_a1"]
    assert found["fig1"] < found["table5"]
    assert len(set().union(*(found[name] for name in PAPER))) == 169


@pytest.mark.slow
def test_what_the_paper_fixes(sweeps):
    """The values are those of sections 5.1 and 5.6, the appendix and the figures."""
    for name in PAPER - {"fig3"}:
        for job in sweeps[name]:
            c = job.config
            window = (c.eval.first_epoch, c.eval.last_epoch, c.eval.every)
            assert window == {"fastflow": (100, 300, 1), "cflow": (100, 200, 8)}[c.model.name]
            assert (c.seed, c.backbone.weights, c.eval.ks_every) == (25, "pretrained", 10)
    (fig1,) = sweeps["fig1"]
    assert (fig1.config.backbone.key, fig1.config.altub.name) == ("cait", "none")
    assert all(job.config.train.epochs == 200 for job in sweeps["fig3"])


def test_arguments_of_the_command_line_win():
    assert len(paper_sweeps.jobs("table_a1", "backbone=r18", "dataset.category=screw,pill")) == 4
    assert len(paper_sweeps.jobs("table1", "experiment=cflow-wrn50_tv")) == 30
    assert {job.config.train.epochs for job in paper_sweeps.jobs("fig4", "train.epochs=9")} == {9}


@pytest.mark.slow
def test_the_papers_sentence_on_norms_is_one_addition(sweeps):
    """Section 5.6 names layer normalization for WRN50 and CaiT only; their runs are those of the default."""
    read = paper_sweeps.jobs("table1", "+reading=paper_norm")
    norms = {(job.config.model.name, job.config.backbone.key): job.config.model.feature_norm for job in read}
    assert norms == {
        ("fastflow", "r18"): "none",
        ("fastflow", "wrn50"): "trainable",
        ("fastflow", "deit"): "none",
        ("fastflow", "cait"): "pretrained",
        ("cflow", "wrn50_tv"): "none",
    }
    assert len(read) == len(sweeps["table1"])
    others = {job.folder.path for job in read if job.config.backbone.key in ("r18", "deit")}
    assert runs(read) - runs(sweeps["table1"]) == others
    assert len(others) == 60
    (mobile,) = paper_sweeps.jobs("fig4", "+reading=paper_norm", "backbone=mobilenetv2", "altub=none")
    assert mobile.config.model.feature_norm == "none"
    (explicit,) = paper_sweeps.jobs("fig4", "+reading=paper_norm", "altub=none", "model.feature_norm=counted")
    assert explicit.config.model.feature_norm == "counted"


def test_the_smoke_sweep_asks_for_nothing_that_is_not_there(sweeps):
    models = {job.config.model.name for job in sweeps["smoke"]}
    assert models == {"fastflow", "cflow"}
    for job in sweeps["smoke"]:
        assert (job.config.dataset.layout, job.config.backbone.weights) == ("synthetic", "random")
        assert job.config.train.epochs <= 4
        assert job.config.dataset.image_size <= 128


def test_packages_hold_every_sweep_once(tmp_path):
    files = {path.name for path in (ROOT / "conf" / "sweeps").glob("*.yaml")}
    (wheel,) = WheelBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"])
    (source,) = SdistBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"])
    with zipfile.ZipFile(wheel) as archive:
        packed = [name for name in archive.namelist() if "sweeps/" in name]
    assert sorted(packed) == sorted(f"altub_exp/conf/sweeps/{name}" for name in files)
    with tarfile.open(source) as archive:
        packed = [name.partition("/")[2] for name in archive.getnames() if "sweeps/" in name]
    assert sorted(packed) == sorted(f"conf/sweeps/{name}" for name in files)


def test_costs_follow_the_work(compose):
    """The cost of r18, whose multiply-adds can be counted by hand."""
    config = compose("dataset.category=capsule")
    steps = cost.steps(config)
    positions, channels = (64**2, 32**2, 16**2), (64, 128, 256)
    by_hand = (
        sum(8 * 2 * 9 * n * (c // 2 * c // 2 + c // 2 * c) for n, c in zip(positions, channels, strict=True)) / 1e9
    )
    assert steps.gigaflops[1] == pytest.approx(by_hand, rel=1e-6)
    assert steps.gigaflops[0] == pytest.approx(3.66, abs=0.01)  # 1.8 G multiply-adds at 224 px, less layer4
    assert steps.forward < steps.psi_only < steps.joint
    whole = cost.cost(config)
    half = cost.cost(replace(config, train=replace(config.train, epochs=150)))
    assert 1.9 < whole.training / half.training < 2.0
    assert whole.evaluation / half.evaluation == pytest.approx(2, rel=0.01)
    assert config.backbone.weights == "pretrained"


@pytest.mark.slow
def test_headers_and_document_say_what_the_estimate_gives():
    document = (ROOT / "docs" / "paper.md").read_text()
    for name in PAPER:
        estimate = cost.sweep(name)
        hours = cost.hours(sum(estimate.values()))
        assert f"Cost: {hours} GPU-hours of an H200 in float32, estimated" in header(name), name
        assert re.search(rf"\+sweeps={name}` \| {len(estimate)} \| {re.escape(hours)} \|", document), name


@pytest.mark.slow
def test_a_part_of_the_smoke_sweep_runs(tmp_path):
    part = [
        "hydra/launcher=gpu_pool",
        "device=cpu",
        "hydra.launcher.cpu_slots=2",
        "model=cflow",
        "backbone=mobilenetv2",
        "dataset.category=washer",
    ]
    _, stderr = run(tmp_path, "-m", "+sweeps=smoke", *part)
    assert "2 runs: 2 finished." in stderr
    assert [folder.parent.name for folder in folders(tmp_path)] == ["alternating", "none"]


@pytest.mark.slow
def test_the_smoke_sweep_runs_and_is_not_run_again(tmp_path):
    pool = ["hydra/launcher=gpu_pool", "device=cpu", "hydra.launcher.cpu_slots=2"]
    _, stderr = run(tmp_path, "-m", "+sweeps=smoke", *pool, seconds=900)
    assert "24 runs: 24 new; 24 to compute." in stderr
    assert "24 runs: 24 finished." in stderr
    assert all(status(folder)["state"] == "finished" for folder in folders(tmp_path))
    _, stderr = run(tmp_path, "-m", "+sweeps=smoke", *pool)
    assert "24 runs: 24 finished; 0 to compute." in stderr
