"""Ctrl-C at moments from the first statement of each command to its end: one line, and exit status 130."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.commandline import ROOT, TINY, command, environment, folders, journal, run
from tests.stores import place_store

FEW = [*TINY, "train.epochs=2"]


def moments(cwd: Path, *words: str, at: int = 0) -> subprocess.Popen[str]:
    """Start a command that gets SIGINT at the moment ``at``, or that counts its moments into the file ``moments``."""
    paths = [ROOT / "tests/interrupted", ROOT / "src", ROOT]
    changes = {"PYTHONPATH": os.pathsep.join(map(str, paths)), "PYTHONDONTWRITEBYTECODE": "1"}
    changes |= {"INTERRUPTED_AT": str(at), "INTERRUPTED_COUNT": str(cwd / "moments")}
    module, *arguments = words
    return subprocess.Popen(
        command(*arguments, module=module),
        cwd=cwd,
        env=environment(**changes),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def count(cwd: Path, *words: str) -> int:
    process = moments(cwd, *words)
    out, err = process.communicate(timeout=240)
    assert process.returncode == 0, out + err
    return int((cwd / "moments").read_text())


def assert_one_line(process: subprocess.Popen[str], at: str) -> None:
    """Assert that stderr ends with one line about the interrupt, and that the exit status is 130."""
    _, err = process.communicate(timeout=240)
    assert process.returncode == 130, f"{at}: exit status {process.returncode}\n{err}"
    assert "Traceback" not in err, f"{at}\n{err}"
    lines = [line for line in err.splitlines() if "interrupted" in line]
    assert lines == err.splitlines()[-1:], f"{at}\n{err}"


def strike(cwd: Path, *words: str, times: int) -> None:
    """Interrupt a command at evenly spaced moments, each time in a new copy of a folder: the last is ``struck``."""
    copy = cwd.with_name("struck")
    shutil.copytree(cwd, copy)
    total = count(copy, *words)
    for number in range(times):
        shutil.rmtree(copy)
        shutil.copytree(cwd, copy)
        at = 1 + (2 * number + 1) * total // (2 * times)
        assert_one_line(moments(copy, *words, at=at), f"{' '.join(words)}, moment {at} of {total}")


def test_a_start_is_interrupted(tmp_path):
    """The imports of Hydra and of PyTorch, and the time before them."""
    for at in (1, 9_000, 60_000):
        assert_one_line(moments(tmp_path, "altub_exp.train", *FEW, at=at), f"moment {at}")
    assert not folders(tmp_path)


LOSSY = """
import os, runpy, signal, sys
from altub_exp.runs.journal import Journal

class Lossy:
    def __del__(self):
        try:
            os.kill(os.getpid(), signal.SIGINT)
            print("not interrupted")
        except KeyboardInterrupt:
            print("interrupted in a destructor")
            raise

append = Journal.append

def append_and_lose(journal, row):
    append(journal, row)
    if row["epoch"] == 2:
        Lossy()

Journal.append = append_and_lose
runpy.run_module("altub_exp.train", run_name="__main__")
"""


def test_an_interrupt_that_a_destructor_drops_comes_again(tmp_path):
    place_store(tmp_path)
    process = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.argv[0] = '-m'\n{LOSSY}", *TINY, "train.epochs=1000"],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert process.returncode == 130, process.stderr
    assert process.stdout == "interrupted in a destructor\n"
    assert process.stderr.splitlines()[-1] == "failed: interrupted; the same command resumes it from the checkpoint."
    assert "ignored" not in process.stderr


@pytest.mark.slow
def test_a_training_is_interrupted_at_thirty_moments(tmp_path):
    (tmp_path / "new").mkdir()
    place_store(tmp_path / "new")
    strike(tmp_path / "new", "altub_exp.train", *FEW, times=30)
    run(tmp_path / "struck", *FEW)
    run(tmp_path / "new", *FEW)
    (struck,), (undisturbed,) = (folders(tmp_path / name) for name in ("struck", "new"))
    assert journal(struck) == journal(undisturbed)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    cwd = tmp_path_factory.mktemp("trained")
    run(cwd, *FEW)
    return cwd


COMMANDS = {
    "predict": ["altub_exp.predict", "RUN", "data", "--overwrite"],
    "measure": ["altub_exp.measure", "RUN", "--normality"],
    "export": ["altub_exp.export", "RUN", "--format", "onnx", "--overwrite"],
    "status": ["altub_exp.status"],
    "sync": ["altub_exp.sync"],
    "cache": ["altub_exp.cache", "."],
    "data": ["altub_exp.data", "data/synthetic", "--category", "fabric"],
    "tables": ["analysis.tables", "all"],
    "figures": ["analysis.figures", "all"],
    "report": ["analysis.report"],
    "study": ["analysis.study", "pack", "--experiment", "demo"],
    "console script": ["altub_exp", "status"],
    "sweep": ["altub_exp.train", "-m", *FEW, "seed=1,2"],
}


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_interrupted(trained, name, tmp_path):
    shutil.copytree(trained, tmp_path / "trained")
    run_folder = str(folders(trained)[0].relative_to(trained))
    strike(tmp_path / "trained", *(run_folder if word == "RUN" else word for word in COMMANDS[name]), times=6)
