"""The parser and the exit statuses that all commands except ``train`` share."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

from altub_exp.errors import UserError

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
    """Return the exit status of ``work``; after a mistake of the user, print one sentence to stderr and return 1."""
    try:
        return work()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.status
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
