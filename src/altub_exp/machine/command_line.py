"""The parser and the exit statuses that all commands except ``train`` share."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from altub_exp.errors import UserError
from altub_exp.machine.disk import writing_to
from altub_exp.text import say

INTERRUPTED = 130
"""Exit status of a command that Ctrl-C ended, as in a shell."""


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
        with writing_to(Path.cwd()):
            return work()
    except UserError as error:
        say(f"error: {error}", error=True)
        return error.status
    except KeyboardInterrupt:
        say("interrupted", error=True)
        return INTERRUPTED
