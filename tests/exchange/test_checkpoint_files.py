"""Files as the authors' programs write them, by name, prefix and damage; nothing half done."""

from __future__ import annotations

import errno
import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from checkpoints import LATENT, released, weights
from helpers import refused, run_verb, tree
from safetensors.torch import save_file
from torch import Tensor

from harness.base.tensors import load_tensors
from harness.exchange import incoming
from harness.spec import Run
from harness.study.store import Store

WORDS = ("objective=ddpm", "--step", 7)


def same(store: Path, step: int, seed: int = 0, run: Run = LATENT) -> bool:
    back, wanted = load_tensors(Store(store).ema(run, step)), weights(run, seed)
    return back.keys() == wanted.keys() and all(x.equal(wanted[n]) for n, x in back.items())


@pytest.mark.parametrize(
    "name", ["0000400.pt", "ema_0.9999_000400.pt", "model000400.pt", "400.safetensors"]
)
def test_the_step_is_in_the_names_that_training_programs_give(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save = save_file if name.endswith(".safetensors") else torch.save
    save(weights(LATENT), tmp_path / name)
    words = ("import", tmp_path / name, "objective=ddpm", "--store", tmp_path / "store")
    assert run_verb(capsys, *words)[0] == 0 and same(tmp_path / "store", 400)


def test_a_training_folder_of_u_vit_has_both_weights_and_the_step(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Run(model="digit-U-ViT-S/2", data="digits8", objective="ddpm-fixed", batch_size=32)
    folder, store = tmp_path / "500.ckpt", Store(tmp_path / "store")
    folder.mkdir()
    torch.save(weights(run), folder / "nnet_ema.pth")
    torch.save({f"module.{n}": x for n, x in weights(run, 1).items()}, folder / "nnet.pth")
    words = ("objective=ddpm-fixed", "data=digits8", "batch_size=32", "--store", store.root)
    assert run_verb(capsys, "import", folder, *words)[0] == 0 and same(store.root, 500, 0, run)
    assert load_tensors(store.raw(run, 500))["pos_embed"].equal(weights(run, 1)["pos_embed"])


INSIDE = "blocks.0._orig_mod._checkpoint_wrapped_module."


@pytest.mark.parametrize(
    ("prefix", "inside"),
    [("net.", "blocks.0."), ("base_model.model.", "blocks.0."), ("_fsdp_wrapped_module.", INSIDE)],
)
def test_whatever_stands_before_or_inside_the_names_is_taken_off(
    prefix: str, inside: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    named = {prefix + n.replace("blocks.0.", inside): x for n, x in weights(LATENT).items()}
    torch.save(named, tmp_path / "x.pt")
    words = ("import", tmp_path / "x.pt", *WORDS, "--store", tmp_path / "store")
    assert run_verb(capsys, *words)[0] == 0 and same(tmp_path / "store", 7)


@pytest.mark.parametrize(
    "run",
    [Run(model="DiT-w96-d3-h32/8"), Run(model="U-ViT-w96-d2-h32/8", objective="ddpm-fixed")],
    ids=lambda run: run.model,
)
def test_a_size_of_no_table_is_named_and_imported_under_that_name(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, store = released(run, tmp_path / "x.pt"), tmp_path / "store"
    given = (f"objective={run.objective or 'ddpm'}", "--step", 7, "--store", store)
    fault = refused(capsys, "import", file, *given)
    assert f"add model={run.model}, with the width of its heads" in fault and not store.exists()
    words = ("import", file, f"model={run.model}", *given)
    assert run_verb(capsys, *words)[0] == 0 and same(store, 7, 0, run)


def compressed(path: Path) -> None:
    """What torch.save wrote, as an archive that is small and opens wide."""
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in parts.items():
            archive.writestr(name, data)


def without_its_head(path: Path) -> None:
    path.write_bytes(path.read_bytes()[100:])


def changed(change: Callable[[Tensor], Tensor]) -> Callable[[Path], None]:
    return lambda path: torch.save({n: change(x) for n, x in weights(LATENT).items()}, path)


def with_more(**tensors: Tensor) -> Callable[[Path], None]:
    return lambda path: torch.save(weights(LATENT) | tensors, path)


BAD = {
    "compressed": (compressed, "no whole file of torch.save"),
    "its first bytes lost": (without_its_head, "no whole file of torch.save"),
    "integers": (changed(lambda x: x.to(torch.int8)), "is int8, mini-DiT-S/8 has float32"),
    "complex": (changed(lambda x: x + 0j), "no dense tensors of real numbers"),
    "terabytes of one number": (
        changed(lambda x: torch.zeros(1).expand(1 << 20, 1 << 20)),
        "no dense tensors of real numbers",
    ),
    "adapters": (
        with_more(**{"blocks.0.attn.qkv.lora_A.weight": torch.zeros(2)}),
        "lora_A.weight does not belong: save the network's own tensors alone",
    ),
    "the network twice": (
        lambda path: torch.save(
            {f"{p}.{n}": x for p in ("ema", "net") for n, x in weights(LATENT).items()}, path
        ),
        "has DiT's names under ema., net.: save one of these",
    ),
    "nothing": (lambda path: torch.save({"ema": {}}, path), "holds no tensors"),
}


@pytest.mark.parametrize("fault", BAD)
def test_a_file_that_cannot_be_a_network_is_one_line_and_nothing_is_written(
    fault: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil, text = BAD[fault]
    spoil(released(LATENT, tmp_path / "x.pt"))
    words = ("import", tmp_path / "x.pt", *WORDS, "--store", tmp_path / "store")
    assert text in refused(capsys, *words) and tree(tmp_path) == {"x.pt"}


def test_other_outputs_than_the_objectives_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """DiT without learned variance, and with it under an objective that has none."""
    file = released(Run(model=LATENT.model, objective="ddpm-fixed"), tmp_path / "x.pt")
    fault = refused(capsys, "import", file, *WORDS, "--store", tmp_path / "store")
    assert "has the outputs of objective=ddpm-fixed, not of ddpm" in fault


def test_a_full_disk_is_one_line_of_an_export_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full(io.FileIO):
        def write(self, data: object) -> int:
            raise OSError(errno.ENOSPC, "full")

    file, store = released(LATENT, tmp_path / "x.pt"), tmp_path / "store"
    run_verb(capsys, "import", file, *WORDS, "--store", store)
    before = tree(tmp_path)
    monkeypatch.setattr(Path, "open", lambda path, mode="r": Full(path, mode.replace("b", "")))
    words = ("--to", "pt", "--out", tmp_path / "y.pt", "--store", store)
    status, _, line = run_verb(capsys, "export", LATENT.id, *words)
    assert status == 1 and "free some space" in line and line.count("\n") == 1
    assert tree(tmp_path) == before


@pytest.mark.parametrize("trouble", [OSError(errno.ENOSPC, "full"), KeyboardInterrupt()])
def test_an_import_that_is_cut_leaves_no_step(
    trouble: BaseException,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(path: Path, *given: object) -> None:
        raise trouble

    file, store = released(LATENT, tmp_path / "x.pt"), Store(tmp_path / "store")
    words = ("import", file, *WORDS, "--store", store.root)
    with monkeypatch.context() as disk:
        disk.setattr(incoming, "save_tensors", full)
        assert run_verb(capsys, *words)[0] != 0
    assert store.steps(LATENT) == []
    assert run_verb(capsys, *words)[0] == 0 and same(store.root, 7)
