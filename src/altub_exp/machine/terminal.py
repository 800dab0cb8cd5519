"""The output of a run: a progress bar on a terminal, one line per epoch in a file or a pipe; and the log file."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from rich.console import Console, ConsoleOptions, RenderableType
from rich.logging import RichHandler
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.segment import Segment
from rich.text import Text

from altub_exp.machine.disk import no_space
from altub_exp.text import printable_lines

SHOWN = ("loss", "objective", "pixel_auroc", "image_auroc", "ks")  # the journal has more

log = logging.getLogger("altub_exp")


class PlainConsole(Console):
    """A console that shows the control codes in a text as escapes: only rich's own reach the terminal."""

    def render_str(self, text: str, **options: Any) -> Text:
        """Return a string as rich's text."""
        return super().render_str(printable_lines(text), **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterator[Segment]:
        """Return the segments of a renderable object."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(printable_lines(segment.text), segment.style)


class PlainFormatter(logging.Formatter):
    """A formatter that shows the control codes in a message as escapes."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the message as a line, with the lines of its traceback."""
        return printable_lines(super().format(record))


console = PlainConsole(stderr=True, markup=False, emoji=False)  # names may hold brackets and colons
if not console.is_terminal:
    console.width = 10_000  # in a file or a pipe a line stays one line


class LogFile(logging.Handler):
    """Handler that appends one line per message to a file, and drops messages for which the disk has no space.

    The run itself reports the full disk at its next row of the journal; logging's own handler would print a traceback
    for each message.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._file = path.open("ab", buffering=0)  # unbuffered: closing cannot fail again

    def emit(self, record: logging.LogRecord) -> None:
        """Write a message."""
        try:
            self._file.write(f"{self.format(record)}\n".encode())
        except OSError as error:
            if no_space(error) is None:
                self.handleError(record)

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        super().close()


@contextmanager
def logging_to(path: Path | None) -> Iterator[None]:
    """Send the program's log to the terminal and, with dates, to a file if one is given."""
    file = logging.NullHandler() if path is None else LogFile(path)
    file.setFormatter(PlainFormatter("%(asctime)s %(levelname)s %(message)s"))
    screen = (
        RichHandler(console=console, show_time=False, show_path=False, show_level=False, markup=False)
        if console.is_terminal
        else logging.StreamHandler(sys.stderr)
    )
    before = log.handlers, log.level, log.propagate
    log.handlers, log.propagate = [file, screen], False
    screen.setFormatter(PlainFormatter())
    screen.setLevel(logging.INFO)
    log.setLevel(logging.DEBUG)  # the file also gets tracebacks
    try:
        yield
    finally:
        log.handlers, log.level, log.propagate = before
        file.close()


class _Shown:
    """A context in which a progress bar is shown."""

    _bar: Progress

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()


class EpochProgress(_Shown):
    """Progress over the epochs of one run."""

    def __init__(self, name: str, done: int, total: int) -> None:
        self._done, self._start, self._total = done, done, total
        self._began = time.monotonic()
        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]} left  {task.fields[metrics]}", markup=False),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task(name, total=total, completed=done, left="?", metrics="")

    def epoch(self, row: Mapping[str, float], note: str = "") -> None:
        """Report a finished epoch and its metrics; AUROCs are printed in percent."""
        self._done += 1
        per_epoch = (time.monotonic() - self._began) / (self._done - self._start)
        left = duration(per_epoch * (self._total - self._done))
        shown = "  ".join(_metric(name, value) for name, value in row.items() if name in SHOWN)
        self._bar.update(self._task, completed=self._done, left=left, metrics=shown)
        line = f"epoch {self._done:>{len(str(self._total))}}/{self._total}  {shown}{note}"
        if console.is_terminal:
            for handler in log.handlers:
                if isinstance(handler, LogFile):
                    handler.handle(log.makeRecord(log.name, logging.INFO, __file__, 0, line, (), None))
        else:
            log.info("%s  %.2f s/epoch, %s left", line, per_epoch, left)


class ByteProgress(_Shown):
    """Progress over the bytes of a file: a bar on a terminal, otherwise a line every ten seconds.

    Args:
        name: the work that is done.
        done: bytes that were there before.
        total: bytes of the whole; None if that is unknown.
    """

    INTERVAL = 10.0

    def __init__(self, name: str, done: int, total: int | None) -> None:
        self._name, self._start, self._done, self._total = name, done, done, total
        self._began = self._printed = time.monotonic()
        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task(name, total=total, completed=done)

    def advance(self, count: int) -> None:
        """Report further bytes."""
        self._done += count
        self._bar.advance(self._task, count)
        now = time.monotonic()
        if console.is_terminal or now < self._printed + self.INTERVAL:
            return
        self._printed = now
        speed = (self._done - self._start) / (now - self._began)
        whole = f" of {self._total / 1e6:.0f} MB" if self._total else " MB"
        left = f", {duration((self._total - self._done) / speed)} left" if self._total and speed else ""
        console.print(f"{self._name}: {self._done / 1e6:.0f}{whole}, {speed / 1e6:.1f} MB/s{left}", highlight=False)


def duration(seconds: float) -> str:
    """Format a length of time for a reader.

    >>> duration(42), duration(130), duration(3 * 3600 + 240)
    ('42 s', '2 min 10 s', '3 h 04 min')
    """
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60:02d} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60:02d} min"


def _metric(name: str, value: float) -> str:
    return f"{name} {100 * value:.2f} %" if name.endswith("auroc") else f"{name} {value:.4f}"
