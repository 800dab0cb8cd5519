"""Every damage to a file of a run, and every file of another run, is found before the file is used."""

from __future__ import annotations

import os
import random
import shutil

import pytest

from altub_exp.errors import UserError
from altub_exp.runs.checkpoint import load_trained
from altub_exp.runs.folder import RunFolder
from altub_exp.runs.integrity import inspect, require_intact
from altub_exp.runs.seal import Damaged, archive_facts
from altub_exp.tracking.tracker import Tracker, recorded
from tests.commandline import TINY, folders, kill_behind_a_checkpoint, run

FLIPS = 100
FILES = ("checkpoint.pt", "metrics.jsonl", "config.yaml", "status.json", "tracking.json", "record.json")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Two finished runs of one sweep: (alternating, none)."""
    cwd = tmp_path_factory.mktemp("finished")
    run(cwd, "-m", *TINY, "altub=none,alternating")
    return [RunFolder(path) for path in folders(cwd)]


@pytest.fixture(scope="module")
def resumable(tmp_path_factory):
    """A run that was killed after a checkpoint."""
    folder = RunFolder(kill_behind_a_checkpoint(tmp_path_factory.mktemp("killed"), *TINY))
    folder.journal.append({"epoch": 99})  # a row after the checkpoint
    return folder


@pytest.fixture
def copy(tmp_path):
    """A function that copies a run to a folder of the same name."""

    def copied(folder):
        return RunFolder(shutil.copytree(folder.path, tmp_path / "runs" / folder.path.name, dirs_exist_ok=True))

    return copied


def flips(content, seed):
    """Yield the content with one flipped bit, a hundred times."""
    draw = random.Random(seed)
    for _ in range(FLIPS):
        position, bit = draw.randrange(len(content)), draw.randrange(8)
        yield content[:position] + bytes([content[position] ^ 1 << bit]) + content[position + 1 :]


def test_runs_are_intact_as_they_were_written(finished, resumable):
    for folder in (*finished, resumable):
        inspection = inspect(folder)
        assert (inspection.damages, inspection.sealed) == ({}, True)
        assert archive_facts(folder.checkpoint)["run"] == folder.path.name


@pytest.mark.parametrize("name", FILES)
def test_a_hundred_flipped_bits_in_a_finished_run_are_found(finished, copy, name):
    folder = copy(finished[0])
    file = folder.path / name
    for damaged in flips(file.read_bytes(), name):
        file.write_bytes(damaged)
        assert list(inspect(folder).damages) == [file]
        if name in FILES[:4]:
            with pytest.raises(Damaged, match=name):
                require_intact(folder, file)
        elif name == "record.json":
            with pytest.raises(Damaged, match=name):
                recorded(folder)
        else:
            assert Tracker.from_record(folder)._places() == {}, "it is rebuilt from MLflow"


@pytest.mark.parametrize("name", FILES[:2])
def test_a_hundred_flipped_bits_in_a_resumable_run_are_refused_or_recomputed(resumable, copy, name):
    folder = copy(resumable)
    file, done = folder.path / name, folder.status()["checkpoint_epoch"]
    sealed = folder.journal.file.read_bytes()[: archive_facts(folder.checkpoint)["journal"]["bytes"]]
    refused = 0
    for damaged in flips(file.read_bytes(), name):
        file.write_bytes(damaged)
        if file in (damages := inspect(folder).damages):
            refused += 1
            assert name in damages[file]
            assert "resume=never" in damages[file]
        else:
            folder.journal.truncate(done)
            assert folder.journal.file.read_bytes() == sealed
    assert refused == FLIPS if name == "checkpoint.pt" else 0 < refused <= FLIPS


def shortened(content):
    return content[: len(content) // 2]


def without_a_row(content):
    return b"".join(content.splitlines(keepends=True)[1:])


def with_a_row_twice(content):
    return content.splitlines(keepends=True)[0] + content


DAMAGES = [bytes, shortened, lambda content: bytes(len(content)), without_a_row, with_a_row_twice]


@pytest.mark.parametrize("name", FILES[:4])
@pytest.mark.parametrize("change", DAMAGES, ids=["empty", "half", "zeros", "no first row", "a row twice"])
def test_files_that_are_cut_zeroed_or_edited_are_found(finished, copy, name, change):
    folder = copy(finished[0])
    file = folder.path / name
    content = file.read_bytes()
    file.write_bytes(b"" if change is bytes else change(content))
    assert file in inspect(folder).damages
    file.unlink()
    assert file in inspect(folder).damages
    file.write_bytes(content)
    assert inspect(folder).damages == {}


@pytest.mark.parametrize("name", FILES[:4])
def test_a_file_of_another_run_is_refused(finished, copy, name):
    folder = copy(finished[0])
    shutil.copy(finished[1].path / name, folder.path / name)
    with pytest.raises(Damaged, match=name):
        require_intact(folder, folder.path / name, folder.checkpoint)


def test_a_renamed_copy_is_still_a_whole_run(finished, tmp_path):
    folder = RunFolder(shutil.copytree(finished[0].path, tmp_path / "best run"))
    assert inspect(folder).damages == {}
    shutil.copy(finished[1].checkpoint, folder.checkpoint)
    assert list(inspect(folder).damages) == [folder.checkpoint, folder.journal.file, folder.config]


def test_a_checkpoint_without_a_seal_is_used_with_a_warning(finished, copy, caplog):
    """A checkpoint of an earlier version: PyTorch's archive without a comment."""
    folder = copy(finished[0])
    facts = archive_facts(folder.checkpoint)
    content = folder.checkpoint.read_bytes()
    end = content.rindex(b"PK\x05\x06") + 22
    folder.checkpoint.write_bytes(content[: end - 2] + b"\0\0")
    inspection = require_intact(folder, folder.checkpoint, folder.config)
    assert (inspection.damages, inspection.sealed) == ({}, False)
    assert "without seals" in caplog.text
    assert load_trained(folder.checkpoint).shapes
    assert facts["run_uid"] == folder.run_uid()
    folder.checkpoint.write_bytes(content[:end])
    assert folder.checkpoint in inspect(folder).damages, "its seal was cut off"


def test_a_status_that_is_lost_is_restored_with_the_same_name_in_mlflow(finished, copy):
    folder = copy(finished[0])
    uid = folder.run_uid()
    folder.status_file.unlink()
    assert folder.exists()
    assert folder.run_uid() == uid


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("kind", ["folder", "endless", "loop"])
def test_what_stands_in_a_files_place_is_one_sentence(finished, copy, name, kind):
    folder = copy(finished[0])
    file = folder.path / name
    file.unlink()
    if kind == "folder":
        file.mkdir()
    else:
        file.symlink_to("/dev/zero" if kind == "endless" else file)
    with pytest.raises((UserError, OSError)) as error:
        require_intact(folder, *(folder.path / each for each in FILES))
    assert name in str(error.value)
    assert os.path.lexists(file)
