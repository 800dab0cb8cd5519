"""Damaged run folders through the real command line: a refusal in one sentence, or the same numbers bit for bit."""

import json
import os
import random
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from tests.commandline import (
    TINY,
    command,
    environment,
    equal_models,
    folders,
    journal,
    kill_behind_a_checkpoint,
    recorded,
    run,
    status,
)

FLIPS = 100
NOBODY = 65534
TEST = "data/synthetic/fabric/test"
KINDS = ("checkpoint.pt", "metrics.jsonl", "config.yaml", "status.json", "tracking.json")
IN_PLACE = ("checkpoint.pt", "metrics.jsonl", "config.yaml", "status.json", "record.json", ".lock", "train.log")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The working folder of two finished runs, of altub=alternating and altub=none."""
    cwd = tmp_path_factory.mktemp("finished")
    run(cwd, "-m", *TINY, "altub=none,alternating")
    return cwd


@pytest.fixture(scope="module")
def resumable(tmp_path_factory):
    """The working folder of a run with altub=alternating that was killed after a checkpoint."""
    cwd = tmp_path_factory.mktemp("killed")
    kill_behind_a_checkpoint(cwd, *TINY)
    return cwd


@pytest.fixture
def cwd(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "copy")


def flip(file, seed=0):
    draw = random.Random(seed)
    content = bytearray(file.read_bytes())
    content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    file.write_bytes(content)


def sentence(stderr):
    """Return the only error of a command."""
    assert "Traceback" not in stderr
    (line,) = (line for line in stderr.splitlines() if line.startswith("error: "))
    return line


def test_a_damaged_checkpoint_is_refused_by_every_command_and_computed_anew(finished, cwd):
    folder = folders(cwd)[0]
    flip(folder / "checkpoint.pt")
    for arguments, module in (
        (TINY, "altub_exp.train"),
        ((str(folder), TEST), "altub_exp.predict"),
        ((str(folder), "--timing", "1"), "altub_exp.measure"),
        ((str(folder), "--format", "torch"), "altub_exp.export"),
    ):
        _, stderr = run(cwd, *arguments, module=module, expect=1)
        assert "checkpoint.pt is damaged" in sentence(stderr)
        assert "resume=never" in sentence(stderr)
    stdout, _ = run(cwd, "--verify", module="altub_exp.status", expect=1)
    damaged, total = stdout.splitlines()
    assert f"{folder.relative_to(cwd)}/checkpoint.pt is damaged" in damaged
    assert total.startswith("1 intact, 1 damaged, 0 of an earlier version")
    run(cwd, *TINY, "resume=never")
    again = folders(cwd)[0]
    assert again.name == folder.name
    assert journal(again) == journal(folders(finished)[0])
    assert equal_models(again, folders(finished)[0])
    stdout, _ = run(cwd, "--verify", module="altub_exp.status")
    assert stdout.startswith("2 intact, 0 damaged")
    run(cwd, "--verify", "--all", module="altub_exp.status", expect=1)


@pytest.mark.slow
def test_a_damaged_status_is_removed_and_restored_with_the_same_run_in_mlflow(finished, cwd):
    folder, before = folders(cwd)[0], folders(finished)[0]
    flip(folder / "status.json")
    for arguments in (TINY, ("-m", *TINY)):
        _, stderr = run(cwd, *arguments, expect=1)
        assert "status.json is damaged: remove the file" in sentence(stderr)
    (folder / "status.json").unlink()
    stdout, _ = run(cwd, "--verify", module="altub_exp.status", expect=1)
    assert "status.json is missing" in stdout
    run(cwd, *TINY)
    for key in ("state", "summary", "window", "run_uid"):
        assert status(folder)[key] == status(before)[key]
    assert journal(folder) == journal(before)
    assert equal_models(folder, before)
    _, runs = recorded(cwd)
    assert len(runs) == 2
    assert all(mlflow.info.status == "FINISHED" for mlflow in runs)


@pytest.mark.slow
def test_a_damaged_configuration_is_written_again_by_the_training_command(cwd):
    folder = folders(cwd)[0]
    flip(folder / "config.yaml")
    _, stderr = run(cwd, str(folder), TEST, module="altub_exp.predict", expect=1)
    assert "config.yaml" in sentence(stderr)
    assert "training command writes it again" in sentence(stderr)
    run(cwd, *TINY)
    run(cwd, str(folder), TEST, module="altub_exp.predict")


@pytest.mark.parametrize("content", [b"", b"{}", None], ids=["empty", "without a store", "another run's"])
def test_a_damaged_tracking_file_is_rebuilt_from_mlflow(cwd, content):
    folder, other = folders(cwd)
    places = folder / "tracking.json"
    whole = places.read_bytes()
    places.write_bytes((other / "tracking.json").read_bytes() if content is None else content)
    stdout, _ = run(cwd, module="altub_exp.sync")
    assert "nothing missing" in stdout
    assert places.read_bytes() == whole
    _, runs = recorded(cwd)
    assert len(runs) == 2
    assert len({mlflow.data.tags["run_uid"] for mlflow in runs}) == 2


@pytest.mark.parametrize("name", [IN_PLACE[0], *(pytest.param(name, marks=pytest.mark.slow) for name in IN_PLACE[1:])])
def test_a_folder_in_a_files_place_is_one_sentence(cwd, name):
    folder = folders(cwd)[0]
    (folder / name).unlink()
    (folder / name).mkdir()
    if name in ("config.yaml", "record.json"):  # which only a run that starts replaces
        (folder / "status.json").unlink()
    _, stderr = run(cwd, *TINY, expect=1)
    assert name in sentence(stderr)
    _, stderr = run(cwd, module="altub_exp.status")
    assert "Traceback" not in stderr


@pytest.mark.slow
def test_a_status_without_a_state_and_places_that_cannot_be_made_are_one_sentence(cwd):
    folder = folders(cwd)[0]
    for content in ("{}", '{"host": "x"}'):
        (folder / "status.json").write_text(content)
        for arguments in (TINY, ("-m", *TINY)):
            assert "status.json" in sentence(run(cwd, *arguments, expect=1)[1])
    (cwd / "file").touch()
    for place in ("file/runs", "/proc/runs"):
        assert place in sentence(run(cwd, *TINY, f"runs_dir={place}", expect=1)[1])
        _, stderr = run(cwd, str(folders(cwd)[1]), TEST, "--output", place, module="altub_exp.predict", expect=1)
        assert place in sentence(stderr)


def test_missing_weights_are_named_as_predict_takes_them(cwd):
    _, stderr = run(cwd, str(folders(cwd)[0]), TEST, "--weights", "no.pth", module="altub_exp.predict", expect=1)
    assert sentence(stderr) == "error: There is no weights file no.pth: name it with --weights."


@pytest.mark.slow
def test_rows_after_the_checkpoint_are_computed_again_even_if_damaged(finished, resumable, tmp_path):
    cwd = shutil.copytree(resumable, tmp_path / "copy")
    folder, before = folders(cwd)[0], folders(finished)[0]
    with (folder / "metrics.jsonl").open("ab") as file:
        file.write(b"\x00\x00\n{}\n")
    run(cwd, *TINY)
    assert journal(folder) == journal(before)
    assert equal_models(folder, before)


@pytest.mark.parametrize("name", ["checkpoint.pt", "metrics.jsonl", "config.yaml"])
def test_a_file_of_another_run_is_refused(cwd, name):
    folder, other = folders(cwd)
    shutil.copy(other / name, folder / name)
    _, stderr = run(cwd, str(folder), TEST, module="altub_exp.predict", expect=1)
    assert f"/{name} is " in sentence(stderr)
    if name != "config.yaml":  # which a training writes again
        assert f"/{name} is " in sentence(run(cwd, *TINY, expect=1)[1])


@pytest.mark.slow
def test_a_run_of_an_earlier_version_is_resumed_with_a_warning(finished, resumable, tmp_path):
    cwd = shutil.copytree(resumable, tmp_path / "copy")
    folder, before = folders(cwd)[0], folders(finished)[0]
    content = (folder / "checkpoint.pt").read_bytes()
    (folder / "checkpoint.pt").write_bytes(content[: content.rindex(b"PK\x05\x06") + 20] + b"\0\0")
    for name in ("status.json", "record.json", "tracking.json"):
        if (folder / name).exists():
            fields = json.loads((folder / name).read_text())
            (folder / name).write_text(json.dumps({key: value for key, value in fields.items() if key != "seal"}))
    text = (folder / "config.yaml").read_text()
    (folder / "config.yaml").write_text(text.partition("\n")[2])
    stdout, _ = run(cwd, "--verify", module="altub_exp.status")
    assert stdout == "0 intact, 0 damaged, 1 of an earlier version, without seals\n"
    _, stderr = run(cwd, *TINY)
    assert "without seals: damage to it may go unnoticed" in stderr
    assert journal(folder) == journal(before)
    assert equal_models(folder, before)
    stdout, _ = run(cwd, "--verify", module="altub_exp.status")
    assert stdout.startswith("1 intact")


@pytest.mark.parametrize(
    "name", ["", *(pytest.param(name, marks=pytest.mark.slow) for name in ("train.log", "status.json"))]
)
def test_what_may_not_be_read_or_written_is_one_sentence(finished, name):
    """An ordinary user does it, since root may read and write everything."""
    as_user = ["setpriv", f"--reuid={NOBODY}", "--clear-groups"] if os.geteuid() == 0 else []
    with tempfile.TemporaryDirectory() as place:
        cwd = shutil.copytree(finished, Path(place) / "copy")
        folder = folders(cwd)[0]
        if as_user:
            for path in (Path(place), cwd, *cwd.rglob("*")):
                os.chown(path, NOBODY, -1)
        (folder / name).chmod(0o555 if name == "" else 0)
        done = subprocess.run(
            [*as_user, *command(*TINY)],
            cwd=cwd,
            env=environment(HOME=str(cwd)),
            capture_output=True,
            text=True,
            check=False,
            timeout=240,
        )
        (folder / name).chmod(0o755)
    if done.returncode in (126, 127) or "No module named" in done.stderr:
        pytest.skip(f"an ordinary user may not start the program here: {done.stderr}")
    assert done.returncode == 1, done.stderr
    assert "cannot be used (Permission denied)" in sentence(done.stderr)
    assert f"{folder.name}/{name}" in sentence(done.stderr)


@pytest.mark.slow
@pytest.mark.parametrize("name", KINDS)
def test_a_hundred_flipped_bits_are_refused_or_the_resumed_run_ends_with_the_same_numbers(
    finished, resumable, tmp_path, name
):
    assert (folders(resumable)[0] / name).exists()
    for seed in range(FLIPS):
        cwd = shutil.copytree(resumable, tmp_path / str(seed))
        flip(folders(cwd)[0] / name, seed)
        refused_or_equal(cwd, finished, name)
        shutil.rmtree(cwd)


@pytest.mark.slow
@pytest.mark.parametrize("name", KINDS)
def test_a_hundred_flipped_bits_in_a_finished_run_are_refused_or_change_no_number(finished, tmp_path, name):
    for seed in range(FLIPS):
        cwd = shutil.copytree(finished, tmp_path / str(seed))
        folder = folders(cwd)[0]
        flip(folder / name, seed)
        refusal = refused(cwd, str(folder), TEST, "--maps", "none", "--no-overlays", module="altub_exp.predict")
        assert f"/{name} " in refusal if name != "tracking.json" else refusal is None, seed  # predict does not read it
        refused_or_equal(cwd, finished, name)
        shutil.rmtree(cwd)


def refused(cwd, *arguments, module="altub_exp.train"):
    """Return the sentence with which a command refuses, or None."""
    try:
        run(cwd, *arguments, module=module)
    except AssertionError as failure:
        return sentence(str(failure))
    return None


def refused_or_equal(cwd, finished, name):
    """Give the training command: it refuses the damaged file, or ends with the numbers of an undisturbed run."""
    folder, before = folders(cwd)[0], folders(finished)[0]
    if refusal := refused(cwd, *TINY):
        assert f"/{name} " in refusal
        return
    assert status(folder)["state"] == "finished"
    assert status(folder)["summary"] == status(before)["summary"]
    assert journal(folder) == journal(before)
    assert equal_models(folder, before)
    _, runs = recorded(cwd)
    assert len({mlflow.data.tags["run_uid"] for mlflow in runs}) == len(runs)
