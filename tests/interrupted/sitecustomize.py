"""Sends SIGINT to the process at a moment that INTERRUPTED_AT names; the folder is put on PYTHONPATH.

The moments are the events of Python's audit hooks (imports, opened files, compiled code, connections and more) from the
program's first own statements to the end of the process, so that their number does not depend on the machine's load.
INTERRUPTED_AT=0 appends the number of all moments to the file INTERRUPTED_COUNT instead.
"""

import atexit
import os
import signal
import sys

AT = int(os.environ["INTERRUPTED_AT"])
PROCESS = os.getpid()
count = 0


def moment(event: str, args: tuple[object, ...]) -> None:
    global count
    if os.getpid() != PROCESS or not (count or callable(signal.getsignal(signal.SIGINT))):
        return
    if count or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        count += 1
        if count == AT:
            os.kill(PROCESS, signal.SIGINT)


def report() -> None:
    with open(os.environ["INTERRUPTED_COUNT"], "w") as file:
        file.write(str(count))


del os.environ["INTERRUPTED_AT"]  # not for the processes that this one starts
if not AT:
    atexit.register(report)
sys.addaudithook(moment)
