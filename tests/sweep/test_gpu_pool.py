"""The queue on one machine: with simulated GPUs, and on the CPU through the real command line."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

from altub_exp.data.synthetic import Drawing, draw
from altub_exp.errors import UserError
from altub_exp.machine.gpus import visible_gpus
from altub_exp.runs.folder import RunLocked
from altub_exp.sweep.pool import Command, Pool, environment, slots
from tests.commandline import ROOT, TINY, command, equal_models, folders, journal, run, status
from tests.commandline import environment as inherited
from tests.stores import place_store

FEW = [*TINY, "train.epochs=2", "eval.ks_every=0", "altub=none"]
POOL = ["-m", "hydra/launcher=gpu_pool", "hydra.launcher.poll_seconds=0.05", *FEW]
NO_GPU = {"CUDA_VISIBLE_DEVICES": ""}


def wait_for(true, seconds=120):
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def script(folder, code, number):
    """Make a job of a few lines of Python, which have the variables ``folder`` and ``number``."""
    head = f"import json, os, pathlib, signal, sys, time\nfolder, number = pathlib.Path({str(folder)!r}), {number}\n"
    return Command(f"#{number}", [sys.executable, "-c", head + code], folder / f"{number}.log")


@pytest.fixture
def unset(monkeypatch):
    for name in ("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)


RECORD = """
began = time.monotonic()
time.sleep(0.4)
seen = {name: os.environ.get(name) for name in ("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "OMP_NUM_THREADS")}
(folder / f"{number}.json").write_text(json.dumps(seen | {"began": began, "ended": time.monotonic(), "pid": os.getpid(),
    "session": os.getsid(0)}))
"""


@pytest.mark.usefixtures("unset")
def test_two_jobs_share_each_of_two_gpus_and_never_more(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(12)))
    places = slots(["0", "1"], jobs_per_gpu=2, cpu_slots=None)
    assert [slot.gpu for slot in places] == ["0", "1", "0", "1"]
    outcomes = Pool(places, 0.02).run([script(tmp_path, RECORD, number) for number in range(10)])
    assert [outcome.error for outcome in outcomes] == [None] * 10
    seen = [json.loads((tmp_path / f"{number}.json").read_text()) for number in range(10)]
    assert [one["CUDA_VISIBLE_DEVICES"] for one in seen[:4]] == ["0", "1", "0", "1"]
    assert {(one["OMP_NUM_THREADS"], one["CUDA_DEVICE_ORDER"]) for one in seen} == {("3", "PCI_BUS_ID")}
    assert len({one["pid"] for one in seen}) == 10, "a fresh process per job"
    assert all(one["session"] == one["pid"] for one in seen)
    for gpu in "01":
        on_it = [one for one in seen if one["CUDA_VISIBLE_DEVICES"] == gpu]
        assert len(on_it) >= 4
        together = [sum(other["began"] <= one["began"] < other["ended"] for other in on_it) for one in on_it]
        assert max(together) == 2
    latest_before = [max(one["began"] for one in seen[:n]) for n in (4, 8)]
    assert all(one["began"] > latest_before[0] for one in seen[4:])
    assert all(one["began"] > latest_before[1] for one in seen[8:])
    assert list(tmp_path.glob("*.log")) == []


@pytest.mark.usefixtures("unset")
def test_a_slot_whose_job_is_killed_is_used_again_and_every_job_has_an_outcome(tmp_path):
    killed = script(tmp_path, "os.kill(os.getpid(), signal.SIGKILL)", 0)
    sentence = script(tmp_path, "print('error: a first one'); sys.exit('error: The folder is missing.')", 1)
    bug = script(tmp_path, "raise RuntimeError('CUDA out of memory')", 2)
    absent = Command("#3", [str(tmp_path / "absent")], tmp_path / "3.log")
    fine = script(tmp_path, RECORD, 4)
    outcomes = Pool(slots(["MIG-7a/1/0"], 1, None), 0.02).run([killed, sentence, bug, absent, fine])
    assert [outcome.status for outcome in outcomes] == [-9, 1, 1, None, 0]
    errors = [outcome.error for outcome in outcomes]
    assert "#0 was ended by signal 9 (Killed), perhaps out of memory" in errors[0]
    assert errors[1] == "The folder is missing."
    assert "#2 ended with exit status 1 (RuntimeError: CUDA out of memory)" in errors[2]
    assert "#3 cannot be started" in errors[3]
    assert errors[4] is None
    assert json.loads((tmp_path / "4.json").read_text())["CUDA_VISIBLE_DEVICES"] == "MIG-7a/1/0"
    assert "RuntimeError" in (tmp_path / "2.log").read_text()
    assert not (tmp_path / "4.log").exists()


@pytest.mark.usefixtures("unset")
def test_cores_are_divided_unless_a_person_has_said_how_many(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)))
    assert [slot.threads for slot in slots([], 1, None)] == [4] * 4
    assert [slot.threads for slot in slots([], 1, 3)] == [5] * 3
    assert [slot.threads for slot in slots([], 1, 32)] == [1] * 32
    (slot, *_) = slots([], 1, 2)
    assert environment(slot)["OMP_NUM_THREADS"] == "8"
    assert environment(slot)["CUDA_VISIBLE_DEVICES"] == ""
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert environment(slot)["OMP_NUM_THREADS"] == "3"
    (on_gpu,) = slots(["5"], 1, None)
    assert environment(on_gpu, needs_gpu=False)["CUDA_VISIBLE_DEVICES"] == ""


SMI = """#!/bin/sh
cat <<'END'
GPU 0: NVIDIA A100-SXM4-40GB (UUID: GPU-aaaa-1)
  MIG 3g.20gb     Device  0: (UUID: MIG-bbbb-1)
  MIG 3g.20gb     Device  1: (UUID: MIG-bbbb-2)
GPU 1: NVIDIA A100-SXM4-40GB (UUID: GPU-aaaa-2)
GPU 2: NVIDIA A100-SXM4-40GB (UUID: GPU-aaaa-3)
END
"""


@pytest.mark.usefixtures("unset")
def test_which_gpus_there_are(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert visible_gpus(None) == []
    assert visible_gpus(["0", "3"]) == ["0", "3"], "nobody to ask"
    (tmp_path / "nvidia-smi").write_text(SMI)
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    assert visible_gpus(None) == ["MIG-bbbb-1", "MIG-bbbb-2", "1", "2"]
    assert visible_gpus(["2", "GPU-aaaa-2"]) == ["2", "GPU-aaaa-2"]
    assert visible_gpus([]) == []
    with pytest.raises(UserError, match=r"names 3, which nvidia-smi -L does not show: choose from MIG-bbbb-1, "):
        visible_gpus(["0", "3"])
    for variable, found in {"": [], "-1": [], "4, GPU-x": ["4", "GPU-x"], "1,-1,2": ["1"]}.items():
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", variable)
        assert visible_gpus(None) == found
    with pytest.raises(UserError, match="names 0, which CUDA_VISIBLE_DEVICES="):
        visible_gpus(["0"])


CALLER = """
import json, signal, sys
from pathlib import Path
from altub_exp.sweep.pool import Command, Pool, slots
ignored, *commands = json.loads(sys.argv[1])
signal.signal(signal.SIGINT, signal.SIG_IGN if ignored else signal.default_int_handler)
try:
    Pool(slots([], 1, 2), 0.05).run([Command(str(n), one, Path(f"{n}.log")) for n, one in enumerate(commands)])
except KeyboardInterrupt as interrupt:
    sys.exit(128 + interrupt.args[0])
"""
SLEEP = "(folder / f'{number}.began').touch()\ntry: time.sleep(90)\nexcept KeyboardInterrupt: time.sleep(0.3)\n"
DONE = "(folder / f'{number}.stopped').touch()\nsys.exit(130)"
STUBBORN = "signal.signal(signal.SIGINT, signal.SIG_IGN)\n(folder / f'{number}.began').touch()\ntime.sleep(90)"


@pytest.mark.parametrize(
    ("signals", "ignored", "code"),
    [
        ([signal.SIGINT], False, SLEEP + DONE),
        ([signal.SIGTERM], False, SLEEP + DONE),
        ([signal.SIGINT, signal.SIGTERM], True, SLEEP + DONE),
        ([signal.SIGINT, signal.SIGINT], False, STUBBORN),
    ],
    ids=["Ctrl-C", "SIGTERM", "in a shell's background, where SIGINT is ignored", "Ctrl-C twice"],
)
def test_what_runs_is_stopped_with_its_caller_and_what_waits_is_dropped(tmp_path, signals, ignored, code):
    told = json.dumps([ignored, *(script(tmp_path, code, number).arguments for number in range(3))])
    process = subprocess.Popen([sys.executable, "-c", CALLER, told], cwd=tmp_path, env=inherited())
    try:
        wait_for(lambda: len(list(tmp_path.glob("*.began"))) == 2)
        for one in signals:
            process.send_signal(one)
            time.sleep(0.3)
        assert process.wait(30) == 128 + (signals[-1] if ignored else signals[0])
    finally:
        process.kill()
        process.wait()
    assert len(list(tmp_path.glob("*.stopped"))) == (0 if code == STUBBORN else 2), "waited for"
    assert not (tmp_path / "2.began").exists()


PROGRAM = """
import json, os, pathlib, sys
import hydra
from altub_exp.config.compose import conf_dir, register_schema
@hydra.main(version_base="1.3", config_path=conf_dir(), config_name="train")
def main(config):
    found = [config.dataset.category, config.device, list(config.backbone.stages), config.altub.base]
    found.append(os.environ["CUDA_VISIBLE_DEVICES"])
    pathlib.Path(f"{os.getpid()}.json").write_text(json.dumps(found))
register_schema()
main()
"""
WITH_PROGRAM = """
from hydra.core.plugins import Plugins
Plugins.instance()
import hydra_plugins.altub_gpu_pool.launcher as launcher
launcher.PROGRAM = "program"
from altub_exp.train import cli
cli()
"""


def test_overrides_and_gpus_arrive_as_they_were_given(tmp_path):
    """Another program replaces the training, since there is no GPU."""
    names = ("$HOME (1)", 'a,b=c d"e"')
    drawn = draw(tmp_path, "washer", Drawing(size=64, train_images=2, good_images=2, defect_images=2, seed=0))
    for name in names:
        shutil.copytree(drawn, tmp_path / "own" / name)
    (tmp_path / "program.py").write_text(PROGRAM)
    (tmp_path / "with_program.py").write_text(WITH_PROGRAM)
    (tmp_path / "extra" / "altub").mkdir(parents=True)
    (tmp_path / "extra" / "altub" / "mine.yaml").write_text("defaults: [none, _self_]\nbase: mine\n")
    (tmp_path / "extra" / "experiment").mkdir()
    (tmp_path / "extra" / "variant").mkdir()
    for variant, values in {"one": "seed: 1\ndevice: cuda\n", "two": "seed: 2\ndevice: cpu\n"}.items():
        (tmp_path / "extra" / "variant" / f"{variant}.yaml").write_text(f"# @package _global_\n{values}")
    recipe = "# @package _global_\ndefaults: [{override /hydra/launcher: gpu_pool}]\nhydra: {mode: MULTIRUN}\n"
    (tmp_path / "extra" / "experiment" / "recipe.yaml").write_text(recipe)
    run(
        tmp_path,
        "--config-dir=extra",
        "experiment=recipe",
        "hydra.launcher.poll_seconds=0.05",
        "altub=mine",
        "backbone.stages=[2,3]",
        "dataset.root=own",
        "dataset.category='a,b=c d\"e\"','$HOME (1)'",
        "backbone.weights=random",
        "+variant=one,two",
        module="with_program",
        PYTHONPATH=os.pathsep.join(map(str, [tmp_path, ROOT / "src", ROOT])),
        CUDA_VISIBLE_DEVICES="MIG-bbbb-2",
    )
    found = sorted(json.loads(path.read_text()) for path in tmp_path.glob("*.json"))
    assert found == [
        [name, device, [2, 3], "mine", visible]
        for name in names
        for device, visible in (("cpu", ""), ("cuda", "MIG-bbbb-2"))
    ]
    assert list(tmp_path.glob("runs/.sweeps/*.log")) == []


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["device=cuda"], "device=cuda was asked for, but there is no GPU here to use: set device=cpu or auto."),
        (["hydra.launcher.gpus=[0]"], "hydra.launcher.gpus names 0, which CUDA_VISIBLE_DEVICES= does not show"),
        (["hydra.launcher.cpu_slots=0"], "hydra.launcher.cpu_slots=0 is too small"),
        (["hydra.launcher.jobs_per_gpu=two"], "hydra.launcher.jobs_per_gpu: Value 'two'"),
        (["hydra/launcher=gpupool"], "choose one of basic, gpu_pool"),
    ],
)
def test_bad_input_is_one_sentence_before_any_job(tmp_path, arguments, sentence):
    _, stderr = run(tmp_path, *POOL, "seed=1,2", *arguments, expect=1, **NO_GPU)
    (error,) = [line for line in stderr.splitlines() if line.startswith("error: ")]
    assert sentence in error
    assert "Traceback" not in stderr
    assert "started" not in stderr
    assert not folders(tmp_path)


@pytest.fixture(scope="module")
def one_by_one(tmp_path_factory):
    """Hydra's own launcher."""
    cwd = tmp_path_factory.mktemp("one_by_one")
    run(cwd, "-m", *FEW, "model.feature_norm=none,trainable", **NO_GPU)
    return cwd


@pytest.mark.slow
def test_a_failing_job_stops_no_other_and_the_numbers_are_those_of_the_basic_launcher(one_by_one, tmp_path):
    environment = {name: value for name, value in inherited().items() if name != "OMP_NUM_THREADS"}
    place_store(tmp_path)
    arguments = [*POOL, "hydra.launcher.cpu_slots=2", "threads=null", "model.feature_norm=pretrained,none,trainable"]
    two_cores = sorted(os.sched_getaffinity(0))[:2]  # so that each job has one thread, as one by one
    done = subprocess.run(
        command(*arguments),
        cwd=tmp_path,
        env=environment | NO_GPU,
        capture_output=True,
        text=True,
        timeout=240,
        preexec_fn=lambda: os.sched_setaffinity(0, two_cores),
    )
    assert done.returncode == 1
    sentence = "has no final norm of its own"
    assert done.stderr.count(sentence) == 1, done.stderr
    assert "3 runs: 1 failed, 2 finished." in done.stderr
    assert "Traceback" not in done.stderr
    assert len(folders(tmp_path)) == 2
    for ours, theirs in zip(folders(tmp_path), folders(one_by_one), strict=True):
        assert ours.name == theirs.name
        assert status(ours)["state"] == "finished"
        assert status(ours)["threads"] == status(theirs)["threads"] == 1
        assert journal(ours) == journal(theirs)
        assert equal_models(ours, theirs)
    lines = done.stderr.splitlines()
    assert "#0 model.feature_norm=pretrained: started (slot 0, CPU)" in lines
    assert "#1 model.feature_norm=none: started (slot 1, CPU)" in lines
    assert "#2 model.feature_norm=trainable: started (slot 0, CPU)" in lines
    assert any(
        line.startswith("#0 model.feature_norm=pretrained: failed after") and "1 of 3 ended" in line for line in lines
    )
    assert any("2 of 3 ended, about" in line and line.endswith(" left") for line in lines)
    assert any(
        line.startswith("#2 model.feature_norm=trainable: done in") and line.endswith("3 of 3 ended") for line in lines
    )
    (kept,) = tmp_path.glob("runs/.sweeps/*.log")
    assert kept.name.startswith("0_model.feature_norm=pretrained_")
    assert sentence in kept.read_text()


def start_until_first_checkpoint(cwd, epochs):
    """Start two jobs on one slot, and return the caller when the first is in the middle of its training."""
    arguments = [*POOL, "hydra.launcher.cpu_slots=1", f"train.epochs={epochs}", "seed=1,2"]
    with (cwd / "output.txt").open("w") as output:
        process = subprocess.Popen(command(*arguments), cwd=cwd, env=inherited(**NO_GPU), stdout=output, stderr=output)
    wait_for(lambda: folders(cwd) and status(folders(cwd)[0]).get("checkpoint_epoch"))
    return process


@pytest.mark.slow
def test_ctrl_c_leaves_what_ran_resumable_and_starts_nothing_more(tmp_path):
    process = start_until_first_checkpoint(tmp_path, epochs=3000)
    _, stderr = run(tmp_path, *FEW, "train.epochs=3000", "seed=1", expect=RunLocked.status, **NO_GPU)
    assert "is being computed by process" in stderr
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130
    (folder,) = folders(tmp_path)
    assert (status(folder)["state"], status(folder)["reason"]) == ("failed", "interrupted")
    with pytest.raises(ProcessLookupError):
        os.kill(status(folder)["pid"], 0)
    text = (tmp_path / "output.txt").read_text()
    assert "interrupted: waiting for running jobs to stop (1)" in text
    assert "Traceback" not in text
    assert list(tmp_path.glob("runs/.sweeps/*.log")) == []


@pytest.mark.slow
def test_a_job_outlives_its_killed_caller(tmp_path):
    process = start_until_first_checkpoint(tmp_path, epochs=30)
    process.kill()
    process.wait()
    (folder,) = folders(tmp_path)
    before = status(folder)["checkpoint_epoch"]
    assert status(folder)["state"] == "running"
    wait_for(lambda: status(folder)["state"] != "running")
    assert status(folder)["state"] == "finished"
    assert before < len(journal(folder)) == 30
    assert len(folders(tmp_path)) == 1
