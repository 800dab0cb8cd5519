"""Unfinished contents of files whose writers were killed."""

from __future__ import annotations

import socket
import subprocess

from altub_exp.machine.disk import write_text


def test_unfinished_contents_of_killed_writers_are_removed_and_others_stay(tmp_path):
    ended = subprocess.Popen(["true"])
    ended.wait()
    host = socket.gethostname()
    dead = [f".a.json.{host}-{ended.pid}.tmp", f".a.json.{host}-{ended.pid}.tmp-journal"]
    dead.append(f".b.json.{host}-{ended.pid}.tmp")
    others = [f".a.json.{host}-1.tmp", f".a.json.elsewhere-{ended.pid}.tmp", f"a.json.{host}-{ended.pid}.tmp"]
    for name in [*dead, *others]:
        (tmp_path / name).touch()
    write_text(tmp_path / "a.json", "{}")
    assert {file.name for file in tmp_path.iterdir()} == {"a.json", *others}
