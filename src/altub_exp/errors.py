"""The two ways in which a run may end without being a bug: the user's input is wrong, or the training diverged."""


class UserError(Exception):
    """Something a person got wrong: one clear sentence that names the remedy, shown without a traceback.

    Attributes:
        status: the program's exit status.
    """

    status = 1


class Divergence(Exception):
    """The loss or the scores became NaN or infinite: a result of the experiment, recorded as ``crashed``."""
