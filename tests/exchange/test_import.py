"""Doors in: a checkpoint becomes a run that the other verbs know, or one line and nothing."""

from __future__ import annotations

import argparse
import csv
import json
import pathlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoints import LATENT, awake, of_train_py, released, weights
from helpers import (
    ROOT,
    do,
    refused,
    run_verb,
    tiny_protocol,
    tiny_run,
    tiny_sweep,
    train_all,
    tree,
    written,
)
from safetensors.torch import save_file
from torch import Tensor

from harness.base.files import read_json
from harness.base.tensors import load_tensors
from harness.exchange.contents import training_fields
from harness.exchange.formats import FORMATS
from harness.scoring.sample import load_network
from harness.spec import Run, own_rows
from harness.study import counts
from harness.study.collect import collect
from harness.study.plan import missing
from harness.study.store import Store
from harness.study.tasks import Evaluate

CPU = torch.device("cpu")
WORDS = (
    "data=digits batch_size=8 lr=1e-3 ema_decay=0.9 precision=fp32 objective=ddpm".split()
)  # tiny_run's


def test_an_imported_checkpoint_is_planned_scored_collected_and_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store, sweep = Store(tmp_path / "store"), tiny_sweep(steps=(20,))
    file = released(tiny_run(), tmp_path / "file.pt")
    status, out, _ = run_verb(capsys, "import", file, "--step", 20, *WORDS, "--store", store.root)
    assert status == 0 and tiny_run().id in out and "nothing states" in out
    (task,) = missing(sweep, store)
    assert isinstance(task, Evaluate) and task.ready
    do(task, store)
    record = read_json(store.record(task.run, 20, tiny_protocol()))
    assert any(line.startswith("imported from file.pt, SHA-256") for line in record["warnings"])
    table, count, warnings = collect(sweep, store, tmp_path)
    with table.open(newline="") as lines:
        assert count == len([*csv.DictReader(lines)]) > 0 and warnings == []
    assert missing(sweep, store) == []
    for words in (("status", written(sweep, tmp_path)), ("show", task.run.id)):
        status, out, err = run_verb(capsys, *words, "--store", store.root)
        assert status == 0 and err == "" and task.run.id in out
    assert f"step 20 is imported from {file}" in out and "trained to step" not in out


def test_the_imported_network_computes_what_the_file_holds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store, net = Store(tmp_path / "store"), awake(LATENT)
    file = released(LATENT, tmp_path / "0000007.pt")
    run_verb(capsys, "import", file, "objective=ddpm", "--store", store.root)
    found, _ = load_network(store, LATENT, 7, "ema", CPU)
    given = torch.randn(2, 4, 32, 32), torch.tensor([3, 998]), torch.tensor([7, 1000])
    with torch.inference_mode():
        assert torch.equal(found(*given), net(*given))


def test_train_pys_checkpoint_states_its_fields_and_has_both_weights(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Run(model="mini-DiT-S/8", batch_size=128, seed=3, lr=2e-4)
    args = {"global_batch_size": 128, "global_seed": 3, "data_path": pathlib.PurePath("x").name}
    file = of_train_py(run, tmp_path / "0400000.pt", **args)
    store = Store(tmp_path / "store")
    status, out, _ = run_verb(capsys, "import", file, "objective=ddpm", "--store", store.root)
    assert status == 0 and "left out: opt" in out
    for path, seed in ((store.ema(run, 400_000), 1), (store.raw(run, 400_000), 0)):
        loaded, wanted = load_tensors(path), weights(run, seed)
        assert loaded.keys() == wanted.keys() and all(x.equal(wanted[n]) for n, x in loaded.items())
    fault = refused(
        capsys, "import", file, "objective=ddpm", "seed=4", "--store", tmp_path / "other"
    )
    assert f"seed = 4 was given, {file} states 3" in fault and not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    ("args", "objective"),
    [
        ({"model": "DiT-XL/2"}, "ddpm"),
        ({"model": "SiT-XL/2", "path_type": "Linear", "prediction": "velocity"}, "flow"),
        ({"model": "SiT-XL/2", "path_type": "GVP", "prediction": "velocity"}, "flow-gvp"),
        (
            {"model": "SiT-XL/2", "prediction": "noise", "loss_weight": "velocity"},
            "flow-noise-weighted",
        ),
        ({"model": "SiT-XL/2", "path_type": "VP"}, None),
    ],
)
def test_the_objective_follows_from_train_pys_arguments(
    args: dict[str, Any], objective: str | None
) -> None:
    stated = training_fields({"args": argparse.Namespace(**args)})
    assert stated.get("objective") == objective and stated["model"] == "DiT-XL/2"


def test_sits_unused_rows_are_dropped_and_the_velocity_is_the_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store, both = Store(tmp_path / "store"), awake(LATENT)  # 2C channels, as SiT's train.py has
    file, run = released(LATENT, tmp_path / "sit.pt"), Run(model=LATENT.model, objective="flow")
    words = ("import", file, "objective=flow", "--step", 5, "--store", store.root)
    assert "are dropped: those that SiT computes and discards" in run_verb(capsys, *words)[1]
    found, _ = load_network(store, run, 5, "ema", CPU)
    given = torch.randn(2, 4, 32, 32), torch.tensor([0.1, 0.9]), torch.tensor([7, 1000])
    with torch.inference_mode():
        assert torch.allclose(found(*given), both(*given)[:, :4], atol=1e-6)


def test_dit_and_sit_have_the_same_names_and_the_user_says_which(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, store = released(LATENT, tmp_path / "x.pt"), tmp_path / "store"
    fault = refused(capsys, "import", file, "--step", 1, "--store", store)
    assert "add objective=ddpm (DiT) or objective=flow (SiT)" in fault and not store.exists()


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod."])
def test_prefixes_of_wrappers_are_taken_off_and_reported(
    prefix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "wrapped.safetensors"
    save_file({prefix + name: x.half() for name, x in weights(LATENT).items()}, file)
    words = ("import", file, "objective=ddpm", "--step", 1, "--store", tmp_path / "store")
    status, out, _ = run_verb(capsys, *words)
    named = out.partition("taken off the names: ")[2].partition("\n")[0]
    assert status == 0 and named.replace(", ", "") == prefix
    assert "float16 stored as float32" in out


class Payload:
    """What runs code where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return pathlib.Path.touch, (self.path,)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flipped(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[data.index(weights(LATENT)["pos_embed"].numpy().tobytes()) + 1000] ^= 1
    path.write_bytes(bytes(data))


def changed(**tensors: Tensor | None) -> Any:
    def change(path: Path) -> None:
        found = weights(LATENT) | {name.replace("__", "."): x for name, x in tensors.items()}
        torch.save({name: x for name, x in found.items() if x is not None}, path)

    return change


def other_names(*names: str) -> Any:
    return lambda path: torch.save(dict.fromkeys(names, torch.zeros(2)), path)


BAD = {
    "nothing there": (Path.unlink, "there is nothing at"),
    "half a file": (cut, "no whole file of torch.save"),
    "a flipped bit": (flipped, "has another CRC-32"),
    "no checkpoint": (lambda path: path.write_text("hello"), "no whole file of torch.save"),
    "a list": (lambda path: torch.save([1], path), "holds a list"),
    "another class": (
        lambda path: torch.save({"ema": {}, "x": Payload(path.with_name("ran"))}, path),
        "beside tensors and an argparse.Namespace",
    ),
    "no tensors": (
        lambda path: torch.save({"blocks": "x"}, path),
        "blocks are no dense tensors of real numbers",
    ),
    "not finite": (changed(pos_embed=torch.full((1, 16, 32), torch.nan)), "not finite"),
    "another size": (
        changed(x_embedder__proj__weight=torch.zeros(40, 4, 8, 8)),
        "x_embedder.proj.weight is 32×4×8×8, not 40×4×8×8",
    ),
    "blocks missing": (
        changed(blocks__1__attn__qkv__bias=None),
        "the nearest is model=mini-DiT-S/8 data=imagenet256 conditioning=adaLN-Zero objective=ddpm,"
        " where blocks.1.attn.qkv.bias is absent here",
    ),
    "no names of ours": (other_names("foo.bar"), "are of no family known here; the nearest is"),
    "nearly U-ViT": (
        other_names("middle_block.attn.qkv.weight", "decoder_pred.weights"),
        "the nearest is U-ViT, which has mid_block.attn.qkv.weight",
    ),
}


@pytest.mark.parametrize("fault", BAD)
def test_a_file_that_is_no_checkpoint_of_ours_is_one_line_and_nothing_is_written(
    fault: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil, text = BAD[fault]
    file = released(LATENT, tmp_path / "x.pt")
    spoil(file)
    words = ("import", file, "objective=ddpm", "--step", 1, "--store", tmp_path / "store")
    assert text in refused(capsys, *words)
    assert tree(tmp_path) <= {"x.pt"}, "neither a store nor what a pickle would run"


def test_half_a_file_of_safetensors_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "x.safetensors"
    save_file(weights(LATENT), file)
    cut(file)
    words = ("import", file, "objective=ddpm", "--step", 1, "--store", tmp_path / "store")
    assert "is damaged" in refused(capsys, *words) and tree(tmp_path) == {"x.safetensors"}


LDM, INDEX = "model.diffusion_model.out.weight", "sideblocks.0.attn.relative_position_index"


def test_a_family_without_a_network_here_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "x.pt"
    torch.save({LDM: torch.zeros(2)}, file)
    words = ("import", file, "objective=ddpm", "--step", 1, "--store", tmp_path / "store")
    assert "has the names of LDM, as no network here" in refused(capsys, *words)


def test_an_index_of_positions_is_dropped_where_it_says_what_we_compute() -> None:
    from harness.base.errors import UserError
    from harness.exchange.formats import distances, without_indices

    index = distances(3)
    assert index[0, 8] == 0 and index[8, 0] == 24 and (index.diagonal() == 12).all()
    assert without_indices("x", {INDEX: index}, 2) == ({}, [])
    with pytest.raises(UserError, match="not that of a window of 3 × 3"):
        without_indices("x", {INDEX: index.T}, 2)


@pytest.mark.parametrize("row", FORMATS, ids=lambda row: row.name)
def test_every_format_is_recognised_by_its_marks_alone(
    row: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from harness.exchange.formats import recognised

    assert recognised("x", [f"a.{mark}b" for mark in row.marks]) == (row, "a.")
    assert recognised("x", row.marks) == (row, "")


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        (["modle=x"], "modle is no field of a run: did you mean 'model'?"),
        (["seed=x"], "seed=x: must be int"),
        (["objective=ddmp"], "did you mean 'ddpm'?"),
        (["model=DiT-S/2"], "the nearest is model=DiT-S/2"),
        ([], "does not say how long it was trained: add --step N"),
        (["--step", "0"], "--step 0 must be from 1 to"),
    ],
)
def test_words_that_do_not_fit_are_refused(
    words: list[str], fault: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = released(LATENT, tmp_path / "x.pt")
    given = [*words, "objective=ddpm"] if "objective=ddmp" not in words else words
    step = ["--step", "1"] if any("=" in word for word in words) else []
    line = refused(capsys, "import", file, *given, *step, "--store", tmp_path / "store")
    assert fault in line and tree(tmp_path) == {"x.pt"}


def test_an_imported_run_is_not_trained_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store, sweep = tmp_path / "store", written(tiny_sweep(steps=(10, 20)), tmp_path)
    file = released(tiny_run(), tmp_path / "0000010.pt")
    run_verb(capsys, "import", file, *WORDS, "--store", store)
    before = tree(store)
    fault = refused(capsys, "run", sweep, "--store", store)
    assert (
        "was imported at step 10 without the optimizer's state" in fault and tree(store) == before
    )
    _, out, err = run_verb(capsys, "plan", sweep, "--store", store)
    assert "so what it lacks at 20 cannot be trained" in out + err
    assert "no checkpoint at 20; imported at 10 alone" in out


def test_a_run_trained_here_takes_no_import(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = Store(tmp_path / "store")
    train_all(tiny_sweep(steps=(2,), protocols=()), store)
    before = tree(store.root)
    file = released(tiny_run(), tmp_path / "0000010.pt")
    fault = refused(capsys, "import", file, *WORDS, "--store", store.root)
    assert f"{tiny_run().id} was trained in {store.root} (steps 2)" in fault
    assert tree(store.root) == before


def test_the_same_file_twice_is_one_import_and_another_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = tmp_path / "store"
    first, other = (released(LATENT, tmp_path / f"{seed}.x.pt", seed) for seed in (0, 1))
    words = ("objective=ddpm", "--step", 5, "--store", store)
    assert [run_verb(capsys, "import", first, *words)[0] for _ in range(2)] == [0, 0]
    before = {path: path.read_bytes() for path in store.rglob("*") if path.is_file()}
    assert "holds other weights" in refused(capsys, "import", other, *words)
    assert before == {path: path.read_bytes() for path in store.rglob("*") if path.is_file()}


def test_import_json_keeps_source_digest_and_what_was_corrected(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import hashlib

    store, file = Store(tmp_path / "store"), released(LATENT, tmp_path / "0000005.pt")
    run_verb(capsys, "import", file, "objective=flow", "--store", store.root)
    note = json.loads(store.imported(Run(model=LATENT.model, objective="flow"), 5).read_text())
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    assert note["sha256"] == {file.name: digest} and note["source"] == str(file)
    assert note["corrected"] and "seed=0" in note["assumed"] and note["commit"]


@pytest.fixture
def own_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A file of rows that is forgotten after the test, as by a new process."""
    before = {field: dict(table) for field, table in own_rows.TABLES.items()}
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    yield ROOT / "tests" / "own_network.py"
    own_rows.restore(before)
    own_rows.LOADED.clear()
    counts.counts.cache_clear()


def test_a_network_of_ones_own_comes_in_and_goes_out_by_its_own_names(
    own_network: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own_rows.use_rows(own_network)
    run, file = Run(model="ConvNet-S", data="digits"), tmp_path / "x.pt"
    wanted = weights(run)
    torch.save(wanted, file)
    rows = ("--rows", own_network, "--store", tmp_path / "store")
    words = (file, "objective=ddpm", "model=ConvNet-S", "data=digits", "--step", 3)
    status, out, _ = run_verb(capsys, "import", *words, *rows)
    assert status == 0 and "names of the model" in out
    to = ("--to", "safetensors", "--out", tmp_path / "y.safetensors")
    status, _, err = run_verb(capsys, "export", run.id, *to, *rows)
    assert status == 0, err
    back = load_tensors(tmp_path / "y.safetensors")
    assert back.keys() == wanted.keys() and all(x.equal(wanted[name]) for name, x in back.items())


def test_two_parts_of_a_checkpoint_that_differ_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, whole = tmp_path / "0000003.pt", weights(LATENT)
    part = {name: x for name, x in whole.items() if "blocks.1" not in name}
    torch.save({"ema": whole, "model": part}, file)
    words = ("import", file, "objective=ddpm", "--store", tmp_path / "store")
    assert "'model' is another network than 'ema'" in refused(capsys, *words)
    torch.save({"ema": whole, "model": whole, "steps": 5}, file)
    assert "--step 3 was given" in refused(capsys, *words, "--step", 3)
    assert tree(tmp_path) == {"0000003.pt"}


@pytest.mark.parametrize("header", ["no json", "[]", '{"modle": "x"}', '{"model": 3}'])
def test_a_header_that_names_no_run_is_refused(
    header: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "x.safetensors"
    save_file(weights(LATENT), file, {"run": header, "step": "3"})
    fault = refused(capsys, "import", file, "--store", tmp_path / "store")
    assert "names no run" in fault or "is unknown" in fault or "must be str" in fault
    assert tree(tmp_path) == {"x.safetensors"}
