"""The verbs: help with an example, and one line with thing, value and remedy per mistake."""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers import (
    ROOT,
    cluster_file,
    environment,
    refused,
    run_verb,
    tiny_run,
    tiny_sweep,
    tree,
    written,
)
from torch import Tensor

from harness.base.files import is_whole, read_json, write_json
from harness.base.npz import image_shape
from harness.cli import main as cli
from harness.spec import Run, Sweep
from harness.study.store import Store
from harness.study.sweep_file import SWEEPS, load_sweep

NAMES = sorted(path.stem for path in SWEEPS.glob("*.py") if not path.stem.startswith("_"))
HEAD = "from harness.spec import Protocol, Run, Sweep, grid\n"
(ACTION,) = (a for a in cli.parser()._actions if isinstance(a, argparse._SubParsersAction))
VERBS: dict[str, argparse.ArgumentParser] = dict(ACTION.choices)
ON_A_SWEEP = ("plan", "run", "launch", "status", "collect")


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_with_an_example(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main([verb, "--help"])
    text = capsys.readouterr().out
    assert end.value.code == 0 and f"example: harness {verb} " in text
    example = " ".join(text.split("example: harness ")[1].split()).split()
    VERBS[verb].parse_args(example[1:])  # the example is a command line of that verb


def test_every_verb_of_the_spine_is_there() -> None:
    assert {*ON_A_SWEEP, "report"} <= VERBS.keys()


@pytest.mark.parametrize(
    "words", [[], ["plam", "digits"], ["plan"], ["run", "digits", "--workers", "two"]]
)
def test_a_command_line_that_makes_no_sense_is_refused(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main(words)
    assert end.value.code == 2 and "usage: harness" in capsys.readouterr().err


@pytest.mark.parametrize("name", NAMES)
def test_every_sweep_loads_and_plans(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = load_sweep(name)
    status, text, err = run_verb(capsys, "plan", name, "--store", tmp_path / "none", "--json")
    plan = json.loads(text)
    assert status == 0 and err == "" and sweep.name == name and len(plan["runs"]) == len(sweep.runs)
    assert plan["runs"][0]["params"] > 0 and plan["totals"]["disk_bytes"] > 0 and not tree(tmp_path)
    status, text, _ = run_verb(capsys, "plan", name, "--store", tmp_path / "none")
    assert status == 0 and all(run.id in text for run in sweep.runs)


def test_the_paper_grid_is_the_papers() -> None:
    sweep = load_sweep("dit_grid")
    assert {run.model for run in sweep.runs} == {
        f"DiT-{s}/{p}" for s in ("S", "B", "L", "XL") for p in (8, 4, 2)
    }
    assert 400_000 in sweep.steps and {run.batch_size for run in sweep.runs} == {256}


@pytest.mark.parametrize("verb", ON_A_SWEEP)
@pytest.mark.parametrize(
    ("name", "fault"),
    [("digit", "did you mean 'digits'?"), ("nowhere/x.py", "no sweep 'nowhere/x.py'")],
)
def test_a_sweep_that_is_not_there_is_named_with_the_nearest(
    verb: str, name: str, fault: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fault in refused(capsys, verb, name)


SWEEP_OF = HEAD + "SWEEP = Sweep(name='x', runs={runs}, steps={steps}, protocols=())"
ONE = "[Run(model='DiT-S/2')]"


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("SWEEP = (", r"x\.py:1: '\(' was never closed: fix the sweep file"),
        ("", r"x\.py defines no SWEEP \(found NoneType\): write SWEEP = Sweep\(\.\.\.\)"),
        ("SWEEP = 3", r"defines no SWEEP \(found int\)"),
        ("\n1 / 0", r"x\.py:2: division by zero \(ZeroDivisionError\)"),
        ("import nothing_of_that_name", r"x\.py:1: No module named"),
        ("raise ValueError('two\\nlines')", r"two.*lines"),
        ("raise SystemExit(3)", r"x\.py"),
        (
            SWEEP_OF.format(runs="[Run(model='DiT-XL/3')]", steps="(1,)"),
            r"x\.py:2: .*'DiT-XL/3' is unknown: did you mean 'DiT-XL/",
        ),
        (SWEEP_OF.format(runs="[Run(modle='DiT-S/2')]", steps="(1,)"), r"modle"),
        (
            SWEEP_OF.format(runs="[Run(model='DiT-S/2', lr=-1.0, batch_size=0)]", steps="(1,)"),
            r"batch_size = 0 .*; lr = -1\.0 ",
        ),
        (SWEEP_OF.format(runs=ONE, steps="()"), "steps is empty"),
        (SWEEP_OF.format(runs=ONE, steps="(20, 10)"), r"must rise without repeats: \(10, 20\)"),
        (SWEEP_OF.format(runs=ONE, steps="(-10, 10)"), "-10 must be at least 1"),
        (SWEEP_OF.format(runs=ONE, steps="None"), r"x\.py:2: "),
        (
            SWEEP_OF.format(runs="grid(Run, model=['a', 'b'])", steps="(1,)"),
            r"'a' is unknown.*'b' is unknown",
        ),
    ],
)
@pytest.mark.parametrize("verb", ["plan", "run"])
def test_a_sweep_file_that_is_wrong_is_reported_in_one_line(
    verb: str, text: str, fault: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "x.py").write_text(text)
    assert re.search(fault, refused(capsys, verb, tmp_path / "x.py", "--store", tmp_path / "store"))
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("store = ", "is not TOML"),
        (
            "stor = 'x'\nworkers = 0\ndevice = 'tpu'",
            "stor is unknown: did you mean 'store'.*device = 'tpu' .*workers = 0 ",
        ),
        ("workers = '2'", "workers = '2' must be int, not str"),
        (None, "is neither local, debug nor a readable file: No such file"),
    ],
)
def test_a_cluster_file_that_is_wrong_is_reported_in_one_line(
    text: str | None, fault: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "cluster.toml"
    if text is not None:
        path.write_text(text)
    assert re.search(fault, refused(capsys, "plan", "digits", "--cluster", path))


def test_flags_stand_above_the_cluster_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster = cluster_file(tmp_path, store=str(tmp_path / "one"))
    for words, store in (((), "one"), (("--store", tmp_path / "two"), "two")):
        assert json.loads(
            run_verb(capsys, "plan", "digits", "--json", "--cluster", cluster, *words)[1]
        )["store"] == str(tmp_path / store)
    assert "workers = 0 must be at least 1" in refused(capsys, "run", "digits", "--workers", 0)


@pytest.fixture
def words(tmp_path: Path) -> tuple[object, ...]:
    return (written(tiny_sweep(steps=(10,)), tmp_path), "--store")


@pytest.mark.parametrize("verb", ["plan", "run", "launch", "status"])
def test_a_store_below_a_file_is_refused(
    verb: str, words: tuple[object, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("mine")
    assert str(tmp_path / "file") in refused(capsys, verb, *words, tmp_path / "file" / "store")
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("verb", ["run", "launch"])
@pytest.mark.parametrize("store", ["/proc/store", "/sys/store"])
def test_a_store_that_cannot_be_made_is_refused(
    store: str, verb: str, words: tuple[object, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    """Not even root writes there."""
    assert store in refused(capsys, verb, *words, store)


def test_collect_into_a_folder_that_cannot_be_made_is_refused(
    words: tuple[object, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    assert str(tmp_path / "file") in refused(
        capsys, "collect", *words, tmp_path / "store", "--out", tmp_path / "file"
    )


def test_a_read_only_store_is_refused(
    words: tuple[object, ...], mount: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    disk = mount("ro")
    line = refused(capsys, "run", *words, disk / "store")
    assert str(disk) in line and "choose a folder that can be written" in line


def whole(root: Path) -> bool:
    """Every file of the store can be read, and none was left beside."""
    files = [path for path in root.rglob("*") if path.is_file()]
    for path in files:
        if path.suffix == ".json":
            read_json(path)
    return all(is_whole(p) for p in files if p.suffix == ".safetensors") and not any(
        p.name.startswith(".") for p in files
    )


@pytest.mark.parametrize("size", [4, 16, 120, 600, 1180])
def test_a_full_disk_is_reported_in_one_line_and_nothing_is_half_written(
    size: int,
    words: tuple[object, ...],
    mount: Callable[[str], Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Full at different moments: at run.json, the log, the weights, the state, the score."""
    disk = mount(f"size={size}k")
    status, _, err = run_verb(capsys, "run", *words, disk)
    lines = [line for line in err.splitlines() if line.startswith(("failed: ", "harness: "))]
    assert status == 1 and "Traceback" not in err and lines, err
    assert str(disk) in lines[0] and "free some space" in lines[0] and whole(disk)


def test_another_run_under_the_same_id_is_refused(
    words: tuple[object, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store, run = Store(tmp_path / "store"), tiny_run()
    path = store.run(run) / "run.json"
    write_json(path, run.canonical() | {"lr": 0.5})
    before = tree(store.root)
    for verb in ("plan", "run"):
        line = refused(capsys, verb, *words, store.root)
        assert (
            f"{path} is another run than {run.id} (they differ in lr): move that folder away"
            in line
        )
    path.write_text('{"model": ')
    assert f"{path} is not JSON" in refused(capsys, "plan", *words, store.root)
    assert tree(store.root) == before


def test_python_m_harness_is_the_command(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "harness", "plan", "digt"]
    done = subprocess.run(
        command, env=environment(), cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (
        done.returncode == 1
        and done.stderr.startswith("harness: no sweep 'digt'")
        and done.stderr.count("\n") == 1
    )


def test_samples_of_a_run_are_written_as_adm_reads_them(
    words: tuple[object, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str], numbers: Tensor
) -> None:
    at, out = (*words, tmp_path / "store"), tmp_path / "samples.npz"
    assert run_verb(capsys, "run", *at)[0] == 0
    assert run_verb(capsys, "sample", *at, "--run", "mini-DiT-S/8", "--out", out)[0] == 0
    assert image_shape(out) == (64, 16, 1)
    unknown = refused(capsys, "sample", *at, "--run", "DiT-S/8", "--out", out)
    assert "'DiT-S/8' is none of the sweep's: did you mean 'mini-DiT-S/8'?" in unknown
    zero = ("--run", "mini-DiT-S/8", "--step", 0, "--out", tmp_path / "zero.npz")
    assert "step 0" in refused(capsys, "sample", *at, *zero), "it is no other name for the last"
    absent = tmp_path / "absent.npz"
    status, _, err = run_verb(
        capsys, "sample", *at, "--run", "mini-DiT-S/8", "--step", 7, "--out", absent
    )
    assert (
        status == 1
        and "has no ema weights at step 7" in err.splitlines()[-1]
        and not absent.exists()
    )


def test_a_sweep_read_back_from_its_repr_is_itself(tmp_path: Path) -> None:
    sweep: Sweep = tiny_sweep(runs=(tiny_run(), Run(model="mini-DiT-S/4", data="digits")))
    assert load_sweep(str(written(sweep, tmp_path))) == sweep
