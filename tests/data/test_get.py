"""``python -m altub_exp.data get`` through the command line, against a server on 127.0.0.1 that fails in many ways."""

import contextlib
import hashlib
import io
import os
import signal
import socket
import subprocess
import tarfile
import threading
import time
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from altub_exp.data import LAYOUTS
from altub_exp.data.downloads import read_downloads
from altub_exp.data.transfer import CHUNK
from altub_exp.errors import UserError
from tests.commandline import command, environment, run
from tests.data.conftest import draw_visa

COUNTS = LAYOUTS["mvtec"].published.counts["toothbrush"]


class Server:
    """Serves one file; ``faults`` are the faults of the coming requests, one each, and ``requests`` what was asked.

    A fault is a status; "cut", which closes the connection after half of the answer; or "stall", which keeps it open.
    """

    def __init__(self, content, *, ranges=True, marked=True):
        self.content, self.ranges, self.marked = content, ranges, marked
        self.faults, self.requests, self.stalled, self.released = [], [], threading.Event(), threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                outer.answer(self)

            def log_message(self, *arguments):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.host = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def answer(self, handler):
        asked = handler.headers.get("Range")
        self.requests.append(asked)
        fault = self.faults.pop(0) if self.faults else None
        if isinstance(fault, int):
            handler.send_response(fault)
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return
        etag, whole, start = f'"{hashlib.sha256(self.content).hexdigest()[:8]}"', self.content, 0
        if self.ranges and asked and handler.headers.get("If-Range") in (None, etag):
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
        if start >= len(whole):
            handler.send_response(416)
            handler.send_header("Content-Range", f"bytes */{len(whole)}")
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return
        handler.send_response(206 if start else 200)
        if start:
            handler.send_header("Content-Range", f"bytes {start}-{len(whole) - 1}/{len(whole)}")
        if self.marked:
            handler.send_header("ETag", etag)
        handler.send_header("Content-Length", str(len(whole) - start))
        handler.end_headers()
        body = whole[start:]
        handler.wfile.write(body[: len(body) // 2] if fault else body)
        handler.wfile.flush()
        if fault == "stall":
            self.stalled.set()
            self.released.wait(60)
        handler.close_connection = fault is not None

    def close(self):
        self.released.set()
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def serve():
    """A function that starts a server."""
    with contextlib.ExitStack() as stack:

        def started(content, **options):
            server = Server(content, **options)
            stack.callback(server.close)
            return server

        yield started


def draw_toothbrush(root, counts=COUNTS):
    """Draw a category of MVTec AD with these numbers of images, of few pixels each."""
    generator = np.random.default_rng(0)
    for place, count in zip(("train/good", "test/good", "test/defective"), counts, strict=True):
        for number in range(count):
            save(root / f"toothbrush/{place}/{number:03}.png", generator.integers(0, 256, (32, 32, 3), dtype=np.uint8))
    for number in range(counts[2]):
        save(root / f"toothbrush/ground_truth/defective/{number:03}_mask.png", np.full((32, 32), 255, np.uint8))


def save(file, pixels):
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(file)


def packed(folder, kind="tar.xz"):
    """Return an archive of a folder's content."""
    buffer = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(buffer, "w") as archive:
            for file in sorted(path for path in folder.rglob("*") if path.is_file()):
                archive.write(file, file.relative_to(folder))
    else:
        with tarfile.open(fileobj=buffer, mode="w:xz" if kind == "tar.xz" else "w") as archive:
            for path in sorted(folder.iterdir()):
                archive.add(path, path.name)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def toothbrush(tmp_path_factory):
    """The archive of a complete category."""
    folder = tmp_path_factory.mktemp("toothbrush")
    draw_toothbrush(folder)
    return packed(folder)


def half(archive):
    """Return the range that is asked for after half of the archive has come."""
    assert len(archive) > 4 * CHUNK
    return f"bytes={len(archive) // 2 // CHUNK * CHUNK}-"


def table(cwd, address, content, name="mvtec", category="toothbrush", **changes):
    """Write a table of downloads for one archive, and return the arguments that name it."""
    entry = {"address": address, "sha256": hashlib.sha256(content).hexdigest()} | changes
    lines = [f'{key} = "{value}"' for key, value in entry.items() if value is not None]
    (cwd / "downloads.toml").write_text(
        "\n".join(
            [
                f"[{name}]",
                'licence = "CC BY-NC-SA 4.0"',
                'licence_address = "https://creativecommons.org/licenses/by-nc-sa/4.0/"',
                f"[{name}.archive]",
                *lines,
                *([f"[{name}.categories.{category}]", *lines] if category else []),
            ]
        )
    )
    return ["get", name, "--downloads", "downloads.toml", *(["--category", category] if category else [])]


def get(cwd, *arguments, expect=0):
    out, err = run(cwd, *arguments, "--accept-licence", module="altub_exp.data", expect=expect, seconds=120)
    assert "Traceback" not in err
    errors = [line for line in err.splitlines() if line.startswith("error: ")]
    assert len(errors) <= expect, err
    return out + err


def content(folder):
    """Return the files below a folder."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def assert_complete(cwd, out):
    assert "toothbrush" in out
    assert "complete" in out
    assert "Next: python -m altub_exp.train dataset=mvtec dataset.category=toothbrush" in out
    assert os.listdir(cwd / "data") == ["mvtec"], "the archive and its folder are gone"
    assert len(content(cwd / "data/mvtec")) == sum(COUNTS) + COUNTS[2]


def test_a_category_is_downloaded_verified_and_then_there(tmp_path, serve, toothbrush):
    server = serve(toothbrush)
    arguments = table(tmp_path, f"{server.host}/toothbrush.tar.xz", toothbrush)
    out = get(tmp_path, *arguments)
    assert "Licence: CC BY-NC-SA 4.0, https://creativecommons.org/licenses/by-nc-sa/4.0/" in out
    assert "toothbrush.tar.xz: the SHA-256 sum is the published one." in out
    assert_complete(tmp_path, out)
    assert server.requests == [None]
    again = get(tmp_path, *arguments)
    assert "data/mvtec already holds MVTec AD: the category toothbrush, complete." in again
    assert server.requests == [None]
    next((tmp_path / "data/mvtec/toothbrush/train/good").iterdir()).unlink()
    assert "incompletely or changed (toothbrush), and is not overwritten" in get(tmp_path, *arguments, expect=1)


@pytest.mark.parametrize("ranges", [True, False])
def test_a_connection_that_breaks_off_is_continued(tmp_path, serve, toothbrush, ranges):
    """A server without ranges sends the whole file again."""
    server = serve(toothbrush, ranges=ranges)
    server.faults = ["cut"]
    out = get(tmp_path, *table(tmp_path, f"{server.host}/toothbrush.tar.xz", toothbrush))
    assert "the connection broke off; trying again in 1 s" in out
    assert_complete(tmp_path, out)
    assert server.requests == [None, half(toothbrush)]


@pytest.mark.slow
def test_busy_for_a_moment(tmp_path, serve, toothbrush):
    server = serve(toothbrush)
    server.faults = [503]
    out = get(tmp_path, *table(tmp_path, f"{server.host}/toothbrush.tar.xz", toothbrush))
    assert "the server answers 503 Service Unavailable; trying again in 1 s" in out
    assert_complete(tmp_path, out)


@pytest.mark.slow
def test_a_server_that_gives_up_keeps_the_part_and_the_same_command_continues(tmp_path, serve, toothbrush):
    server = serve(toothbrush)
    server.faults = ["cut", 404]
    arguments = table(tmp_path, f"{server.host}/toothbrush.tar.xz", toothbrush)
    out = get(tmp_path, *arguments, expect=1)
    assert f"error: {server.host}/toothbrush.tar.xz could not be downloaded (the server answers 404 Not Found); " in out
    assert "MB of it are kept, and the same command continues: try again later, or name a mirror" in out
    assert not (tmp_path / "data/mvtec").exists()
    assert_complete(tmp_path, get(tmp_path, *arguments))
    assert server.requests[2:] == [half(toothbrush)]


@pytest.mark.slow
@pytest.mark.parametrize("marked", [True, False])
def test_a_file_that_changes_between_two_attempts_is_not_mixed(tmp_path, serve, toothbrush, marked):
    """The server's mark reveals it; without one, the sum does."""
    server = serve(bytes(len(toothbrush)), marked=marked)
    server.faults = ["cut", 404]
    arguments = table(tmp_path, f"{server.host}/toothbrush.tar.xz", toothbrush)
    get(tmp_path, *arguments, expect=1)
    server.content = toothbrush
    if not marked:
        out = get(tmp_path, *arguments, expect=1)
        assert "is not the published archive" in out
        assert not (tmp_path / "data/mvtec").exists()
    assert_complete(tmp_path, get(tmp_path, *arguments))
    if not marked:
        assert server.requests[-2:] == [half(toothbrush), None]


@pytest.mark.slow
def test_without_a_sum_and_a_mark_nothing_is_continued(tmp_path, serve, toothbrush):
    server = serve(toothbrush, marked=False)
    server.faults = ["cut"]
    out = get(tmp_path, *table(tmp_path, f"{server.host}/toothbrush.tar.xz", toothbrush, sha256=None))
    assert f"no published SHA-256 sum to compare with; it is {hashlib.sha256(toothbrush).hexdigest()}." in out
    assert_complete(tmp_path, out)
    assert server.requests == [None, None]


@pytest.mark.slow
def test_garbage_is_removed_with_one_sentence(tmp_path, serve, toothbrush):
    server = serve(b"<html>This link has expired.</html>")
    arguments = table(tmp_path, f"{server.host}/toothbrush.tar.xz", toothbrush)
    out = get(tmp_path, *arguments, expect=1)
    assert f"error: The file from {server.host}/toothbrush.tar.xz is not the published archive (SHA256 hash" in out
    assert hashlib.sha256(server.content).hexdigest() in out
    assert "was removed: give the same command again, or name another address" in out
    assert content(tmp_path / "data") <= {".mvtec.download/lock"}
    server.content = toothbrush
    assert_complete(tmp_path, get(tmp_path, *arguments))


def test_an_address_that_is_not_there(tmp_path, serve, toothbrush):
    server = serve(toothbrush)
    server.faults = [404]
    out = get(tmp_path, *table(tmp_path, f"{server.host}/toothbrush.tar.xz", toothbrush), expect=1)
    assert "could not be downloaded (the server answers 404 Not Found): try again later, or name a mirror" in out
    assert len(server.requests) == 1


@pytest.mark.slow
def test_a_server_that_refuses_the_connection(tmp_path, toothbrush):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    arguments = table(tmp_path, f"http://127.0.0.1:{port}/toothbrush.tar.xz", toothbrush)
    out = get(tmp_path, *arguments, expect=1)
    assert "could not be downloaded (the server cannot be reached): try again later" in out
    assert "the server cannot be reached; trying again in 2 s" in out


def test_interrupted_it_keeps_the_part_and_the_same_command_continues(tmp_path, serve, toothbrush):
    server = serve(toothbrush)
    server.faults = ["stall"]
    arguments = table(tmp_path, f"{server.host}/toothbrush.tar.xz", toothbrush)
    words = command(*arguments, "--accept-licence", module="altub_exp.data")
    streams = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    process = subprocess.Popen(words, cwd=tmp_path, env=environment(), text=True, **streams)
    assert server.stalled.wait(60)
    part = tmp_path / "data/.mvtec.download/toothbrush.tar.xz.part"
    wait_until(lambda: part.is_file() and f"bytes={part.stat().st_size}-" == half(toothbrush))
    assert "Another process is downloading to" in get(tmp_path, *arguments, expect=1)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err.splitlines()[-2:] == [
        "The part in " + str(part.parent) + " is kept: the same command continues.",
        "interrupted",
    ]
    assert_complete(tmp_path, get(tmp_path, *arguments))
    assert server.requests[1:] == [half(toothbrush)]


def test_killed_before_the_sum_was_checked(tmp_path, serve, toothbrush):
    """The part is complete then, and the server has no more bytes to send."""
    server = serve(toothbrush)
    work = tmp_path / "data/.mvtec.download"
    (work / "unpacked/toothbrush").mkdir(parents=True)
    (work / "toothbrush.tar.xz.part").write_bytes(toothbrush)
    assert_complete(tmp_path, get(tmp_path, *table(tmp_path, f"{server.host}/toothbrush.tar.xz", toothbrush)))
    assert server.requests == [f"bytes={len(toothbrush)}-"]


def wait_until(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def escaping(kind):
    """An archive with a member outside of the folder."""
    buffer, name = io.BytesIO(), "../escaped.png"
    if kind == "zip":
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr(name, b"x")
    else:
        with tarfile.open(fileobj=buffer, mode="w") as archive:
            member = tarfile.TarInfo(name)
            member.size = 1
            archive.addfile(member, io.BytesIO(b"x"))
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda whole: escaping("zip"), "would be extracted outside of the folder"),
        (lambda whole: escaping("tar"), "would be extracted outside of the folder"),
        (lambda whole: whole[: len(whole) // 2], "cannot be unpacked"),
        (lambda whole: b"no archive at all", "cannot be unpacked"),
    ],
    ids=["zip with ../", "tar with ../", "truncated", "no archive"],
)
def test_an_archive_with_the_right_sum_that_cannot_be_unpacked_leaves_no_data_set(tmp_path, toothbrush, damage, words):
    damaged = damage(toothbrush)
    (tmp_path / "mine.tar").write_bytes(damaged)
    arguments = table(tmp_path, "http://127.0.0.1:9/toothbrush.tar.xz", damaged)
    out = get(tmp_path, *arguments, "--from", "mine.tar", expect=1)
    assert words in out
    assert content(tmp_path) <= {"mine.tar", "downloads.toml", "data/.mvtec.download/lock"}
    assert not (tmp_path.parent / "escaped.png").exists()


@pytest.mark.slow
def test_a_damaged_archive_is_downloaded_again(tmp_path, serve, toothbrush):
    server = serve(toothbrush[:-2000])
    arguments = table(tmp_path, f"{server.host}/toothbrush.tar.xz", toothbrush, sha256=None)
    assert "toothbrush.tar.xz cannot be unpacked" in get(tmp_path, *arguments, expect=1)
    server.content = toothbrush
    assert_complete(tmp_path, get(tmp_path, *arguments))


@pytest.mark.slow
def test_a_mirror_and_an_archive_on_disk_are_checked_against_the_sum(tmp_path, serve, toothbrush):
    server = serve(toothbrush)
    arguments = table(tmp_path, "http://127.0.0.1:9/toothbrush.tar.xz", toothbrush)
    (tmp_path / "mine.tar.xz").write_bytes(toothbrush[:-1])
    out = get(tmp_path, *arguments, "--from", "mine.tar.xz", expect=1)
    assert "mine.tar.xz is not the published archive: its SHA-256 sum is " in out
    assert "There is no file absent.tar.xz" in get(tmp_path, *arguments, "--from", "absent.tar.xz", expect=1)
    assert_complete(tmp_path, get(tmp_path, *arguments, "--from", f"{server.host}/mirror?file=3"))
    (tmp_path / "mine.tar.xz").write_bytes(toothbrush)
    out = get(tmp_path, *arguments, "--from", "mine.tar.xz", "--root", "elsewhere/images")
    assert "Next: python -m altub_exp.train dataset=mvtec dataset.root=elsewhere/images dataset.category=tooth" in out
    assert (tmp_path / "mine.tar.xz").read_bytes() == toothbrush
    assert os.listdir(tmp_path / "elsewhere") == ["images"]


@pytest.mark.slow
def test_btad_is_the_folder_within_its_archive(tmp_path, serve):
    drawn = tmp_path / "drawn"
    for category, counts in LAYOUTS["btad"].published.counts.items():
        for place, count in zip(
            ("train/ok", "test/ok", "test/ko", "ground_truth/ko"), (*counts, counts[2]), strict=True
        ):
            first = drawn / f"BTech_Dataset_transformed/{category}/{place}/0000.bmp"
            save(first, np.full((4, 4), 255 * place.startswith("ground_truth"), np.uint8))
            for number in range(1, count):
                first.with_name(f"{number:04}.bmp").write_bytes(first.read_bytes())
    (drawn / "__MACOSX").mkdir()
    archive = packed(drawn, "zip")
    server = serve(archive)
    arguments = table(tmp_path, f"{server.host}/btad.zip", archive, name="btad", category=None)
    (tmp_path / "data/btad").mkdir(parents=True)  # an empty folder is no obstacle
    out = get(tmp_path, *arguments)
    assert "Next: python -m altub_exp.train dataset=btad dataset.category=01" in out
    assert sorted(os.listdir(tmp_path / "data/btad")) == ["01", "02", "03"]
    assert "data/btad already holds BTAD: all 3 categories, complete." in get(tmp_path, *arguments)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "title", "place", "test", "masks", "mask"),
    [
        ("mvtec2", "MVTec AD 2", "mvtec_ad_2", "test_public", "test_public/ground_truth/bad", "{:04}_mask.png"),
        ("loco", "MVTec LOCO AD", ".", "test", "ground_truth/bad", "{:04}/000.png"),
    ],
)
def test_all_images_of_the_published_numbers_are_complete(tmp_path, serve, name, title, place, test, masks, mask):
    drawn, number_of = tmp_path / "drawn", LAYOUTS[name].published.counts
    save(tmp_path / "image.png", np.full((4, 4, 3), 90, np.uint8))
    save(tmp_path / "mask.png", np.full((4, 4), 255, np.uint8))
    for category, counts in number_of.items():
        for part, count, file in zip(
            ("train/good", f"{test}/good", f"{test}/bad", masks),
            (*counts, counts[2]),
            (*3 * ["{:04}.png"], mask),
            strict=True,
        ):
            content = (tmp_path / ("mask.png" if part == masks else "image.png")).read_bytes()
            for number in range(count):
                target = drawn / place / category / part / file.format(number)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(content)
    archive = packed(drawn, "tar")
    arguments = table(tmp_path, f"{serve(archive).host}/{name}.tar", archive, name=name, category=None)
    out = get(tmp_path, *arguments)
    assert f"missing from {title}: none, all {len(number_of)} are present" in out
    assert "no problems found" in out
    first = next(iter(number_of))
    assert f"Next: python -m altub_exp.train dataset={name} dataset.category={first}" in out
    assert f"data/{name} already holds {title}: all {len(number_of)} categories, complete." in get(tmp_path, *arguments)


@pytest.mark.slow
def test_visa_with_fewer_images_than_published_fails_the_verification(tmp_path, serve):
    drawn = tmp_path / "drawn"
    draw_visa(drawn, "candle", "pcb1")
    archive = packed(drawn, "tar")
    arguments = table(tmp_path, f"{serve(archive).host}/VisA.tar", archive, name="visa", category=None)
    out = get(tmp_path, *arguments, expect=1)
    assert "candle: 6 training images, VisA has 900" in out
    assert "Next:" not in out
    assert (tmp_path / "data/visa/split_csv/1cls.csv").is_file()


def test_an_archive_of_something_else(tmp_path, serve, toothbrush):
    arguments = table(tmp_path, f"{serve(toothbrush).host}/x.tar.xz", toothbrush, name="visa", category=None)
    out = get(tmp_path, *arguments, expect=1)
    assert "The archive does not hold VisA (expected: split_csv/1cls.csv)" in out
    assert not (tmp_path / "data/visa").exists()


def test_a_folder_that_holds_something_else_is_not_touched(tmp_path, toothbrush):
    (tmp_path / "data/mvtec").mkdir(parents=True)
    (tmp_path / "data/mvtec/notes.txt").write_text("mine")
    arguments = table(tmp_path, "http://127.0.0.1:9/toothbrush.tar.xz", toothbrush)
    out = get(tmp_path, *arguments, expect=1)
    assert "data/mvtec holds something other than MVTec AD: choose another folder with --root." in out
    assert content(tmp_path / "data") == {"mvtec/notes.txt"}


def test_an_archive_that_does_not_fit_on_the_disk(tmp_path, serve, toothbrush, monkeypatch):
    from altub_exp.data import transfer
    from altub_exp.data.downloads import Archive
    from altub_exp.machine.disk import DiskFull

    server = serve(toothbrush)
    monkeypatch.setattr("shutil.disk_usage", lambda folder: type("Usage", (), {"free": 1000}))
    archive = Archive(f"{server.host}/toothbrush.tar.xz", None, None)
    with pytest.raises(DiskFull, match=r"cannot be written \(0\.0 GB are needed, 0\.0 GB are free\): free space on"):
        transfer.fetch(archive, tmp_path, archive.address)
    assert not (tmp_path / "toothbrush.tar.xz.part").exists()


def test_the_licence_must_be_accepted(tmp_path, serve, toothbrush):
    server = serve(toothbrush)
    arguments = table(tmp_path, f"{server.host}/toothbrush.tar.xz", toothbrush)
    out, err = run(tmp_path, *arguments, module="altub_exp.data", expect=1)
    assert "CC BY-NC-SA 4.0" in out
    assert err == (
        "error: The licence of MVTec AD, CC BY-NC-SA 4.0, was not accepted: read "
        "https://creativecommons.org/licenses/by-nc-sa/4.0/ and add --accept-licence.\n"
    )
    assert server.requests == []


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        pytest.param("y\n", 0, id="yes"),
        pytest.param("\n", 1, id="no", marks=pytest.mark.slow),
        pytest.param("\x04", 1, id="Ctrl-D", marks=pytest.mark.slow),
    ],
)
def test_on_a_terminal_it_asks_for_the_licence_and_shows_a_bar(tmp_path, serve, toothbrush, answer, status):
    server = serve(toothbrush)
    words = command(*table(tmp_path, f"{server.host}/toothbrush.tar.xz", toothbrush), module="altub_exp.data")
    ours, theirs = os.openpty()
    process = subprocess.Popen(
        words, cwd=tmp_path, env=environment(TERM="xterm"), stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    shown = b""
    with contextlib.suppress(OSError):  # the end of the terminal
        while piece := os.read(ours, 4096):
            shown += piece
            if shown.endswith(b"[y/N] "):
                os.write(ours, answer.encode())
    os.close(ours)
    assert process.wait(60) == status, shown.decode()
    assert (b"unpacking toothbrush.tar.xz" in shown) == (status == 0)
    assert (tmp_path / "data/mvtec").exists() == (status == 0)
    assert b"Traceback" not in shown


def test_a_run_without_its_data_set_names_the_command(tmp_path, monkeypatch):
    root = tmp_path / "absent"
    with pytest.raises(UserError) as missing:
        LAYOUTS["mvtec"].read(root, "screw")
    command = f"`python -m altub_exp.data get mvtec --root {root}`"
    page = "https://www.mvtec.com/company/research/datasets/mvtec-ad"
    assert f"get it with {command} (from {page}; --category screw gets only that), or set" in str(missing.value)
    draw_toothbrush(root)
    with pytest.raises(UserError) as missing:
        LAYOUTS["mvtec"].read(root, "screw")
    assert f"{command[:-1]} --category screw` (from {page}), or choose one that is there (tooth" in str(missing.value)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"get it with `python -m altub_exp\.data get btad` \(from http"):
        LAYOUTS["btad"].read(Path("data/btad"), "01")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ["get", "mvtecs"],
            "'mvtecs' cannot be downloaded (did you mean mvtec?): choose one of mvtec, btad, visa, mvtec2, loco.",
        ),
        (
            ["get", "realiad"],
            "Real-IAD cannot be downloaded by a command: get it from https://realiad4ad.github.io/Real-IAD (after its "
            "authors have approved a request; CC BY-NC-SA 4.0, non-commercial).",
        ),
        (["get", "btad", "--category", "01"], "btad is published as one archive only: leave out --category."),
        (["get", "mvtec", "--category", "scew"], "mvtec has no category 'scew' (did you mean screw?): choose one of"),
        (["get", "mvtec", "--downloads", "absent.toml"], "absent.toml cannot be read as a table of downloads"),
    ],
)
def test_bad_arguments_are_one_sentence(tmp_path, arguments, words):
    assert f"error: {words}" in get(tmp_path, *arguments, expect=1)
    assert not (tmp_path / "data").exists()


def test_a_table_with_a_data_set_of_unknown_layout(tmp_path, toothbrush):
    arguments = table(tmp_path, "http://127.0.0.1:9/x.tar.xz", toothbrush, name="mine", category=None)
    assert "'mine' cannot be downloaded: choose one of none." in get(tmp_path, *arguments, expect=1)


def test_the_table_covers_the_published_layouts_and_their_categories():
    downloads = read_downloads()
    assert set(downloads) == {layout.published.download for layout in LAYOUTS.values()} - {None}
    for name, download in downloads.items():
        archives = [download.archive, *download.categories.values()]
        assert all(archive.address.startswith("https://") for archive in archives)
        assert all(len(bytes.fromhex(archive.sha256)) == 32 for archive in archives)
        assert LAYOUTS[name].published.download == name
    assert set(downloads["mvtec"].categories) == set(LAYOUTS["mvtec"].published.counts)
    assert all(archive.name == f"{key}.tar.xz" for key, archive in downloads["mvtec"].categories.items())
