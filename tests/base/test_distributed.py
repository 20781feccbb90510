"""Ranks: the device they are given, and the end of one of them."""

from __future__ import annotations

import socket
import subprocess
import sys

import pytest
import torch
from helpers import ROOT, environment, finished

from harness.base.distributed import choose_device, process_group
from harness.base.errors import EnvironmentProblem

no_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="torch sees a GPU here")


@no_gpu
@pytest.mark.parametrize(("device", "gpus"), [("auto", 2), ("cuda", 0), ("cuda", 1)])
def test_gpus_that_are_wanted_and_not_seen_are_an_error(
    device: str, gpus: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    with pytest.raises(EnvironmentProblem) as raised, process_group(device, gpus):
        pass
    for words in (socket.gethostname(), "'0,1'", f"CUDA {torch.version.cuda}", 'device = "cpu"'):
        assert words in str(raised.value)


@no_gpu
def test_the_cpu_is_taken_where_it_is_named_or_no_gpu_is_wanted() -> None:
    assert {choose_device("auto", 0, 1).type, choose_device("cpu", 4, 1).type} == {"cpu"}


RANK = """
import os, sys
from harness.base.distributed import process_group
with process_group("cpu") as rank:
    rank.wait()
    if rank.index == 1:
        os._exit(9)
    rank.any(True)
"""


def test_a_rank_whose_peer_has_died_ends_with_one_line() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    world = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    first, second = (
        subprocess.Popen(
            [sys.executable, "-c", RANK],
            env=environment(RANK=rank, LOCAL_RANK=rank, **world),
            cwd=ROOT,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in "01"
    )
    assert finished(second)[0] == 9
    status, _, err = finished(first)
    assert status == 1 and "Traceback" not in err, err
    assert err.splitlines()[-1].startswith("rank 0 of 2: another rank ended: see its log")
