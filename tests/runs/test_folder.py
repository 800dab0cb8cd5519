"""A run's folder survives kills and keeps what was recorded."""

from __future__ import annotations

import json
import math
import os
import re
import signal
import subprocess
import sys
import threading
from enum import IntEnum, StrEnum
from pathlib import Path

import pytest
from filelock import FileLock

from altub_exp.errors import UserError
from altub_exp.runs.folder import DIED, RunFolder, RunLocked
from altub_exp.runs.identity import identity
from altub_exp.runs.provenance import git_state, versions
from altub_exp.runs.states import RunState

HOLDER = """
import sys, time
from altub_exp.runs.folder import RunFolder
from altub_exp.runs.states import RunState
from pathlib import Path
folder = RunFolder(Path(sys.argv[1]))
with folder.lock():
    folder.write_status(state=RunState.running)
    print("held", flush=True)
    time.sleep(60)
"""


class Colour(StrEnum):
    red = "red"


class Number(IntEnum):
    two = 2


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    folder = RunFolder(tmp_path / "seed25-01234567")
    folder.path.mkdir()
    return folder


def test_identity_is_the_same_for_equal_configurations():
    one = {"a": 1, "b": {"c": [1.5, None], "d": Colour.red, "e": Number.two}}
    same = {"b": {"e": 2, "d": "red", "c": (1.5, None)}, "a": 1}
    assert identity(one) == identity(same)
    assert re.fullmatch("[0-9a-f]{8}", identity(one))
    # a change of this value makes every recorded run a stranger to its folder
    assert identity({"lr": 1e-3, "seed": 25}) == "c498b874"


@pytest.mark.parametrize("other", [{"a": 2}, {"a": 1.0}, {"a": "1"}, {"a": True}, {"b": 1}, {"a": [1]}, {"a": None}])
def test_identity_tells_configurations_apart(other):
    assert identity({"a": 1}) != identity(other)


def test_identity_refuses_what_has_no_canonical_form():
    with pytest.raises(TypeError, match="Path"):
        identity({"a": Path("x")})
    with pytest.raises(TypeError, match="keys"):
        identity({1: "a"})


def test_status_merges_and_follows_the_state(folder: RunFolder):
    assert folder.status() is None
    folder.write_status(state=RunState.running, versions={"python": "3"})
    first = folder.status()
    assert first["pid"] == os.getpid()
    folder.write_status(state=RunState.failed, summary={"auroc": math.nan})
    failed = folder.status()
    assert failed["versions"] == {"python": "3"}
    assert failed["ended"] >= first["started"]
    folder.write_status(note="x")
    folder.write_status(state="failed")
    assert folder.status()["ended"] == failed["ended"], "the end does not move when it is told again"
    folder.write_status(state=RunState.running)
    again = folder.status()
    assert "ended" not in again
    assert "summary" not in again
    assert again["started"] == first["started"]


def test_a_status_that_cannot_be_written_leaves_the_old_one(folder: RunFolder, monkeypatch):
    folder.write_status(state=RunState.running, note="old")
    before = folder.status_file.read_bytes()

    def power_cut(source, target):
        raise OSError("power cut")

    monkeypatch.setattr(os, "replace", power_cut)
    with pytest.raises(OSError, match="power cut"):
        folder.write_status(note="new")
    assert folder.status_file.read_bytes() == before
    assert [path.name for path in folder.path.iterdir()] == ["status.json"]


@pytest.mark.parametrize("content", ["{", "", "[]", "\xff"])
def test_damaged_status_is_named(folder: RunFolder, content: str):
    folder.status_file.write_bytes(content.encode("latin1"))
    with pytest.raises(UserError, match=re.escape(str(folder.status_file))):
        folder.status()


def test_run_uid_is_drawn_once(folder: RunFolder, tmp_path: Path):
    uid = folder.run_uid()
    assert re.fullmatch("[0-9a-f]{32}", uid)
    assert RunFolder(folder.path).run_uid() == uid
    assert RunFolder(tmp_path / "other").run_uid() != uid


def test_journal_round_trip(folder: RunFolder):
    assert folder.journal.rows() == []
    folder.journal.append({"epoch": 1, "loss": math.nan, "auroc": 0.1 + 0.2, "time": 5})
    folder.journal.append({"epoch": 2, "loss": -math.inf})
    first, second = folder.journal.rows()
    assert math.isnan(first.pop("loss"))
    assert first == {"epoch": 1, "auroc": 0.1 + 0.2, "time": 5}
    assert second["loss"] == -math.inf
    assert second["time"] > 1.7e12


def test_torn_last_line_is_left_out_and_overwritten(folder: RunFolder):
    for epoch in (1, 2, 3):
        folder.journal.append({"epoch": epoch, "loss": 1.0, "time": 0})
    whole = folder.journal.file.read_bytes()
    start = whole.rindex(b'{"epoch": 3')
    for length in range(start, len(whole)):  # killed after any number of bytes
        folder.journal.file.write_bytes(whole[:length])
        assert [row["epoch"] for row in folder.journal.rows()] == [1, 2]
        folder.journal.append({"epoch": 3, "loss": 2.0, "time": 0})
        assert [row["loss"] for row in folder.journal.rows()] == [1.0, 1.0, 2.0]


@pytest.mark.parametrize("line", [b'{"epoch": 2, "lo', b"", b"7", b'{"loss": 1}', b"\x00\x00", b'{"epoch": null}'])
def test_damage_elsewhere_is_named(folder: RunFolder, line: bytes):
    folder.journal.file.write_bytes(b'{"epoch": 1}\n' + line + b'\n{"epoch": 3}\n')
    with pytest.raises(UserError, match=r"metrics\.jsonl, line 2"):
        folder.journal.rows()


def test_truncate_drops_later_rows_only(folder: RunFolder):
    folder.journal.truncate(5)  # no journal: nothing to drop
    for epoch in range(1, 8):
        folder.journal.append({"epoch": epoch, "loss": math.nan if epoch == 2 else epoch / 3})
    before = folder.journal.rows()
    folder.journal.truncate(4)
    assert json.dumps(folder.journal.rows()) == json.dumps(before[:4])
    folder.journal.append({"epoch": 5, "loss": 0.0})
    assert [row["epoch"] for row in folder.journal.rows()] == [1, 2, 3, 4, 5]


def test_lock_is_held_by_a_live_process_and_freed_by_its_death(folder: RunFolder):
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(folder.path)], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(
            RunLocked, match=rf"computed by process {holder.pid} on .+ \(since \d{{4}}-.+\); wait for it"
        ):
            folder.lock().__enter__()
        with pytest.raises(RunLocked):  # a vain attempt takes nothing away from the holder
            folder.lock().__enter__()
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        holder.stdout.close()
    assert folder.status()["state"] == "running"
    with folder.lock():
        pass
    with folder.lock():  # and it is free again after use
        pass


def test_lock_of_an_ended_run_says_so(folder: RunFolder):
    folder.write_status(state=RunState.finished)
    with folder.lock(), pytest.raises(RunLocked, match="try again"):
        RunFolder(folder.path).lock().__enter__()


def test_only_a_run_that_nobody_computes_is_dead(folder: RunFolder):
    assert not folder.has_died()
    assert list(folder.path.iterdir()) == [], "a look leaves nothing behind"
    folder.write_status(state=RunState.finished)
    assert not folder.has_died()
    with folder.lock():
        assert not folder.mark_dead()
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(folder.path)], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout.readline() == "held\n"
        assert not folder.has_died()
    finally:
        holder.kill()
        holder.wait()
        holder.stdout.close()
    since = folder.status()["since"]
    assert folder.has_died()
    assert folder.status()["state"] == "running", "looking marks nothing"
    with folder.lock():
        assert folder.mark_dead()
        assert not folder.mark_dead()
    after = folder.status()
    assert (after["state"], after["reason"], after["pid"]) == ("failed", DIED, holder.pid)
    assert since - 1000 <= after["ended"] <= since + 1000
    assert not folder.has_died()


def test_a_look_at_the_lock_does_not_stop_a_run_that_starts(folder: RunFolder):
    looking, looked = threading.Event(), threading.Event()

    def look():
        with RunFolder(folder.path).lock():
            looking.set()
            looked.wait(0.1)

    thread = threading.Thread(target=look)
    thread.start()
    looking.wait()
    with pytest.raises(RunLocked), folder.lock(patience=0):
        pass
    with folder.lock():
        thread.join()


def test_the_lock_of_a_folder_put_aside_meanwhile_is_not_taken_for_that_of_its_successor(
    folder: RunFolder, monkeypatch
):
    with folder.lock():
        folder.write_status(state=RunState.running)
    successors = []

    class Slow(FileLock):
        def acquire(self, *args, **rest):
            taken = super().acquire(*args, **rest)
            if not successors:  # as if between opening the file and locking it
                folder.archive()
                folder.write_status(state=RunState.running)
                successors.append(FileLock(folder.path / ".lock"))
                successors[0].acquire(timeout=0)
            return taken

    monkeypatch.setattr("altub_exp.runs.folder.FileLock", Slow)
    assert not folder.has_died()
    successors[0].release()
    assert folder.has_died()


def test_put_aside_keeps_everything(folder: RunFolder):
    paths = []
    for number in (1, 2):
        folder.path.mkdir(exist_ok=True)
        folder.journal.append({"epoch": number})
        with folder.lock():
            paths.append(folder.archive())
        assert not folder.path.exists()
    assert [path.name for path in paths] == ["seed25-01234567.old-1", "seed25-01234567.old-2"]
    assert [RunFolder(path).journal.rows()[0]["epoch"] for path in paths] == [1, 2]


def test_artifacts(folder: RunFolder):
    assert folder.artifacts() == []
    for name in ("b.png", "config.yaml", "a.png", "checkpoint.pt"):
        (folder.path / name).write_text("")
    assert [path.name for path in folder.artifacts()] == ["config.yaml", "a.png", "b.png"]


def test_versions_need_no_import():
    code = "import sys; from altub_exp.runs.provenance import versions; print(versions()); assert 'torch' not in sys.modules"  # noqa: E501
    assert "mlflow" in subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert versions()["python"] == sys.version.split()[0]


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A checkout with one commit, holding a package at src/altub_exp."""
    root = tmp_path / "checkout"
    tracked = ("src/altub_exp/__init__.py", "conf/train.yaml", "analysis/options.py", "README.md", "study/runs.parquet")
    for name in tracked:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("1\n")
    (root / ".gitignore").write_text("*.pyc\n.venv\n")
    git(root, "init", "-q")
    git(root, "add", ".")
    git(root, "-c", "user.name=A", "-c", "user.email=a@example.org", "commit", "-q", "-m", "one")
    return root / "src" / "altub_exp"


def git(root: Path, *arguments: str) -> str:
    return subprocess.run(["git", "-C", str(root), *arguments], check=True, capture_output=True, text=True).stdout


@pytest.mark.parametrize(
    ("path", "dirty"),
    [
        (None, False),
        ("README.md", True),
        ("study/runs.parquet", False),
        ("conf/train.yaml", True),
        ("src/altub_exp/__init__.py", True),
        ("analysis/options.py", True),
        ("src/altub_exp/new.py", True),
        ("conf/new.yaml", True),
        ("analysis/new.py", True),
        ("notes.txt", False),
        ("src/altub_exp/old.pyc", False),
    ],
)
def test_git_state(package: Path, monkeypatch, path: str | None, dirty: bool):
    root = package.parents[1]
    if path:
        (root / path).write_text("2\n")
    commit = git(root, "rev-parse", "HEAD").strip()
    monkeypatch.setenv("GIT_DIR", "/nonexistent")  # as inside another repository's hook
    assert git_state(package) == (commit, dirty)


def test_no_git_state_of_somebody_elses_repository(package: Path, tmp_path: Path, monkeypatch):
    installed = package.parents[1] / ".venv" / "lib" / "altub_exp"
    installed.mkdir(parents=True)
    (installed / "__init__.py").write_text("")
    assert git_state(installed) == (None, None)
    assert git_state(tmp_path / "a" / "b" / "c") == (None, None)
    monkeypatch.setenv("PATH", "")
    assert git_state(package) == (None, None)
