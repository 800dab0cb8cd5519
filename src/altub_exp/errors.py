"""How a run may end without being a bug: the user's input is wrong, the training diverged, or it was interrupted."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Something a person got wrong: one clear sentence that names the remedy, shown without a traceback.

    Attributes:
        status: the program's exit status.
    """

    status = 1


class Divergence(Exception):
    """The loss or the scores became NaN or infinite: a result of the experiment, recorded as ``crashed``."""


def was_interrupted(error: BaseException | None) -> bool:
    """Whether the keyboard, or a cluster that wants its node back, is behind an error.

    A library may have wrapped what it got in the middle of its work.
    """
    while error is not None and not isinstance(error, KeyboardInterrupt | SystemExit):
        error = error.__cause__ or error.__context__
    return error is not None


def did_you_mean(wrong: str, options: Iterable[str], n: int = 1) -> str:
    """Return up to ``n`` options that resemble a wrong word, as a part of a sentence; "" if none does.

    >>> did_you_mean("scrw", ["grid", "screw"])
    ' (did you mean screw?)'
    """
    close = difflib.get_close_matches(wrong, list(options), n=n)
    return f" (did you mean {' or '.join(close)}?)" if close else ""
