"""Ranks on several nodes: stopped and resumed together, with the curve of one rank."""

from __future__ import annotations

import pytest
from helpers import curve, tiny_run
from processes import until
from site_verbs import Site, training, undisturbed

from harness.base.files import read_lines
from harness.study.plan import missing

RUN = tiny_run()


def test_two_ranks_on_each_of_two_nodes_survive_signal_and_requeue(plain: Site) -> None:
    sweep = training(400)
    files = plain.write(sweep, nodes=2, gpus_per_node=2)
    plain.launch(files)
    job = plain.jobs()[0]
    for how in (("scancel", "--signal=USR2"), ("scontrol", "requeue")):
        plain.trains(RUN)
        assert plain.says(files, "training")
        plain.lab.run(*how, job)
        until(lambda: plain.says(files, "queued"))
    until(lambda: not missing(sweep, plain.store))
    begun = plain.starts(RUN)
    assert (
        len(begun) == 3
        and 0 < begun[1] < begun[2]
        and plain.lost(RUN) == [0.0, 0.0]
        and plain.jobs() == [job]
    )
    assert [read_lines(path)[0][0]["world"] for path in plain.store.logs(RUN)] == [4, 4, 4]
    alone = curve(undisturbed(plain, files), RUN)
    for ours, theirs in zip(curve(plain.store, RUN), alone, strict=True):
        assert ours == pytest.approx(theirs, rel=2e-3)
