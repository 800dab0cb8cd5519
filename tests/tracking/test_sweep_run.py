"""Runs and sweeps in MLflow's interface, from real SQLite stores: names, source, images, reports."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from altub_exp import sync
from altub_exp.runs.folder import RunFolder
from altub_exp.runs.states import RunState
from altub_exp.runs.sweep_folder import SweepFolder
from altub_exp.tracking import store
from altub_exp.tracking import sync as synchronisation
from altub_exp.tracking.columns import NOTE, log_datasets, source_tags
from altub_exp.tracking.sweep_run import SweepRun
from altub_exp.tracking.sync import finish_sweep
from altub_exp.tracking.tracker import Tracker
from tests.stores import place_store

IMAGES = {
    "name": "mvtec/screw",
    "digest": "0e8e32e331a1dc4015588be5676df913",
    "source": "data/mvtec",
    "profile": {"training images": 320, "normal test images": 41, "defective test images": 119},
}


@pytest.fixture
def uri(tmp_path: Path) -> str:
    return f"sqlite:///{place_store(tmp_path)}"


def client(uri: str):
    return store.import_mlflow()(tracking_uri=uri)


def runs(uri: str) -> dict:
    experiment = client(uri).get_experiment_by_name("altub")
    return {run.info.run_name: run for run in client(uri).search_runs([experiment.experiment_id])}


def tracker(uri: str, folder: RunFolder, **fields) -> Tracker:
    plain = {"experiment": "altub", "name": "screw · none", "tags": {}, "params": {}, "start_time": 1_700_000_000_000}
    return Tracker(uri=uri, folder=folder, **(plain | {"dataset": IMAGES} | fields))


def begun(path: Path, *epochs: int) -> RunFolder:
    folder = RunFolder(path)
    folder.write_status(state=RunState.running, checkpoint_epoch=len(epochs), device="cpu")
    for epoch in epochs:
        folder.journal.append({"epoch": epoch, "loss": 0.1, "image_auroc": 0.9 + epoch / 100, "seconds": 2.0})
    return folder


def datasets(run) -> list:
    return run.inputs.dataset_inputs


def test_images_of_a_run_are_recorded_once(uri, tmp_path):
    folder = begun(tmp_path / "runs/a", 1)
    track = tracker(uri, folder)
    assert track.flush(0)
    assert track.flush(1)
    assert tracker(uri, folder).finish(RunState.finished, {}, [])
    (recorded,) = datasets(runs(uri)["screw · none"])
    assert (recorded.dataset.name, recorded.dataset.digest) == ("mvtec/screw", IMAGES["digest"])
    assert recorded.dataset.source_type == "local"
    assert recorded.dataset.source == '{"uri": "data/mvtec"}'
    assert '"defective test images": 119' in recorded.dataset.profile
    assert [(tag.key, tag.value) for tag in recorded.tags] == [("mlflow.data.context", "training")]


def test_images_and_description_arrive_by_sync_if_the_store_was_away(uri, tmp_path, capsys):
    folder = begun(tmp_path / "runs/a", 1)
    path = tmp_path / "mlflow.db"
    store.connect(uri)  # only a store that was never opened would be created anew
    path.rename(tmp_path / "away")
    assert not tracker(uri, folder).finish(RunState.finished, {}, [])
    (tmp_path / "away").rename(path)
    assert sync.main([str(tmp_path / "runs")]) == 0
    run = runs(uri)["screw · none"]
    assert [each.dataset.name for each in datasets(run)] == ["mvtec/screw"]
    assert run.data.tags[NOTE] == "finished 1 epoch in 2 s on cpu"
    capsys.readouterr()


def test_runs_that_record_the_same_images_at_the_same_moment(uri, tmp_path):
    experiment = client(uri).create_experiment("altub", (tmp_path / "artifacts").as_uri())
    ids = [client(uri).create_run(experiment, run_name=str(number)).info.run_id for number in range(8)]
    start, errors = threading.Barrier(len(ids)), []

    def record(run_id: str) -> None:
        own = client(uri)
        start.wait()
        try:
            log_datasets(own, run_id, [IMAGES])
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=record, args=[run_id]) for run_id in ids]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert [len(datasets(run)) for run in runs(uri).values()] == [1] * 8


def test_an_insertion_that_another_run_was_quicker_with_is_repeated_once(uri, tmp_path, monkeypatch):
    from mlflow.exceptions import MlflowException
    from mlflow.protos.databricks_pb2 import BAD_REQUEST, INTERNAL_ERROR

    folder = begun(tmp_path / "runs/a", 1)
    mlflow_client = store.import_mlflow()
    deliver, errors = mlflow_client.log_inputs, [MlflowException("UNIQUE constraint failed", BAD_REQUEST)]

    def log_inputs(self, *arguments):
        if errors:
            raise errors.pop()
        deliver(self, *arguments)

    monkeypatch.setattr(mlflow_client, "log_inputs", log_inputs)
    assert tracker(uri, folder).flush(1)
    assert len(datasets(runs(uri)["screw · none"])) == 1
    errors.append(MlflowException("no connection", INTERNAL_ERROR))
    with pytest.raises(MlflowException, match="no connection"):
        log_datasets(client(uri), runs(uri)["screw · none"].info.run_id, [IMAGES])


def test_description_follows_the_state_and_an_edited_one_stays(uri, tmp_path):
    folder = begun(tmp_path / "runs/a", 1)

    def note() -> str:
        return runs(uri)["screw · none"].data.tags[NOTE]

    assert tracker(uri, folder).flush(1)
    assert note() == "in progress"
    folder.write_status(state=RunState.failed, reason="interrupted", interrupted=True)
    assert tracker(uri, folder).finish(RunState.failed, {}, [])
    assert note() == "interrupted after epoch 1"
    folder.write_status(state=RunState.running)
    assert tracker(uri, folder).flush(1)
    assert note() == "in progress"
    summary = {"image_auroc_mean": 0.91, "image_auroc_std": 0.0, "image_auroc_best": 0.91}
    folder.write_status(window=[1, 1])
    assert tracker(uri, folder).finish(RunState.finished, summary, [])
    assert note().startswith("image AUROC 91.0 ± 0.0 % over epochs 1 to 1, 91.0 % after the last epoch; finished")
    client(uri).set_tag(runs(uri)["screw · none"].info.run_id, NOTE, "the lens was dirty")
    assert tracker(uri, folder).finish(RunState.finished, summary, [])
    assert note() == "the lens was dirty"


def test_source_is_the_program_and_its_own_commit(monkeypatch):
    monkeypatch.setenv("LOGNAME", "alice")
    assert source_tags("0123abcd", True) == {
        "mlflow.user": "alice",
        "mlflow.source.name": "altub_exp.train",
        "mlflow.source.type": "LOCAL",
        "mlflow.source.git.commit": "0123abcd",
        "mlflow.source.git.dirty": "true",
    }
    assert "mlflow.source.git.commit" not in source_tags(None, None)


@pytest.fixture
def sweep(uri, tmp_path):
    """The run of a sweep of two runs, of which one is finished, and the folder of the other."""
    first, second = begun(tmp_path / "runs/a", 1, 2), begun(tmp_path / "runs/b", 1)
    sweep = SweepRun(uri, "altub", SweepFolder(tmp_path / "runs", "sweep-0a"))
    names = {first: "screw · none", second: "screw · cnn"}
    sweep.folder.write(sweep.place, "altub=none,cnn", ["altub=none,cnn"], {"mlflow.user": "alice"}, names)
    for folder, name in names.items():
        folder.config.write_text("dataset: {name: mvtec, category: screw}\n")
        tracker(uri, folder, name=name, tags={"sweep": "sweep-0a"})
    assert Tracker.from_record(first).finish(RunState.finished, {}, [])
    return sweep, second


def artifacts(uri: str, run) -> list[str]:
    return [file.path for file in client(uri).list_artifacts(run.info.run_id)]


FILES = ["auroc-mvtec-screw.png", "stability.csv", "stability.md"]


def test_a_sweeps_run_has_its_title_and_at_its_end_its_report(uri, sweep):
    sweep, second = sweep
    with sweep:
        run = runs(uri)["altub=none,cnn"]
        assert run.data.tags["sweep_parent"] == "sweep-0a"
        assert run.data.tags["mlflow.user"] == "alice"
        assert run.data.tags[NOTE] == "`python -m altub_exp.train -m altub=none,cnn`"
        assert Tracker.from_record(second).finish(RunState.finished, {}, [])
        finish_sweep(list(sweep.folder.runs()), sweep)
    run = runs(uri)["altub=none,cnn"]
    assert run.info.status == "FINISHED"
    assert artifacts(uri, run) == FILES
    assert [each.dataset.name for each in datasets(run)] == ["mvtec/screw"]
    assert "2 runs: 2 finished" in run.data.tags[NOTE]
    assert "| screw · cnn | finished |" in run.data.tags[NOTE]
    assert sweep.folder.is_reported(sweep.place)


def test_a_stopped_sweep_is_reported_when_it_is_resumed(uri, sweep):
    sweep, second = sweep
    with pytest.raises(KeyboardInterrupt), sweep:
        raise KeyboardInterrupt
    run = runs(uri)["altub=none,cnn"]
    assert run.info.status == "KILLED"
    assert artifacts(uri, run) == []
    assert not sweep.folder.is_reported(sweep.place)
    Tracker.from_record(second).finish(RunState.finished, {}, [])
    with SweepRun(uri, "altub", sweep.folder) as resumed:
        finish_sweep(list(sweep.folder.runs()), resumed)
    (run,) = [run for run in runs(uri).values() if "sweep_parent" in run.data.tags]
    assert (run.info.status, artifacts(uri, run)) == ("FINISHED", FILES)


def test_sync_sends_the_report_if_the_store_was_away_at_the_end(uri, sweep, tmp_path, monkeypatch, capsys):
    sweep, second = sweep
    monkeypatch.setattr(synchronisation, "PATIENCE", 0.0)
    with sweep:
        (tmp_path / "mlflow.db").rename(tmp_path / "away")
        assert not Tracker.from_record(second).finish(RunState.finished, {}, [])
        finish_sweep(list(sweep.folder.runs()), sweep)
    assert "python -m altub_exp.sync" in capsys.readouterr().err
    (tmp_path / "away").rename(tmp_path / "mlflow.db")
    assert sync.main([str(tmp_path / "runs")]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == "sweep sweep-0a: none of its runs is still being computed; marked as ended"
    run = runs(uri)["altub=none,cnn"]
    assert (run.info.status, artifacts(uri, run)) == ("FINISHED", FILES)
    assert "2 runs: 2 finished" in run.data.tags[NOTE]
    assert sync.main([str(tmp_path / "runs")]) == 0
    assert [line.partition(": ")[2] for line in capsys.readouterr().out.splitlines()] == ["nothing missing"] * 2


def test_sync_to_another_store_sends_name_and_report_there(uri, sweep, tmp_path, capsys):
    sweep, second = sweep
    Tracker.from_record(second).finish(RunState.finished, {}, [])
    (tmp_path / "other").mkdir()
    other = f"sqlite:///{place_store(tmp_path / 'other')}"
    assert sync.main([str(tmp_path / "runs"), "--uri", other]) == 0
    capsys.readouterr()
    run = runs(other)["altub=none,cnn"]
    assert (run.info.status, artifacts(other, run)) == ("FINISHED", FILES)
    assert not sweep.folder.is_reported((uri, "altub")), "that store still lacks it"


def test_a_report_that_cannot_be_written_is_named_and_ends_nothing_else(uri, sweep, monkeypatch, capsys):
    sweep, second = sweep

    def refuse(folder: SweepFolder) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("altub_exp.tracking.sweep_run.write_report", refuse)
    with sweep:
        assert Tracker.from_record(second).finish(RunState.finished, {}, [])
        finish_sweep(list(sweep.folder.runs()), sweep)
    said = capsys.readouterr().err
    assert "Not all of the sweep is in MLflow: [Errno 28] No space left on device" in said
    assert "The sweep's own run is not marked as ended." in said
    assert runs(uri)["altub=none,cnn"].info.status == "RUNNING"
    assert not sweep.folder.is_reported(sweep.place)


def test_a_run_whose_sweep_left_no_record_is_nested_below_a_run_of_that_name(uri, tmp_path, capsys):
    folder = begun(tmp_path / "runs/a", 1)
    tracker(uri, folder, tags={"sweep": "by hand"})
    folder.write_status(state=RunState.finished)
    assert sync.main([str(tmp_path / "runs")]) == 0
    capsys.readouterr()
    parent = runs(uri)["by hand"]
    assert (parent.info.status, artifacts(uri, parent)) == ("FINISHED", [])
    assert runs(uri)["screw · none"].data.tags["mlflow.parentRunId"] == parent.info.run_id
