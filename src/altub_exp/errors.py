"""Errors that are not bugs: a mistake in the user's input, a training that diverged, and an interruption."""

import difflib
from collections.abc import Iterable, Iterator


class UserError(Exception):
    """A mistake of the user: one clear sentence that names the remedy, printed without a traceback.

    Attributes:
        status: exit status of the program.
    """

    status = 1


class Divergence(Exception):
    """The loss or the scores became NaN or infinite: a result of the experiment, recorded as ``crashed``."""


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and those that have led to it: libraries wrap them."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def was_interrupted(error: BaseException | None) -> bool:
    """True if Ctrl-C, or a cluster that reclaims its node, caused an error; libraries may have wrapped it."""
    return any(isinstance(cause, KeyboardInterrupt | SystemExit) for cause in causes(error))


def did_you_mean(wrong: str, options: Iterable[str], n: int = 1) -> str:
    """Return up to ``n`` options that resemble a wrong word, as a part of a sentence; "" if none does.

    >>> did_you_mean("scrw", ["grid", "screw"])
    ' (did you mean screw?)'
    """
    close = difflib.get_close_matches(wrong, list(options), n=n)
    return f" (did you mean {' or '.join(close)}?)" if close else ""
