"""What a real Slurm refuses, and what a node cannot do, is said once; nothing is half-submitted."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator

import pytest
from helpers import tiny_run, tiny_sweep
from lab import Lab
from processes import until
from site_verbs import Site, training

from harness.study.plan import missing


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"partition": "nowhere"}, "invalid partition specified: nowhere"),
        ({"account": "nobody"}, "Invalid account"),
    ],
)
def test_what_sbatch_refuses_leaves_nothing(table: dict[str, str], words: str, full: Site) -> None:
    sweep = tiny_sweep(runs=tuple(tiny_run(model=f"mini-DiT-S/{patch}") for patch in (8, 4)))
    files = full.write(sweep, models={"mini-DiT-S/4": table})
    for more in ((), ("--follow",), ("--detach",)):
        status, out, err = full.harness("launch", files, "--dirty", *more)
        assert status == 1 and out == "" and err.count(words) == 1 and "Traceback" not in err
        assert err.splitlines()[-1].endswith("fix the cluster file; nothing was submitted")
        assert {path.name for path in full.store.submissions().iterdir()} == {"launch.lock", "code"}
        full.empty()  # the first array was taken back
        assert not full.store.ledger().exists()


def test_gpus_that_do_not_divide_a_batch_are_refused(plain: Site) -> None:
    runs = (
        tiny_run(),
        tiny_run(seed=1),
        tiny_run(model="mini-DiT-S/4", batch_size=10),
        tiny_run(batch_size=9),
    )
    status, _, err = plain.harness("launch", plain.write(tiny_sweep(runs=runs), nodes=3), "--dirty")
    assert status == 1 and "Traceback" not in err and not plain.store.ledger().exists()
    assert err.splitlines()[-1] == (
        "harness: tiny: nodes × gpus_per_node = 3 does not divide the batch of 8 of mini-DiT-S/8:"
        " ask for 2;"
        " nodes × gpus_per_node = 3 does not divide the batch of 10 of mini-DiT-S/4: ask for 2"
    )


def test_no_slurm_on_the_path(tmp_path_factory: pytest.TempPathFactory) -> None:
    site = Site(Lab(tmp_path_factory.mktemp("none"), 0), tmp_path_factory.mktemp("site"))
    for words in ((), ("--follow",), ("--detach",)):
        status, out, err = site.harness(
            "launch", site.write(tiny_sweep()), "--dirty", *words, PATH="/nonexistent"
        )
        assert (
            status == 1
            and out == ""
            and err.endswith("harness: no Slurm here: squeue is not on the path\n")
        )


@pytest.fixture
def blind(plain: Site) -> Iterator[Site]:
    """Only node4 is there, and sees an empty folder where the store lies."""
    lab, hide = plain.lab, ("unshare", "--mount", "sh", "-c")
    if (
        not shutil.which("unshare")
        or subprocess.run([*hide, "mount -t tmpfs none /mnt"], capture_output=True).returncode
    ):
        pytest.skip("no mount namespaces here")
    lab.kill("slurmd-node4")
    lab.run(*hide, f"mount -t tmpfs none {plain.folder} && slurmd -N node4")
    lab.run("scontrol", "update", "nodename=node[1-3]", "state=drain", "reason=test")
    until(lambda: lab.states()[3] == "idle")
    yield plain
    lab.kill("slurmd-node4")
    lab.begin("slurmd", "-N", "node4")
    lab.run("scontrol", "update", "nodename=node[1-4]", "state=undrain")


def test_a_node_that_does_not_see_the_store_makes_none(blind: Site) -> None:
    sweep = training(100)
    files = blind.write(sweep)
    blind.launch(files)
    blind.empty()
    (run,) = blind.status(files)["runs"]
    assert run["state"] == "failed" and run["error"].endswith("or its node does not see the store")
    assert not (blind.folder / "store" / "runs").exists()
    blind.lab.run("scontrol", "update", "nodename=node[1-3]", "state=undrain")
    blind.lab.run("scontrol", "update", "nodename=node4", "state=drain", "reason=test")
    blind.launch(files)
    until(lambda: not missing(sweep, blind.store))
