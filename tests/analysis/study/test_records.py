"""The records of finished runs: nothing of a run's numbers is lost on the way, and nothing of the machine is kept."""

import json
import math
import socket
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

from altub_exp.errors import UserError
from altub_exp.runs.folder import RunFolder
from altub_exp.runs.states import RunState
from altub_exp.tracking.tracker import Tracker
from analysis.study import records
from tests.commandline import ROOT, TINY, folders, recorded, run, status

STUDY = "analysis.study"
SWEEP = ["-m", *TINY, "altub=none,alternating", "train.epochs=3", "tracking.sweep=tiny"]


@pytest.fixture(scope="module")
def computed(tmp_path_factory):
    """The folder of a sweep of two runs, packed into ``study/``."""
    cwd = tmp_path_factory.mktemp("computed")
    run(cwd, *SWEEP)
    stdout, _ = run(cwd, "pack", "runs", "--experiment", "demo", module=STUDY)
    assert stdout == "2 finished or crashed runs of experiment 'demo' in runs taken; study holds 2.\n"
    return cwd


@pytest.fixture(scope="module")
def restored(computed, tmp_path_factory):
    """Another folder, to which the records were brought."""
    cwd = tmp_path_factory.mktemp("restored")
    stdout, _ = run(cwd, "unpack", "runs", "--records", str(computed / "study"), module=STUDY)
    assert stdout.startswith("2 runs restored below runs.")
    return cwd


def made_up(path: Path, rows, **changes):
    """Write the folder of a finished run through the program's own code."""
    folder = RunFolder(path)
    folder.write_status(state=RunState.running, versions={}, run_uid="0" * 32)
    config = {"dataset": {"root": "/mnt/images/mvtec"}, "backbone": {"weights": "pretrained"}, "runs_dir": "/mnt/runs"}
    config |= {"cache": {"dir": None}, "tracking": {"uri": "sqlite:////mnt/mlflow.db", "sweep": None}}
    folder.config.write_text(yaml.safe_dump(config))
    tags = {"altub": "none", "run_folder": str(path), "host": socket.gethostname(), "weights": "pretrained"}
    params = {"dataset.root": "/mnt/images/mvtec", "runs_dir": "/mnt/runs", "seed": 1, "cache.dir": None}
    Tracker("sqlite:////mnt/mlflow.db", "study", "made up", tags, params | changes, folder, 1_760_000_000_000)
    for number, row in enumerate(rows, start=1):
        folder.journal.append({"epoch": number, **row})
    folder.write_status(state=RunState.finished)
    return folder


def test_journal_status_and_configuration_come_back(computed, restored):
    for before, after in zip(folders(computed), folders(restored), strict=True):
        assert before.relative_to(computed) == after.relative_to(restored)
        assert RunFolder(before).journal.rows() == RunFolder(after).journal.rows()
        old, new = status(before), status(after)
        assert new == {key: old[key] for key in records.STATUS if key in old}
        old, new = (yaml.safe_load((folder / "config.yaml").read_text()) for folder in (before, after))
        for config in (old, new):
            for key in (*records.PLACES, *records.REPLACED):
                group, _, name = key.rpartition(".")
                del (config[group] if group else config)[name]
        assert old == new


def test_a_sweep_has_nothing_to_do_for_restored_runs(restored):
    journals = [folder / "metrics.jsonl" for folder in folders(restored)]
    before = [file.stat().st_mtime_ns for file in journals]
    _, stderr = run(restored, *SWEEP)
    assert "2 runs: 2 finished; 0 to compute." in stderr
    assert before == [file.stat().st_mtime_ns for file in journals]


def test_mlflow_receives_equal_series(computed, restored):
    run(restored, "runs", module="altub_exp.sync")
    (old, old_runs), (new, new_runs) = recorded(computed), recorded(restored)
    assert {base: dict(sorted(series.items())) for base, series in new.items()} == {
        base: dict(sorted(series.items())) for base, series in old.items()
    }
    sides = (sorted(runs, key=lambda run: run.data.tags["altub"]) for runs in (old_runs, new_runs))
    for before, after in zip(*sides, strict=True):
        kept = {key: value for key, value in before.data.tags.items() if key not in records.PRIVATE_TAGS}
        ours = {key: value for key, value in after.data.tags.items() if not key.startswith("mlflow.")}
        assert ours == {key: value for key, value in kept.items() if not key.startswith("mlflow.")}
    stdout, _ = run(restored, "runs", module="altub_exp.sync")
    assert stdout.count("nothing missing") == 2


def test_nothing_names_the_machine(computed):
    rows = pq.read_table(computed / "study" / "runs.parquet").to_pylist()
    text = "\n".join(value for row in rows for value in row.values() if value is not None)
    assert socket.gethostname() not in text
    assert str(computed) not in text
    assert str(Path.home()) not in text
    for row in rows:
        assert not {"pid", "host", "since"} & set(json.loads(row["status.json"]))
        assert not {"run_folder", "host"} & set(json.loads(row["record.json"])["tags"])


def test_paths_of_the_machine_are_cut_to_their_last_part(tmp_path):
    made_up(tmp_path / "runs" / "a" / "seed1-00000001", [{"loss": 1.0}])
    assert records.pack(tmp_path / "runs", tmp_path / "study") == (1, 1)
    (kept,) = records.load(tmp_path / "study")
    record, config = json.loads(kept.files["record.json"]), yaml.safe_load(kept.files["config.yaml"])
    assert record["params"] == {"dataset.root": "mvtec", "runs_dir": "runs", "seed": "1", "cache.dir": "None"}
    assert record["uri"] == config["tracking"]["uri"] == "sqlite:///mlflow.db"
    assert (config["dataset"]["root"], config["runs_dir"], config["cache"]["dir"]) == ("mvtec", "runs", None)


def test_another_path_is_refused(tmp_path):
    made_up(tmp_path / "runs" / "seed1-00000001", [{"loss": 1.0}], **{"dataset.train_dir": "/home/me/images"})
    with pytest.raises(UserError, match=r"names this machine in params\.dataset\.train_dir \(/home/me/images\)"):
        records.pack(tmp_path / "runs", tmp_path / "study")
    assert not records.exist(tmp_path / "study")


def test_numbers_of_all_kinds_come_back(tmp_path):
    """Integers stay integers, a metric that an epoch lacks stays absent, NaN and the last bit of a float survive."""
    rows = [{"loss": 0.1 + 0.2, "ks_channels": 176}, {"loss": math.nan}, {"loss": -math.inf, "pixel_auroc": 1.0}]
    folder = made_up(tmp_path / "runs" / "seed1-00000001", rows)
    records.pack(tmp_path / "runs", tmp_path / "study")
    records.unpack(tmp_path / "again", tmp_path / "study")
    again = RunFolder(tmp_path / "again" / "seed1-00000001")
    assert repr([sorted(row.items()) for row in again.journal.rows()]) == repr(
        [sorted(row.items()) for row in folder.journal.rows()]
    )


def test_packing_merges_and_replaces(tmp_path):
    made_up(tmp_path / "first" / "seed1-00000001", [{"loss": 1.0}])
    made_up(tmp_path / "first" / "seed2-00000002", [{"loss": 2.0}])
    made_up(tmp_path / "second" / "seed2-00000002", [{"loss": 3.0}])
    unfinished = made_up(tmp_path / "second" / "seed3-00000003", [{"loss": 4.0}])
    unfinished.write_status(state=RunState.failed)
    assert records.pack(tmp_path / "first", tmp_path / "study") == (2, 2)
    before = records.digest(tmp_path / "study")
    assert records.pack(tmp_path / "first", tmp_path / "study") == (2, 2)
    assert records.digest(tmp_path / "study") == before
    assert records.pack(tmp_path / "second", tmp_path / "study") == (1, 2)
    assert [run.journal[0]["loss"] for run in records.load(tmp_path / "study")] == [1.0, 3.0]


def test_only_runs_of_the_experiment_are_packed(tmp_path):
    made_up(tmp_path / "runs" / "seed1-00000001", [{"loss": 1.0}])
    assert records.pack(tmp_path / "runs", tmp_path / "study", "other") == (0, 0)
    assert not records.exist(tmp_path / "study")


def test_restoring_leaves_present_runs_alone(tmp_path):
    folder = made_up(tmp_path / "runs" / "seed1-00000001", [{"loss": 1.0}])
    records.pack(tmp_path / "runs", tmp_path / "study")
    before = folder.status()
    assert records.unpack(tmp_path / "runs", tmp_path / "study") == 0
    assert folder.status() == before


def test_damaged_or_missing_records_are_one_sentence(tmp_path):
    _, stderr = run(tmp_path, "unpack", module=STUDY, expect=1)
    assert stderr.startswith("error: The records in study cannot be read")
    (tmp_path / "study").mkdir()
    for name in records.FILES:
        (tmp_path / "study" / name).write_text("nothing")
    _, stderr = run(tmp_path, "unpack", module=STUDY, expect=1)
    assert stderr.startswith("error: The records in study cannot be read")
    assert len(stderr.splitlines()) == 1


def test_committed_runs_of_one_commit_have_the_same_code():
    committed = pq.read_table(ROOT / "study" / records.FILES[0], columns=["status.json"])["status.json"].to_pylist()
    codes = {}
    for text in committed:
        codes.setdefault((status := json.loads(text))["git_commit"], set()).add(status["code"])
    assert codes
    assert all(len(found) == 1 for found in codes.values()), codes
