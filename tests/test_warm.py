"""The process that runs the tests' commands says why it has ended."""

import threading
import time

import psutil
import pytest

from tests.commandline import command, environment
from tests.warm import Warm


def test_a_process_that_cannot_start_says_why(tmp_path):
    env = environment(PYTHONHOME=str(tmp_path))
    warm = Warm(env)
    for _ in range(2):  # and is started again by the next command
        with pytest.raises(ChildProcessError, match=r"tests\.warm` ended with status 1:\n(?s:.)*No module named"):
            warm.run(command("--help"), cwd=tmp_path, env=env, seconds=60)


@pytest.mark.slow
def test_a_process_that_ends_meanwhile_says_how(tmp_path):
    env = environment()
    warm = Warm(env)
    done = warm.run(command("--help", module="altub_exp.status"), cwd=tmp_path, env=env, seconds=60)
    assert done.returncode == 0
    warm._process.kill()
    with pytest.raises(ChildProcessError, match="ended with status -9"):
        warm.run(command("--help", module="altub_exp.status"), cwd=tmp_path, env=env, seconds=60)


@pytest.mark.slow
def test_a_process_that_ends_during_a_command_says_how(tmp_path):
    env = environment()
    warm = Warm(env)
    killed = threading.Thread(target=lambda: end_during_command(warm))
    killed.start()
    words = command("-n", "1", "-r", "1", "import time; time.sleep(60)", module="timeit")
    with pytest.raises(ChildProcessError, match=r"tests\.warm` ended with status -9"):
        warm.run(words, cwd=tmp_path, env=env, seconds=100)
    killed.join()


def end_during_command(warm):
    """Kill the process, and then the command that it has started."""
    deadline = time.monotonic() + 90
    while not (warm._process and (commands := psutil.Process(warm._process.pid).children())):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    warm._process.kill()
    for process in commands:
        process.kill()
