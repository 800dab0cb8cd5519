"""The program as an installed package, and the house's own rules."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The wheel, unpacked where no checkout is near."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", folder, ROOT]
    subprocess.run(command, check=True, timeout=120)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def run(installed, cwd, *arguments):
    environment = os.environ | {"PYTHONPATH": str(installed), "COLUMNS": "150"}
    command = [sys.executable, *arguments]
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_wheel_brings_its_configuration_and_works_from_any_folder(installed, tmp_path):
    where = run(installed, tmp_path, "-c", "from altub_exp.config.compose import conf_dir; print(conf_dir())")
    assert Path(where.strip()) == installed / "altub_exp" / "conf"
    composed = run(installed, tmp_path, "-m", "altub_exp.train", "--cfg", "job", "dataset.category=screw")
    assert "name: resnet18.tv_in1k" in composed
    assert "epochs: 300" in composed
    assert list(tmp_path.iterdir()) == []


def test_the_wheel_brings_the_launcher_into_a_namespace_that_it_shares(installed, tmp_path):
    brought = {path.name for path in (installed / "hydra_plugins").iterdir()}
    assert "altub_gpu_pool" in brought
    assert "__init__.py" not in brought
    of = "import hydra_plugins.altub_gpu_pool.launcher as one; print(one.__file__)"
    assert Path(run(installed, tmp_path, "-c", of).strip()).is_relative_to(installed)
    arguments = ["-m", "altub_exp.train", "experiment=demo", "hydra/launcher=gpu_pool", "--cfg", "hydra"]
    composed = run(installed, tmp_path, *arguments, "--package", "hydra.launcher")
    assert "_target_: hydra_plugins.altub_gpu_pool.launcher.GpuPool" in composed
    loaded = "import sys, hydra_plugins.altub_gpu_pool.launcher; print('torch' in sys.modules)"
    assert run(installed, tmp_path, "-c", loaded).strip() == "False", "every start of Hydra imports it"


def test_help_explains_the_groups_with_examples(installed, tmp_path):
    text = run(installed, tmp_path, "-m", "altub_exp.train", "--help")
    options = {
        path.stem
        for group in ("model", "backbone", "dataset", "altub", "hydra/launcher")
        for path in ROOT.glob(f"conf/{group}/*.yaml")
    }
    assert {"r18", "mvtec", "alternating"} <= options
    for option in options:
        assert option in text, option
    assert "python -m altub_exp.train dataset=mvtec" in text


def test_outside_a_checkout_no_commit_is_claimed(installed, tmp_path):
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    said = run(installed, tmp_path, "-c", "from altub_exp.runs.provenance import git_state; print(git_state())")
    assert said.strip() == "(None, None)"


def test_lock_file_names_every_dependency_and_no_address():
    import tomllib

    lock = (ROOT / "requirements.lock").read_text()
    assert "://" not in lock
    locked = {line.split("==")[0].lower().replace("_", "-") for line in lock.splitlines() if "==" in line}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for wanted in project["dependencies"] + project["optional-dependencies"]["dev"]:
        name = wanted.split("[")[0].split(">")[0].split("=")[0].split("<")[0].strip().lower().replace("_", "-")
        assert name in locked, name


def test_every_make_target_is_explained():
    targets = {
        line.split(":")[0]
        for line in (ROOT / "Makefile").read_text().splitlines()
        if line[:1].isalpha() and ":" in line and "=" not in line.split(":")[1][:1]
    }
    text = subprocess.run(["make", "-C", str(ROOT), "help"], capture_output=True, text=True, check=True).stdout
    assert {"setup", "demo", "test", "bench"} <= targets
    for target in targets:
        assert f"make {target} " in text, target
