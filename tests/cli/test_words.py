"""What people type: words beside a sweep, other names for verbs, closed pipes, no terminal."""

from __future__ import annotations

import json
import os
import subprocess
import sys
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
    train_all,
    tree,
    written,
)
from PIL import Image

from harness.base.locks import claim
from harness.cli import main as cli
from harness.cli.verb import confirmed
from harness.launch.failures import record
from harness.launch.slurm_commands import failure
from harness.study.cluster import read_cluster
from harness.study.store import Store

SWEEP = tiny_sweep(runs=tuple(tiny_run(seed=seed) for seed in range(2)), steps=(10,))
VARIED = ("lr=1e-3,3e-3", "--run", "mini-DiT-S/8", "seed=0")


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    return written(SWEEP, tmp_path)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def usage(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    """What is shown of a command line that makes no sense."""
    with pytest.raises(SystemExit) as end:
        cli.main([str(word) for word in words])
    assert end.value.code == 2
    return capsys.readouterr().err


@pytest.mark.parametrize("typed", [*cli.GUESSES])
def test_another_name_for_a_verb_is_understood(
    typed: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert f"did you mean '{cli.GUESSES[typed]}'?" in usage(capsys, typed)
    known = {verb.name for verb in cli.VERBS} | {"--help"}
    assert cli.GUESSES[typed] in known and typed not in known


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (("plam", "digits"), "did you mean 'plan'?"),
        (("quux",), "verb 'quux' is unknown: there are plan, "),
        (("run", "digits", "--seed", "1"), "write seed=1 after SWEEP"),
        (("run", "digits", "--step=10"), "write steps=10 after SWEEP"),
        (("launch", "digits", "--folow"), "did you mean --follow?"),
        (("plan", "digits", "dit_grid"), "dit_grid: one SWEEP at a time"),
    ],
)
def test_a_wrong_option_shows_the_usage_of_its_verb(
    words: tuple[str, ...], meant: str, capsys: pytest.CaptureFixture[str]
) -> None:
    text = usage(capsys, *words)
    assert meant in text and text.startswith("usage: harness")
    assert words[0] not in {verb.name for verb in cli.VERBS} or f"harness {words[0]} [" in text


@pytest.mark.parametrize("verb", ["plan", "status"])
def test_the_same_words_name_the_same_runs_and_show_what_varies(
    verb: str, sweep: Path, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    at = ("--store", store.root)
    found = json.loads(run_verb(capsys, verb, sweep, "--json", *VARIED, *at)[1])
    assert [row["run"] for row in found["runs"]] == [tiny_run(lr=lr).id for lr in (1e-3, 3e-3)]
    assert [row["fields"]["lr"] for row in found["runs"]] == [1e-3, 3e-3]
    assert found["varies"] == ["lr"]
    text = run_verb(capsys, verb, sweep, *VARIED, *at)[1]
    head, *lines = text.splitlines()
    assert "lr" in head.split() and "0.001" in lines[0].split() and "0.003" in lines[1].split()
    assert "seed" not in head.split()


@pytest.mark.parametrize("verb", ["run", "launch"])
def test_a_dry_run_is_the_plan_and_starts_nothing(
    verb: str, sweep: Path, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    at = (sweep, "--store", store.root, "seed=5")
    text = run_verb(capsys, "plan", *at)[1]
    assert run_verb(capsys, verb, *at, "--dry-run") == (0, text, "") and tiny_run(seed=5).id in text
    assert not tree(store.root)


def test_a_table_of_changed_runs_has_a_name_of_its_own(
    sweep: Path, store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    at = ("--store", store.root)
    assert run_verb(capsys, "run", sweep, *at, "seed=7", "weight_decay=0.0,0.1")[0] == 0
    words = ("seed=7", "weight_decay=0.0,0.1", "--out", tmp_path / "out")
    assert run_verb(capsys, "collect", sweep, *at, *words)[0] == 0
    (table,) = (tmp_path / "out").glob("*7-weight_decay-0.0-0.1.csv")
    head, first, *_ = table.read_text().splitlines()
    assert head.endswith(",schema,weight_decay,tokens") and first.endswith(",0.0,4")


def test_list_and_show_find_what_is_in_a_store(
    sweep: Path, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    at = ("--store", store.root)
    run = SWEEP.runs[0]
    assert "does not exist: --store names another" in run_verb(capsys, "list", *at)[1]
    assert "there is no store" in refused(capsys, "show", "mini-DiT-S/8", *at)
    assert run_verb(capsys, "run", sweep, *at)[0] == 0
    found = json.loads(run_verb(capsys, "list", "--json", *at)[1])
    assert [(row["run"], row["steps"], row["scores"]) for row in found["runs"]] == [
        (run.id, [10], 1) for run in sorted(SWEEP.runs, key=lambda run: run.id)
    ]
    digits = next(row for row in found["sweeps"] if row["sweep"] == "digits")
    assert digits["runs"] == 12 and digits["in_store"] == 0 and "small study" in digits["about"]
    assert run.id in run_verb(capsys, "list", *at)[1]
    shown = json.loads(run_verb(capsys, "show", run.id[:-3], "--json", *at)[1])
    assert shown["fields"] == run.canonical() and shown["step"] == 10
    assert shown["checkpoints"][0]["bytes"]["ema"] == store.ema(run, 10).stat().st_size
    assert shown["scores"][0]["values"]["fid"] > 0 and Path(shown["logs"][0]).exists()
    text = run_verb(capsys, "show", run.id, *at)[1]
    assert run.id in text and str(store.run(run)) in text and "fid" in text and "seed" in text
    assert "matches several runs" in refused(capsys, "show", "mini-DiT-S/8", *at)
    assert "is no run of" in refused(capsys, "show", "DiT-XL/2", *at)


def test_status_names_why_a_run_failed_and_who_stopped(
    sweep: Path, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = SWEEP.runs
    at = (sweep, "--store", store.root)

    def states() -> list[str]:
        return [
            row["state"] for row in json.loads(run_verb(capsys, "status", *at, "--json")[1])["runs"]
        ]

    assert f"{store.root}, which does not exist" in run_verb(capsys, "status", *at)[1]
    train_all(SWEEP, store)
    assert states() == ["stopped", "stopped"], "trained, not scored, and nobody is at work"
    lines, _ = store.read_log(first)
    (row, _) = json.loads(run_verb(capsys, "status", *at, "--json")[1])["runs"]
    assert row["loss"] == pytest.approx(sum(line["loss"] for line in lines) / len(lines))
    lock = store.evaluate_claim(first, 10, SWEEP.sampling[0])
    with claim(lock):
        assert states() == ["scoring", "waiting"]
    record(f"{second.id}@10:{SWEEP.sampling[0].id}", store, "batch", "no reference: fetch it")
    assert states() == ["stopped", "failed"]
    assert "@10:tiny_269b7bfb: no reference: fetch it" in run_verb(capsys, "status", *at)[1]
    assert "--watch -1 must be above 0" in refused(capsys, "status", *at, "--watch", "-1")


def test_a_picture_of_samples_is_a_grid_of_whole_pixels(
    sweep: Path, store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train_all(SWEEP, store)
    at, out = (sweep, "--store", store.root), tmp_path / "s.png"
    assert "is an npz: --png" in refused(capsys, "sample", *at, "--out", out)
    assert "must name one of the 2 runs" in refused(capsys, "sample", *at, "--png", out)
    one = (*at, "--run", SWEEP.runs[0].id)
    assert run_verb(capsys, "sample", *one, "--png", out)[0] == 0
    with Image.open(out) as picture:
        assert picture.size == (8 * 66 + 2, 8 * 66 + 2) and len(picture.getcolors() or ()) > 2


def test_a_closed_pipe_is_silent(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "harness", "plan", "digits", "--store", str(tmp_path)]
    done = subprocess.run(
        command, env=environment(), cwd=ROOT, stdout=writer, stderr=subprocess.PIPE, check=False
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")


def test_a_question_without_a_terminal_names_the_option(monkeypatch: pytest.MonkeyPatch) -> None:
    def closed(_: str) -> str:
        raise EOFError

    monkeypatch.setattr("builtins.input", closed)
    with pytest.raises(ValueError, match="--yes"):
        confirmed("cancel 3 jobs?")
    for answer, meant in (("y", True), ("YES ", True), ("", False), ("n", False)):
        monkeypatch.setattr("builtins.input", lambda _, answer=answer: answer)
        assert confirmed("cancel 3 jobs?") is meant


def test_variables_in_paths_of_a_cluster_file_are_resolved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCRATCH", "/scratch/me")
    path = cluster_file(tmp_path, store="$SCRATCH/store", paths={})
    path.write_text(path.read_text().partition("paths")[0] + '[paths]\ndigits = "~/x"\n')
    cluster = read_cluster(str(path))
    assert cluster.store == "/scratch/me/store"
    assert cluster.paths["digits"] == str(Path("~/x").expanduser())
    monkeypatch.delenv("SCRATCH")
    with pytest.raises(ValueError, match=r"store = '\$SCRATCH/store' names a variable that is not"):
        read_cluster(str(path))


def test_a_shell_can_complete_sweeps(tmp_path: Path) -> None:
    pytest.importorskip("argcomplete")
    line, out = "harness plan dig", tmp_path / "found"
    asked = {"_ARGCOMPLETE": "1", "COMP_LINE": line, "COMP_POINT": str(len(line))}
    subprocess.run(
        [sys.executable, "-m", "harness"],
        env=environment(**asked, _ARGCOMPLETE_STDOUT_FILENAME=str(out)),
        cwd=ROOT,
        check=True,
    )
    assert out.read_text().strip() == "digits"


def test_a_machine_without_slurm_is_named_as_such() -> None:
    error = "squeue: error: no DNS\nsqueue: fatal: Could not establish a configuration source\n"
    assert failure("squeue", error, 1).startswith("no Slurm here: squeue finds no slurm.conf: run")
    assert failure("squeue", "a\nb\n", 1) == "a b" and "status 2" in failure("squeue", "", 2)
