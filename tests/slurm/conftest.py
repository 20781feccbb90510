"""The clusters of these tests, skipped with the reason where Slurm is not installed."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from lab import Lab
from site_verbs import Site

os.environ["PATH"] += ":/usr/sbin:/sbin"  # where Debian has the daemons


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.slurm)
            if not shutil.which("slurmctld"):
                item.add_marker(
                    pytest.mark.skip(reason="no slurmctld: python tests/slurm/lab.py install")
                )


def running(lab: Lab) -> Iterator[Lab]:
    try:
        lab.start()
        yield lab
    finally:
        lab.stop()


def port() -> int:
    """The first of ten free ports; each process of pytest-xdist has its own."""
    first = 26800 + 1000 * int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:])
    return next(
        p
        for p in range(first + os.getpid() % 90 * 10, 32000, 10)
        if all(map(is_free, range(p, p + 10)))
    )


def is_free(number: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", number)) != 0


@pytest.fixture(scope="session")
def plain_lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    yield from running(Lab(tmp_path_factory.mktemp("lab"), port()))


@pytest.fixture(scope="session")
def full_lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    yield from running(
        Lab(tmp_path_factory.mktemp("lab"), port(), accounting=True, user_signal=True)
    )


@pytest.fixture
def plain(plain_lab: Lab, tmp_path: Path) -> Iterator[Site]:
    """No accounting; the preempted get SIGTERM alone."""
    yield from used(plain_lab, tmp_path)


@pytest.fixture
def full(full_lab: Lab, tmp_path: Path) -> Iterator[Site]:
    """Accounting; the preempted are sent the user signal."""
    yield from used(full_lab, tmp_path)


def used(lab: Lab, folder: Path) -> Iterator[Site]:
    site = Site(lab, folder)
    yield site
    for job in {job.split("_")[0] for job in site.queue()}:
        lab.run("scancel", job)
    site.empty()
