"""A real Slurm cluster of one node below one temporary folder, started by root, without systemd and without /etc."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import socket
import stat
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil

PROGRAMS = ("munged", "slurmctld", "slurmd", "slurmdbd", "mariadbd", "mariadb-install-db", "sbatch", "sacct")
NODE = "node1"
START_WAIT = 60.0
CLIENT_WAIT = 30.0
"""Seconds that a daemon may take to answer, and a client command to return."""

SLURM = """
ClusterName=test
SlurmctldHost={host}({address})
SlurmctldPort={slurmctld_port}
SlurmdPort={slurmd_port}
# bind to the address of the host's name, not to all
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
SlurmUser=root
AuthType=auth/munge
# cred_expire: the wait of a requeued job, 120 s by default
AuthInfo=socket={folder}/munge.socket,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
# the log of slurmstepd; the logs of the daemons are NAME.log
SlurmdLogFile={folder}/steps.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
# the node is believed to be what this file says, whatever the machine has
SlurmdParameters=config_overrides
# a job starts at once, not at the next of the rounds that spare a large cluster
SchedulerParameters=batch_sched_delay=0,sched_min_interval=0,sched_interval=1,bf_interval=1
ReturnToService=2
JobRequeue=1
KillWait={kill_wait}
GresTypes=gpu
NodeName={node} NodeHostname={host} NodeAddr={address} CPUs={cpus} CoresPerSocket={cpus} RealMemory=8000 {gres}
PartitionName=main Nodes={node} Default=YES MaxTime=INFINITE State=UP DefMemPerCPU=100
"""
ACCOUNTING = """
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost={address}
AccountingStoragePort={slurmdbd_port}
AccountingStoragePass={folder}/munge.socket
AccountingStorageTRES=gres/gpu
"""
SLURMDBD = """
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
DbdHost={host}
DbdAddr={address}
DbdPort={slurmdbd_port}
CommunicationParameters=NoInAddrAny
SlurmUser=root
PidFile={folder}/slurmdbd.pid
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort={database_port}
StorageLoc=slurm
StorageUser=slurm
StoragePass={password}
"""
DATABASE = """
CREATE DATABASE IF NOT EXISTS slurm;
CREATE USER IF NOT EXISTS slurm@'127.0.0.1' IDENTIFIED BY '{password}';
GRANT ALL ON slurm.* TO slurm@'127.0.0.1';
"""


def missing() -> str:
    """Return one sentence about why this machine cannot run a cluster, or an empty string."""
    absent = [name for name in PROGRAMS if shutil.which(name) is None]
    if absent:
        return f"{', '.join(absent)} not found: run tests/install.sh slurm"
    return "" if os.geteuid() == 0 else "a Slurm cluster of its own needs root"


def wait_until(condition: Callable[[], object], seconds: float = 60, what: str = "what the test waits for") -> None:
    """Return as soon as the condition holds.

    Raises:
        TimeoutError: it did not hold in time.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} did not happen within {seconds:g} s")
        time.sleep(0.1)


@dataclass
class Daemon:
    """A program that runs in the foreground until it is ended; its output is in ``NAME.log``."""

    command: list[str]
    folder: Path
    environment: dict[str, str]
    process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    @property
    def name(self) -> str:
        return self.command[0]

    @property
    def log(self) -> Path:
        return self.folder / f"{self.name}.log"

    def start(self) -> None:
        """Start it in a new session, which signals to the tests do not reach."""
        assert not self.alive()
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command,
                cwd=self.folder,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def end(self, number: signal.Signals = signal.SIGTERM, seconds: float = 20) -> None:
        """Signal it and wait; kill it if it does not end in time."""
        if self.process is None:
            return
        self.process.send_signal(number)  # does nothing where the process has ended
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process = None

    def tail(self, lines: int = 15) -> str:
        """Return the end of its log."""
        text = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        return "\n".join([f"{self.log}:", *text[-lines:]])


class Slurm:
    """munged, slurmctld, slurmd and, with accounting, slurmdbd with its own MariaDB.

    All of them listen on the address of the machine's own name, in general a loopback address.

    Args:
        folder: an empty folder with a short path (sockets allow 107 characters), which every user may enter.
        accounting: without it there is no slurmdbd, and sacct fails.
        cpus: what the node advertises, whatever the machine has.
        gpus: number of fake GPUs, character devices that lead nowhere.
        kill_wait: seconds between SIGTERM and SIGKILL at scancel and at the time limit.
    """

    def __init__(self, folder: Path, accounting: bool = True, cpus: int = 8, gpus: int = 2, kill_wait: int = 2):
        self.folder = folder
        self.accounting = accounting
        self.gpus = gpus
        self.host = socket.gethostname().partition(".")[0]
        self.address = socket.gethostbyname(socket.gethostname())
        names = ("slurmctld", "slurmd", "slurmdbd", "database")
        self.ports = dict(zip(names, _free_ports(self.address, len(names)), strict=True))
        self.values = {f"{name}_port": port for name, port in self.ports.items()} | {
            "folder": folder,
            "host": self.host,
            "address": self.address,
            "node": NODE,
            "cpus": cpus,
            "gres": f"Gres=gpu:{gpus}" if gpus else "",
            "kill_wait": kill_wait,
            "password": secrets.token_hex(16),
        }
        socket_options = [f"--{name}={folder}/munge.{name}" for name in ("socket", "pid-file", "seed-file", "log-file")]
        self.munged = self._daemon("munged", "--foreground", f"--key-file={folder}/munge.key", *socket_options)
        self.database = self._daemon(
            "mariadbd",
            "--no-defaults",
            "--user=root",
            f"--datadir={folder}/database",
            f"--socket={folder}/mariadb.socket",
            f"--pid-file={folder}/mariadb.pid",
            "--bind-address=127.0.0.1",
            f"--port={self.ports['database']}",
            f"--init-file={folder}/database.sql",
            # as slurmdbd wants it, and small
            "--innodb-lock-wait-timeout=900",
            "--innodb-buffer-pool-size=32M",
            "--innodb-log-file-size=16M",
            "--innodb-flush-log-at-trx-commit=0",
        )
        self.slurmdbd = self._daemon("slurmdbd", "-D")
        self.slurmctld = self._daemon("slurmctld", "-D")
        self.slurmd = self._daemon("slurmd", "-D")

    @property
    def daemons(self) -> list[Daemon]:
        """Return the daemons in the order of their start."""
        storage = [self.database, self.slurmdbd] if self.accounting else []
        return [self.munged, *storage, self.slurmctld, self.slurmd]

    def environment(self) -> dict[str, str]:
        """Return the environment of a program that uses this cluster, without another cluster's variables."""
        foreign = ("SLURM_", "SBATCH_", "SRUN_", "SALLOC_", "SQUEUE_", "SACCT_", "SCANCEL_")
        return {key: value for key, value in os.environ.items() if not key.startswith(foreign)} | {
            "SLURM_CONF": str(self.folder / "slurm.conf")
        }

    def start(self) -> None:
        """Return when the node is idle: after about 2 s, with accounting 8 s.

        Raises:
            RuntimeError: a daemon does not come up; with the end of its log.
        """
        try:
            self._write()
            self._start(self.munged, lambda: (self.folder / "munge.socket").exists())
            if self.accounting:
                self._start(self.database, lambda: self._listens("database"))
                self._start(self.slurmdbd, lambda: self._listens("slurmdbd"))
                self.run("sacctmgr", "--immediate", "add", "cluster", "test")
            self._start(self.slurmctld, self._controller_answers)
            self._start(self.slurmd, lambda: self.node_state() == "idle")
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End the jobs and every daemon; the folder stays."""
        self._end_steps()
        for daemon in reversed(self.daemons):
            daemon.end()
            self._end_steps()  # those that the controller started in the meantime

    def restart(self, daemon: Daemon, number: signal.Signals = signal.SIGTERM) -> None:
        """End one of the daemons by a signal (SIGKILL: as in a crash), start it again and wait until it serves."""
        daemon.end(number)
        ready = {
            self.slurmctld.name: self._controller_answers,
            self.slurmd.name: lambda: self.node_state() in ("idle", "mixed", "allocated"),
            self.slurmdbd.name: lambda: self._listens("slurmdbd"),
            self.database.name: lambda: self._listens("database"),
            self.munged.name: lambda: (self.folder / "munge.socket").exists(),
        }
        self._start(daemon, ready[daemon.name])

    def client(self, *command: object, seconds: float = CLIENT_WAIT) -> subprocess.CompletedProcess[str]:
        """Run a client program and return the result with its exit status, 124 after a time-out."""
        words = ["timeout", str(seconds), *map(str, command)]
        return subprocess.run(words, cwd=self.folder, env=self.environment(), capture_output=True, text=True)

    def run(self, *command: object, seconds: float = CLIENT_WAIT) -> str:
        """Return the output of a client program.

        Raises:
            RuntimeError: it failed, or did not return in time.
        """
        done = self.client(*command, seconds=seconds)
        if done.returncode:
            raise RuntimeError(f"{' '.join(map(str, command))}: exit status {done.returncode}\n{done.stderr}")
        return done.stdout.strip()

    def sbatch(self, script: str, *options: str) -> str:
        """Submit a shell script and return the job's id; its output goes to ``ID[_TASK].out`` in the folder."""
        output = "%A_%a.out" if any(option.startswith("--array") for option in options) else "%j.out"
        return self.run("sbatch", "--parsable", f"--output={self.folder}/{output}", *options, f"--wrap={script}")

    def squeue(self, job: str = "") -> dict[str, str]:
        """Return {id or id_task: state, such as RUNNING} of the jobs that have not ended, or of one."""
        done = self.client("squeue", "--noheader", "--array", "--format=%i %T", *([f"--jobs={job}"] if job else []))
        if done.returncode and "Invalid job id" not in done.stderr:  # an old job that has been forgotten
            raise RuntimeError(done.stderr)
        return dict(line.split() for line in done.stdout.splitlines())

    def sacct(self, job: str = "") -> dict[str, str]:
        """Return {id or id_task: state, such as COMPLETED} of all jobs, or of one; up to 5 s late.

        The waiting jobs of an array are one entry, such as ``7_[2-5%2]``.
        """
        only = [f"--jobs={job}"] if job else []
        text = self.run("sacct", "--allocations", "--noheader", "--parsable2", "--format=JobID,State", *only)
        return {name: state.split()[0] for name, state in (line.split("|") for line in text.splitlines())}

    def scontrol(self, *arguments: str) -> str:
        return self.run("scontrol", *arguments)

    def scancel(self, *arguments: str) -> str:
        return self.run("scancel", *arguments)

    def signal(self, job: str, name: str) -> None:
        """Send a signal to the steps of a job.

        A job that requeues itself on it makes scancel believe that it did not arrive, and send it again for minutes.
        """
        done = self.client("scancel", f"--signal={name}", job, seconds=3)
        if done.returncode not in (0, 124):
            raise RuntimeError(done.stderr)

    def cancel_all(self, seconds: float = 30) -> None:
        """Cancel every job and return when none is left."""
        self.scancel("--user=root")
        wait_until(lambda: not self.squeue(), seconds, "the end of cancelled jobs")

    def wait_saved(self, job: str, seconds: float = 20) -> None:
        """Return when the controller has saved the state of a job: some seconds after each change.

        Killed before that, it forgets that the job was started, starts it once more and drains the node.
        """
        state = self.folder / "state" / "job_state"
        before = state.stat().st_mtime_ns if state.exists() else 0
        self.scontrol("update", f"jobid={job}", "comment=saved")
        wait_until(lambda: state.exists() and state.stat().st_mtime_ns > before, seconds, "the controller's writing")

    def show(self, job: str) -> dict[str, str]:
        """Return the fields of ``scontrol show job``, which the controller keeps for 300 s after the end."""
        text = self.scontrol("show", "job", "--oneliner", job)
        return dict(word.split("=", 1) for word in text.split() if "=" in word)

    def output(self, job: str) -> str:
        """Return the output of a job submitted by :meth:`sbatch`."""
        path = self.folder / f"{job}.out"
        return path.read_text() if path.exists() else ""

    def wait(self, job: str, seconds: float = 60) -> None:
        """Return when no part of a job is pending or running."""
        wait_until(lambda: not self.squeue(job), seconds, f"the end of job {job}")

    def node_state(self) -> str:
        return self.client("sinfo", "--noheader", "--format=%T").stdout.strip()

    def processes(self) -> list[psutil.Process]:
        """Return the living daemons, the steps that slurmd has started, and the processes in those."""
        own = [psutil.Process(daemon.process.pid) for daemon in self.daemons if daemon.process and daemon.alive()]
        return [*own, *(child for process in own for child in process.children(recursive=True)), *self._steps()]

    def _daemon(self, *command: str) -> Daemon:
        return Daemon(list(command), self.folder, self.environment())

    def _start(self, daemon: Daemon, ready: Callable[[], object]) -> None:
        daemon.start()
        try:
            wait_until(lambda: not daemon.alive() or ready(), START_WAIT)
        except TimeoutError:
            raise RuntimeError(f"{daemon.name} does not answer.\n{daemon.tail()}") from None
        if not daemon.alive():
            raise RuntimeError(f"{daemon.name} ended at once.\n{daemon.tail()}")

    def _listens(self, name: str) -> bool:
        address = "127.0.0.1" if name == "database" else self.address
        with contextlib.suppress(OSError), socket.create_connection((address, self.ports[name]), timeout=1):
            return True
        return False

    def _controller_answers(self) -> bool:
        return "is UP" in self.client("scontrol", "ping", seconds=5).stdout

    def _write(self) -> None:
        folder, values = self.folder, self.values
        folder.chmod(0o755)  # munged insists that every user may reach its socket
        for name in ("state", "spool"):
            (folder / name).mkdir(mode=0o755)
        _private(folder / "munge.key", secrets.token_bytes(128))
        (folder / "slurm.conf").write_text((SLURM + (ACCOUNTING if self.accounting else "")).format(**values))
        (folder / "cgroup.conf").write_text("CgroupAutomount=no\n")
        devices = [folder / f"gpu{number}" for number in range(self.gpus)]
        for device in devices:
            os.mknod(device, stat.S_IFCHR | 0o666, os.makedev(1, 3))
        (folder / "gres.conf").write_text("".join(f"NodeName={NODE} Name=gpu File={device}\n" for device in devices))
        if self.accounting:
            _private(folder / "slurmdbd.conf", SLURMDBD.format(**values).encode())
            _private(folder / "database.sql", DATABASE.format(**values).encode())
            command = ["mariadb-install-db", "--no-defaults", "--user=root", "--skip-test-db", "--skip-name-resolve"]
            done = subprocess.run([*command, f"--datadir={folder}/database"], capture_output=True, text=True)
            if done.returncode:
                raise RuntimeError(f"mariadb-install-db failed.\n{done.stdout}\n{done.stderr}")

    def _steps(self) -> Iterator[psutil.Process]:
        # slurmd lets them go, and they overwrite their environment; but they hold their log
        log = str(self.folder / "steps.log")
        for step in psutil.process_iter(["name"]):
            with contextlib.suppress(psutil.NoSuchProcess):
                if step.info["name"] == "slurmstepd" and log in (file.path for file in step.open_files()):
                    yield from [*step.children(recursive=True), step]

    def _end_steps(self) -> None:
        steps = list(self._steps())
        for process in steps:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(steps, timeout=10)


def _free_ports(address: str, count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(socket.create_server((address, 0))) for _ in range(count)]
        return [server.getsockname()[1] for server in servers]


def _private(path: Path, content: bytes) -> None:
    path.touch(mode=0o600)
    path.write_bytes(content)
