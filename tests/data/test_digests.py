"""The digests of files: by content, hashed once for all processes, and never out of date."""

import hashlib
import multiprocessing
import os

import pytest

from altub_exp.data import digests
from altub_exp.data.digests import content_digests
from altub_exp.errors import UserError


def sha256(content):
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def hashed(monkeypatch):
    """The files that were hashed since the process began anew, which calling it does."""
    files = []
    digest = hashlib.file_digest

    def counted(content, name):
        files.append(os.path.basename(content.name))
        return digest(content, name)

    monkeypatch.setattr(digests, "RECENT_NS", 0)
    monkeypatch.setattr(hashlib, "file_digest", counted)

    def since():
        monkeypatch.setattr(digests, "_hashed", {})
        before = files.copy()
        files.clear()
        return before

    since()
    return since


@pytest.fixture
def files(tmp_path):
    made = [tmp_path / "images" / name for name in ("a.png", "b.png", os.fsdecode(b"\xfc\n.png"))]
    made[0].parent.mkdir()
    (tmp_path / "cache").mkdir()
    for file in made:
        file.write_bytes(os.fsencode(file.name))
    return made


def test_a_file_is_hashed_once_by_all_processes_until_it_changes(files, tmp_path, hashed):
    expected = {file: sha256(os.fsencode(file.name)) for file in files}
    assert content_digests(files, tmp_path / "cache") == expected
    assert len(hashed()) == 3
    assert content_digests(files, tmp_path / "cache") == expected
    assert hashed() == []
    before = files[0].stat()
    files[0].write_bytes(b"A.PNG")
    os.utime(files[0], ns=(before.st_atime_ns, before.st_mtime_ns))  # as archives and rsync restore it
    assert content_digests(files, tmp_path / "cache")[files[0]] == sha256(b"A.PNG")
    assert hashed() == ["a.png"]
    assert [path.name for path in (tmp_path / "cache").iterdir() if "lock" not in path.name] == ["digests"]


def test_without_a_folder_the_process_remembers(files, tmp_path, hashed):
    content_digests(files, None)
    content_digests(files, None)
    assert len(hashed()) == 3
    assert list((tmp_path / "cache").iterdir()) == []


def test_the_folder_of_the_table_is_not_made_for_it(files, tmp_path, hashed):
    (tmp_path / "cache").rmdir()
    content_digests(files, tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_a_file_that_has_just_changed_is_not_remembered(files, tmp_path, hashed, monkeypatch):
    monkeypatch.setattr(digests, "RECENT_NS", 10**12)
    for _ in range(2):
        content_digests(files, tmp_path / "cache")
    assert len(hashed()) == 6
    assert list((tmp_path / "cache").iterdir()) == []


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[:-9],
        lambda content: b"",
        lambda content: b"\xff" * 99,
        lambda content: content.replace(sha256(b"a.png").encode(), sha256(b"other").encode()),
    ],
    ids=["torn", "empty", "other bytes", "another digest"],
)
def test_a_damaged_table_is_made_anew(files, tmp_path, hashed, damage):
    expected = content_digests(files, tmp_path)
    table = tmp_path / digests.TABLE
    table.write_bytes(damage(table.read_bytes()))
    hashed()
    assert content_digests(files, tmp_path) == expected
    assert len(hashed()) == 3
    assert content_digests(files, tmp_path) == expected
    assert hashed() == []


def test_a_folder_that_cannot_be_written_costs_only_time(files, tmp_path, hashed):
    (tmp_path / "cache" / digests.TABLE).mkdir()
    assert len(content_digests(files, tmp_path / "cache")) == 3


def test_what_is_gone_leaves_the_table(files, tmp_path, hashed):
    content_digests(files, tmp_path)
    files[0].unlink()
    files[1].write_bytes(b"new")
    content_digests(files[1:], tmp_path)
    assert "a.png" not in (tmp_path / digests.TABLE).read_text()


def test_many_processes_write_one_table(tmp_path, hashed):
    (tmp_path / "cache").mkdir()
    files = [tmp_path / f"{number}.png" for number in range(40)]
    for file in files:
        file.write_bytes(file.name.encode())
    processes = multiprocessing.get_context("fork")
    writers = [processes.Process(target=content_digests, args=(files[row::8], tmp_path / "cache")) for row in range(8)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0] * 8
    content_digests(files, tmp_path / "cache")
    assert hashed() == []


def test_files_that_cannot_be_read_are_one_sentence(files, tmp_path):
    files[0].unlink()
    files[0].symlink_to("/dev/zero")
    files[1].unlink()
    with pytest.raises(UserError, match=r"^2 image files cannot be read \(not a regular file; no such file"):
        content_digests(files, tmp_path)
