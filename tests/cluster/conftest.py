"""Two real Slurm clusters, one with accounting and one without; each starts when the first test asks for it."""

from __future__ import annotations

import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import submitit

from tests.cluster.slurm import Slurm, missing


@pytest.fixture(scope="session")
def cluster() -> Iterator[Slurm]:
    """A cluster with accounting, eight CPUs and two fake GPUs."""
    yield from _running(accounting=True)


@pytest.fixture(scope="session")
def cluster_without_accounting() -> Iterator[Slurm]:
    """The same cluster without slurmdbd, where sacct fails."""
    yield from _running(accounting=False)


def _running(accounting: bool) -> Iterator[Slurm]:
    if why := missing():
        pytest.skip(why)
    with tempfile.TemporaryDirectory(prefix="slurm-") as folder:  # pytest's own paths are too long for sockets
        slurm = Slurm(Path(folder), accounting)
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # tests that are ended end their cluster
        slurm.start()
        try:
            yield slurm
        finally:
            slurm.stop()


@pytest.fixture(autouse=True)
def no_job_stays(request: pytest.FixtureRequest) -> Iterator[None]:
    """Cancel the jobs that a failed test has left, which would hold the CPUs of the next one."""
    yield
    for name in {"cluster", "cluster_without_accounting"} & set(request.fixturenames):
        request.getfixturevalue(name).cancel_all()


@pytest.fixture
def of_the_cluster(cluster: Slurm, monkeypatch: pytest.MonkeyPatch) -> Slurm:
    """The cluster, with this process as one of its clients."""
    return _client(cluster, monkeypatch)


@pytest.fixture
def without_accounting(cluster_without_accounting: Slurm, monkeypatch: pytest.MonkeyPatch) -> Slurm:
    """The cluster without accounting, with this process as one of its clients."""
    return _client(cluster_without_accounting, monkeypatch)


def _client(slurm: Slurm, monkeypatch: pytest.MonkeyPatch) -> Slurm:
    submitit.SlurmJob.watcher.clear()  # it keeps states by job id, and both clusters count from 1
    monkeypatch.setenv("SLURM_CONF", slurm.environment()["SLURM_CONF"])
    return slurm
