"""The program as an installed package, and the rules of the code."""

import os
import re
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path

import pytest

from tests import commandline

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """An environment with the wheel and with the libraries of this one, but without the checkout.

    The wheel is built from the source distribution, or taken from the folder ``ALTUB_DIST`` of `make dist`.
    """
    folder = tmp_path_factory.mktemp("package")
    built = ROOT / os.environ["ALTUB_DIST"] if "ALTUB_DIST" in os.environ else build(folder)
    (wheel,) = built.glob("*.whl")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], check=True, timeout=120)
    pip = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        folder / "venv/bin/python",
        "install",
        "--quiet",
        "--no-deps",
        wheel,
    ]
    subprocess.run(pip, check=True, timeout=120)
    (site,) = (folder / "venv").glob("lib/python*/site-packages")
    (site / "libraries.pth").write_text(
        sysconfig.get_path("purelib") + "\n"
    )  # its own links to checkouts have no effect
    return site


def build(folder):
    """The folder of a source distribution and of the wheel made from it."""
    hatchling = [sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", folder / "sdist"]
    subprocess.run(hatchling, cwd=ROOT, check=True, capture_output=True, timeout=120)
    (source,) = (folder / "sdist").glob("*.tar.gz")
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", folder, source]
    subprocess.run(pip, check=True, timeout=120)
    return folder


def run(installed, cwd, *arguments):
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | {"COLUMNS": "150"}
    command = [installed.parents[2] / "bin" / "python", *arguments]
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


def test_the_wheel_brings_the_table_of_downloads(installed, tmp_path):
    table = "from altub_exp.data.downloads import TABLE, read_downloads; print(TABLE, *read_downloads())"
    where, *names = run(installed, tmp_path, "-c", table).split()
    assert Path(where).is_relative_to(installed)
    assert names == ["mvtec", "btad", "visa", "mvtec2", "loco"]


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


def test_every_console_script_answers(installed, tmp_path):
    for script in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"].get("scripts", {}):
        assert "usage" in run(installed, tmp_path, installed.parents[2] / "bin" / script, "--help").lower()


@pytest.mark.slow
def test_the_analysis_works_from_any_folder(installed, tmp_path):
    for command in ("tables", "figures", "report"):
        assert f"usage: python -m analysis.{command}" in run(installed, tmp_path, "-m", f"analysis.{command}", "--help")


def test_outside_a_checkout_no_commit_is_claimed(installed, tmp_path):
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    said = run(installed, tmp_path, "-c", "from altub_exp.runs.provenance import git_state; print(git_state())")
    assert said.strip() == "(None, None)"


def test_lock_file_names_every_dependency_and_no_address():
    lock = (ROOT / "requirements.lock").read_text()
    assert "://" not in lock
    packages = [line for line in lock.splitlines() if not line.startswith(" ")]
    assert all("==" in line and line.endswith("\\") for line in packages), "each has a version and hashes"
    assert lock.count("--hash=sha256:") >= len(packages)
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


def test_the_program_lists_its_commands_and_starts_one(tmp_path):
    text, _ = commandline.run(tmp_path, module="altub_exp")
    for name in (
        "train",
        "sweep",
        "predict",
        "export",
        "measure",
        "status",
        "sync",
        "data",
        "cache",
        "server",
        "tables",
        "report",
    ):
        assert re.search(rf"^  {name} +\w", text, re.MULTILINE), name
    _, stderr = commandline.run(tmp_path, "tabels", module="altub_exp", expect=1)
    assert stderr.startswith("error: there is no command 'tabels' (did you mean tables?): choose one of train, sweep,")
    _, stderr = commandline.run(tmp_path, "status", "nowhere", module="altub_exp", expect=1)
    assert stderr == "error: There is no folder nowhere; name the one that holds the runs.\n"
    arguments = ("experiment=demo", "sweep.dry_run=true", "runs_dir=elsewhere")
    _, stderr = commandline.run(tmp_path, "sweep", *arguments, module="altub_exp")
    assert "1 runs: 1 new; 1 to compute." in stderr
    assert "elsewhere/synthetic/fabric/fastflow-lite0/alternating/seed25-" in stderr
