"""Values as they are written on the command line, and names of any kind."""

import shutil
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from altub_exp.config.compose import conf_dir
from altub_exp.config.overrides import literal, prepared, quoted
from altub_exp.data.synthetic import Drawing, draw
from tests.commandline import TINY, folders, run, status
from tests.sweep.test_run import listed

WORDS = [
    *("Münze", "a b", "it's", 'say "x"', "a (b)", "#1", "a&b", "a!b", "a=b", "1e3", "true", "1_000", "0x10", "-0"),
    *("[x]", "{x}", "{a:1}", "(", "'", '"', "glob(*)", "~x", "$x", "a\\b", "a\\'b", "x;y", "<b>", "日本", "%s", "a:b"),
]


@pytest.mark.parametrize("word", WORDS)
def test_a_name_of_any_characters_arrives_as_it_was_written(compose, word):
    (override,) = prepared([f"dataset.category={word}"])
    assert compose(override).dataset.category == word
    assert compose(f"dataset.category={quoted(word)}").dataset.category == word
    assert prepared([override]) == [override]


@pytest.mark.parametrize("word", [*WORDS, "${oc.env:HOME}", "\\${x}", "a,b", "null", "${"])
def test_a_name_in_quotes_is_not_resolved(compose, word):
    assert compose(f"dataset.category={quoted(word)}").dataset.category == word
    assert OmegaConf.to_object(OmegaConf.create(literal({"a": [word]}))) == {"a": [word]}


def test_what_hydra_reads_rightly_stays_as_it_is():
    arguments = [
        *("--config-dir=x", "-m", "model=cflow", "seed=range(1,4)", "altub=none,alternating", "backbone.stages=[1,2]"),
        *("dataset.category=01,02", "dataset.category='a,b'", "dataset.category=all", "dataset.mask_dir=null"),
        *(
            "dataset.root=${oc.env:HOME}/x",
            "tracking.uri=sqlite:///a.db",
            "+sweeps=fig1",
            "~cache.dir",
            "altub=glob(*)",
        ),
    ]
    assert prepared(arguments) == arguments


def test_options_may_come_after_overrides():
    options = ["-m", "--config-dir", "x"]
    assert prepared(["seed=1", *options, "altub=none"]) == [*options, "seed=1", "altub=none"]


def test_a_home_folder_is_found(compose, monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    config = compose(*prepared(["dataset.category=x", "dataset.root=~/images", 'runs_dir="~/runs"']))
    assert (config.dataset.root, config.runs_dir) == ("/home/me/images", "/home/me/runs")


@pytest.mark.slow
def test_categories_of_any_name_are_swept_by_all(tmp_path):
    drawn = draw(tmp_path, "washer", Drawing(size=64, train_images=2, good_images=2, defect_images=2, seed=0))
    names = ["${oc.env:HOME}", "1e3", "[x]", "Münze", "a'b"]
    for name in names:
        shutil.copytree(drawn, tmp_path / "own" / name)
    for name in ("__MACOSX", "lost+found"):
        (tmp_path / "own" / name).mkdir()
    arguments = ["dataset=folder", "dataset.root=own", "dataset.category=all", "backbone.weights=random"]
    parts = ["dataset.train_dir=train/good", "dataset.normal_dir=test/good", "dataset.defect_dir=test/dent"]
    _, stderr = run(tmp_path, *arguments, *parts, "dataset.mask_dir=null", "sweep.dry_run=true", "-m")
    assert {folder.split("/")[2] for _, folder in listed(stderr)} == set(names)


@pytest.mark.slow
def test_a_run_of_a_strange_name_is_read_again_under_it(tmp_path):
    drawn = draw(tmp_path, "washer", Drawing(size=64, train_images=8, good_images=2, defect_images=2, seed=0))
    shutil.copytree(drawn, tmp_path / "own" / "${oc.env:HOME}")
    of_images = ("experiment=", "dataset.size", "dataset.train", "dataset.good", "dataset.defect")
    arguments = [word for word in TINY if not word.startswith(of_images)]
    name = r"dataset.category=\${oc.env:HOME}"
    run(
        tmp_path, *arguments, "dataset=mvtec", "dataset.root=own", name, "altub=none", "train.epochs=1", "train.cycle=1"
    )
    (folder,) = folders(tmp_path)
    assert status(folder)["state"] == "finished"
    assert folder.parents[2].name == "${oc.env:HOME}"
    stdout, _ = run(tmp_path, str(folder), "own", "--maps", "none", "--no-overlays", module="altub_exp.predict")
    assert "images scored" in stdout
    assert OmegaConf.load(folder / "config.yaml").dataset.category == "${oc.env:HOME}"


@pytest.mark.parametrize(
    "overrides", [pytest.param(["backbone.key=anything"], marks=pytest.mark.slow), ["backbone=mine"]]
)
def test_a_backbone_of_the_users_own_is_labelled_by_its_key(tmp_path, overrides):
    (tmp_path / "extra/backbone").mkdir(parents=True)
    packaged = Path(conf_dir(), "backbone/r18.yaml").read_text()
    (tmp_path / "extra/backbone/mine.yaml").write_text(packaged.replace("key: r18", "key: mine"))
    arguments = [word for word in TINY if word != "backbone=r18" or overrides[0].startswith("backbone.")]
    run(tmp_path, "--config-dir=extra", *arguments, *overrides, "train.epochs=1")
    (folder,) = folders(tmp_path)
    assert folder.parents[1].name == f"fastflow-{overrides[0].partition('=')[2]}"
