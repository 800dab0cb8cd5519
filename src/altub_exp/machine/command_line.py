"""The parser and the exit statuses that all commands share, and the effect of Ctrl-C on them."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

from altub_exp.errors import UserError, was_interrupted
from altub_exp.machine.disk import writing_to
from altub_exp.text import say

INTERRUPTED = 130
"""Exit status of a command that Ctrl-C ended, as in a shell."""


_working = False  # True inside of interruptible()


def take_interrupts() -> None:
    """Let Ctrl-C end this process at once with one line, except for a KeyboardInterrupt in :func:`interruptible`.

    A command calls it before it imports libraries. An ignored signal stays ignored, as in a shell's background.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _interrupted)
        sys.unraisablehook = _unraisable


def _interrupted(number: int, frame: FrameType | None) -> None:
    if not _working:
        with suppress(OSError):
            os.write(2, b"interrupted\n")
        os._exit(INTERRUPTED)
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):  # it can become any other error, or abort
            return _interrupt_later()
        frame = frame.f_back
    raise KeyboardInterrupt


def _unraisable(dropped: sys.UnraisableHookArgs) -> None:
    """Repeat a KeyboardInterrupt that Python drops, since a destructor or a callback has raised it."""
    if issubclass(dropped.exc_type, KeyboardInterrupt):
        _interrupt_later()
    else:
        sys.__unraisablehook__(dropped)


def _interrupt_later() -> None:
    threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)).start()  # the end of the process waits for it


@contextmanager
def interruptible() -> Iterator[None]:
    """Let Ctrl-C raise a KeyboardInterrupt meanwhile, after any import, so that the work puts its files in order."""
    global _working
    before, _working = _working, True
    try:
        yield
    finally:
        _working = before
        with suppress(OSError, ValueError):  # an end at once would lose what is buffered
            sys.stdout.flush()


def command_parser(command: str, description: str, epilog: str, package: str = "altub_exp") -> argparse.ArgumentParser:
    """Make the parser of ``python -m PACKAGE.COMMAND``; the epilog keeps its line breaks."""
    return argparse.ArgumentParser(
        prog=f"python -m {package}.{command}",
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def run_command(work: Callable[[], int]) -> int:
    """Return the exit status of ``work``.

    After a mistake of the user, or if a file cannot be read or written, it prints one sentence to stderr and returns 1.
    """
    try:
        with interruptible(), writing_to(Path.cwd()):
            return work()
    except UserError as error:
        say(f"error: {error}", error=True)
        return error.status
    except BaseException as error:
        if isinstance(error, SystemExit) or not was_interrupted(error):
            raise
        say("interrupted", error=True)
        return INTERRUPTED
