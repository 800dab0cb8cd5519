"""Flows and base distributions of another installed package, through the real command line."""

import os
import subprocess
import sys

import pytest

from tests.commandline import ROOT, TINY, folders, journal, recorded, run, status

BROKEN = "[altub_exp.plugins]\nbroken = broken_plugin:register\n"


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A folder into which the example is installed by pip."""
    folder = tmp_path_factory.mktemp("site")
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--target", folder]
    subprocess.run(
        [sys.executable, "-m", "pip", "install", *options, ROOT / "examples/plugin"], check=True, timeout=120
    )
    return folder


def with_path(*places):
    return {"PYTHONPATH": os.pathsep.join(map(str, [*places, ROOT / "src", ROOT]))}


def install(folder, code, entry_points=BROKEN):
    """Write a plug-in of a few lines, with the metadata of pip."""
    folder.mkdir()
    (folder / "broken_plugin.py").write_text(code)
    metadata = folder / "broken_plugin-1.2.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: broken-plugin\nVersion: 1.2\n")
    (metadata / "entry_points.txt").write_text(entry_points)
    return with_path(folder)


def test_altub_on_a_flow_from_outside_and_a_base_distribution_from_outside_on_fastflow(site, tmp_path):
    changes = with_path(site)
    run(tmp_path, "-m", *TINY, "model=nice", "altub=none,alternating", **changes)
    run(tmp_path, *TINY, "altub=sinh_arcsinh", "model.steps=1", **changes)
    histories, runs = recorded(tmp_path)
    assert histories.keys() == {"none", "alternating", "sinh_arcsinh"}
    assert {r.data.tags["model"] for r in runs} == {"nice", "fastflow"}
    for folder in folders(tmp_path):
        assert status(folder)["state"] == "finished"
        assert status(folder)["versions"]["altub-example"] == "0.1.0"
        rows = journal(folder)
        assert rows[-1]["loss"] < rows[0]["loss"]
        assert all(0 < row["pixel_auroc"] < 1 for row in rows)
    by_base = {folder.parent.name: journal(folder) for folder in folders(tmp_path)}
    assert by_base["none"][0]["loss"] != by_base["alternating"][0]["loss"]
    nice = next(folder for folder in folders(tmp_path) if folder.parent.name == "alternating")
    arguments = (str(nice), "data/synthetic/fabric/test", "--maps", "none", "--no-overlays")
    stdout, _ = run(tmp_path, *arguments, module="altub_exp.predict", **changes)
    assert "10 images scored" in stdout
    _, stderr = run(tmp_path, *arguments, "--output", "again", module="altub_exp.predict", expect=1)
    assert "nice" in stderr  # not installed any more
    assert "Traceback" not in stderr


def test_what_plug_ins_offer_is_among_the_choices(site, tmp_path):
    stdout, _ = run(tmp_path, "--cfg", "job", "model=nice", "altub.base=sinh_arcsinh", **with_path(site))
    assert "hidden_channels: 64" in stdout
    assert "epochs: ${model.protocol.epochs}" in stdout
    _, stderr = run(tmp_path, "model=nise", expect=1, **with_path(site))
    assert (
        "choose one of cflow, csflow, differnet, draem, fastflow, msflow, nice, patchcore (did you mean nice?)"
        in stderr
    )
    _, stderr = run(tmp_path, "model=nice", "dataset.category=x", "model.hiden_channels=3", expect=1, **with_path(site))
    assert "did you mean model.hidden_channels" in stderr
    for override, sentence in {
        "model.steps=0": "model.steps=0 is too small: give at least 1.",
        "+model.stepz=3": "model.stepz is not a key of the configuration: did you mean model.steps",
    }.items():
        _, stderr = run(tmp_path, *TINY, "model=nice", override, expect=1, **with_path(site))
        assert sentence in stderr
    _, stderr = run(tmp_path, "model=nice", expect=1)
    assert (
        "model=nice does not exist: choose one of cflow, csflow, differnet, draem, fastflow, msflow, patchcore."
        in stderr
    )
    _, stderr = run(tmp_path, *TINY, "altub.base=cauchy", expect=1)
    assert "altub.base=cauchy is not known: choose one of fixed, learned, convolutional, " in stderr
    assert "channelwise, shifted, scaled, split_prior." in stderr
    assert sorted(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("import no_such_module", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("def register(): raise OSError('no values')", "OSError: no values"),
        (
            "from altub_exp.config.plugins import add_base\ndef register(): add_base('none', 'broken_plugin:Base')",
            "ValueError: altub=none exists already",
        ),
    ],
)
def test_a_plug_in_that_fails_is_named_in_one_sentence(tmp_path, code, reason):
    changes = install(tmp_path / "site", code)
    stdout, stderr = run(tmp_path, *TINY, expect=1, **changes)
    assert stderr == (
        f"error: The plug-in broken (broken-plugin 1.2) cannot be used ({reason}): repair or uninstall it.\n"
    )
    assert stdout == ""


def test_what_a_plug_in_names_is_imported_when_used_and_not_before(tmp_path):
    code = "from altub_exp.config.plugins import add_base\ndef register(): add_base('cauchy', 'broken_plugin:Cauchy')"
    changes = install(tmp_path / "site", code)
    run(tmp_path, "--cfg", "job", "altub=cauchy", **changes)
    _, stderr = run(tmp_path, *TINY, "altub=cauchy", expect=1, **changes)
    assert stderr.startswith("error: broken_plugin:Cauchy of a plug-in cannot be imported (")
    assert not (tmp_path / "runs").exists()
