"""A pool of slots on one machine: queued commands run as processes, each on its share of GPUs or cores."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from altub_exp.machine.disk import DiskFull, disk_full
from altub_exp.machine.terminal import duration, log


@dataclass(frozen=True)
class Slot:
    """A place for one process at a time.

    Attributes:
        number: number of the slot, from 0.
        gpu: name of its GPU for CUDA_VISIBLE_DEVICES; None uses only the CPU.
        threads: its share of the cores.
    """

    number: int
    gpu: str | None
    threads: int

    def __str__(self) -> str:
        return f"slot {self.number}, {'CPU' if self.gpu is None else f'GPU {self.gpu}'}"


@dataclass(frozen=True)
class Command:
    """A command line with a name, and the file for its output, which is kept if the command fails."""

    name: str
    arguments: Sequence[str]
    log: Path
    needs_gpu: bool = True


@dataclass
class Outcome:
    """The end of a command: ``error`` is one sentence, or None after success.

    ``status`` is the exit status of the process: negative after a signal, None if it could not be started.
    """

    seconds: float
    status: int | None
    error: str | None


def slots(gpus: Sequence[str], jobs_per_gpu: int, cpu_slots: int | None) -> list[Slot]:
    """Make the slots: ``jobs_per_gpu`` on every GPU; without a GPU ``cpu_slots``, by default one per four cores.

    The first jobs use different GPUs. The cores are divided among all slots.
    """
    cores = len(os.sched_getaffinity(0))
    if gpus:
        places: list[str | None] = [gpu for _ in range(jobs_per_gpu) for gpu in gpus]
    else:
        places = [None] * (cpu_slots if cpu_slots is not None else max(1, cores // 4))
    return [Slot(number, gpu, max(1, cores // len(places))) for number, gpu in enumerate(places)]


def environment(slot: Slot, needs_gpu: bool = True) -> dict[str, str]:
    """Return the environment of a process in this slot; OMP_NUM_THREADS is kept if it is set."""
    changed = dict(os.environ)
    changed.setdefault("OMP_NUM_THREADS", str(slot.threads))
    changed.setdefault("PYTHONUNBUFFERED", "1")  # no second attempt to write to a full disk at the end
    if "CUDA_VISIBLE_DEVICES" not in os.environ:
        changed.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")  # the numbers of nvidia-smi
    changed["CUDA_VISIBLE_DEVICES"] = slot.gpu if slot.gpu is not None and needs_gpu else ""
    return changed


class Interrupted(KeyboardInterrupt):
    """Ctrl-C or SIGTERM, after which the queue was dropped and the processes have ended; argument: the signal."""


@dataclass
class _Running:
    number: int
    slot: Slot
    process: subprocess.Popen[bytes]
    began: float = field(default_factory=time.monotonic)


class Pool:
    """Runs all commands on slots in the given order, also after one of them has failed.

    Each process has its own session and outlives this process, unless Ctrl-C or SIGTERM ends it: then all get SIGINT,
    and the pool waits for them.
    """

    def __init__(self, slots: Sequence[Slot], poll_seconds: float) -> None:
        self._slots, self._poll_seconds = list(slots), poll_seconds

    def run(self, commands: Sequence[Command]) -> list[Outcome]:
        """Run all commands until they end.

        Returns:
            One outcome per command, in the given order.

        Raises:
            Interrupted: after Ctrl-C or SIGTERM.
        """
        queue, free = deque(range(len(commands))), deque(self._slots)
        running: list[_Running] = []
        outcomes: dict[int, Outcome] = {}
        passed_on = 0  # number of signals
        with _signals() as received:
            while running or (queue and not received):
                while queue and free and not received:
                    number = queue.popleft()
                    try:
                        running.append(_Running(number, free[0], _start(commands[number], free[0])))
                        log.info("%s: started (%s)", commands[number].name, free.popleft())
                    except OSError as error:  # such as too many processes
                        outcomes[number] = Outcome(0.0, None, f"{commands[number].name} cannot be started: {error}.")
                time.sleep(self._poll_seconds)
                if len(received) > passed_on:
                    _pass_on(signal.SIGKILL if passed_on else signal.SIGINT, running)
                    passed_on = len(received)
                for ended in [item for item in running if item.process.poll() is not None]:
                    running.remove(ended)
                    free.append(ended.slot)
                    command = commands[ended.number]
                    outcome = outcomes[ended.number] = _outcome(command, ended)
                    spent = duration(outcome.seconds)
                    state = f"done in {spent}" if outcome.error is None else f"failed after {spent}"
                    state += f", see {command.log}" if command.log.exists() else ""
                    left = _left(outcomes.values(), running, len(queue), len(self._slots))
                    log.info("%s: %s; %d of %d ended%s", command.name, state, len(outcomes), len(commands), left)
        if received:
            raise Interrupted(received[0])
        return [outcomes[number] for number in range(len(commands))]


@contextmanager
def _signals() -> Iterator[list[int]]:
    """Collect SIGINT and SIGTERM; an ignored signal stays ignored here, but not in processes started meanwhile."""
    received: list[int] = []
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def collect(number: int, frame: FrameType | None) -> None:
        if before[signal.Signals(number)] is not signal.SIG_IGN:
            received.append(number)

    for number in before:
        signal.signal(number, collect)
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _start(command: Command, slot: Slot) -> subprocess.Popen[bytes]:
    command.log.unlink(missing_ok=True)  # a process that still writes to it keeps its file
    with command.log.open("wb") as output:
        return subprocess.Popen(
            command.arguments,
            env=environment(slot, command.needs_gpu),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def _pass_on(number: signal.Signals, running: Sequence[_Running]) -> None:
    if number is signal.SIGINT:
        log.warning("interrupted: waiting for running jobs to stop (%d); interrupt again to kill them", len(running))
    for item in running:
        item.process.send_signal(number)


def _left(outcomes: Iterable[Outcome], running: Sequence[_Running], queued: int, slots: int) -> str:
    """Estimate the time left from the mean duration of the successful commands."""
    spent = [outcome.seconds for outcome in outcomes if outcome.error is None]
    if not spent or not (running or queued):
        return ""
    mean, now = sum(spent) / len(spent), time.monotonic()
    work = queued * mean + sum(max(0.0, mean - (now - item.began)) for item in running)
    return f", about {duration(work / min(slots, queued + len(running)))} left"


def _outcome(command: Command, ended: _Running) -> Outcome:
    seconds, status = time.monotonic() - ended.began, ended.process.returncode
    if status in (0, 130, -signal.SIGINT):
        interrupted = f"{command.name} was interrupted: the same command completes it."
        command.log.unlink(missing_ok=True)
        return Outcome(seconds, status, interrupted if status else None)
    lines = [line.strip() for line in _end_of(command.log).splitlines() if line.strip()]
    sentences = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    if sentences:
        return Outcome(seconds, status, sentences[-1])
    if status == DiskFull.status:  # its own sentence did not fit
        return Outcome(seconds, status, str(disk_full(command.log.parent, "no space left")))
    if status < 0:
        why = f"was ended by signal {-status} ({signal.strsignal(-status)})"
        why += ", perhaps out of memory" if -status == signal.SIGKILL else ""
    else:
        why = f"ended with exit status {status}" + (f" ({lines[-1]})" if lines else "")
    return Outcome(seconds, status, f"{command.name} {why}; see {command.log}.")


def _end_of(path: Path, size: int = 65536) -> str:
    try:
        return path.read_bytes()[-size:].decode(errors="replace")
    except OSError:  # deleted meanwhile
        return ""
