"""Doors out: what diffusers loads computes what we do, and comes back as the same run."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoints import LATENT, awake, of_train_py, released, weights
from drawings import autoencoder
from helpers import ROOT, refused, run_verb, score_all, tiny_run, tiny_sweep, tree
from safetensors.torch import load_file, save_file
from torch import Tensor

from harness.base.files import read_json
from harness.base.tensors import load_tensors
from harness.exchange import pipeline
from harness.exchange.diffusers_names import POSITIONS, diffusers_names, released_names
from harness.exchange.layouts import layout_of
from harness.exchange.measure import forward_difference, frequency_shift
from harness.models.autoencoder import decoder_of, load_vae
from harness.objectives.guidance import guided
from harness.spec import Run
from harness.study.store import Store

CPU = torch.device("cpu")
STEP = 7


def imported(run: Run, store: Path, capsys: pytest.CaptureFixture[str], *words: str) -> Store:
    """A store with a step of the run, its weights moved."""
    file = released(run, store.parent / "file.pt")
    fields = [f"{name}={value}" for name, value in run.canonical().items()]
    objective = [] if run.objective else ["objective=ddpm"]
    given = (*fields, *objective, *words, "--step", STEP, "--store", store)
    assert run_verb(capsys, "import", file, *given)[0] == 0
    return Store(store)


@pytest.fixture
def store(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Store:
    return imported(LATENT, tmp_path / "store", capsys)


@pytest.fixture
def folder(store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """The exported pipeline, with a small VAE."""
    cluster = tmp_path / "cluster.toml"
    cluster.write_text(f"[paths]\nft-mse = {str(autoencoder(tmp_path / 'vae'))!r}\n")
    words = ("--to", "diffusers", "--vae", "ft-mse", "--cluster", cluster, "--store", store.root)
    status, out, _ = run_verb(capsys, "export", LATENT.id, *words, "--out", tmp_path / "out")
    assert status == 0 and "no VAE in it" not in out
    return tmp_path / "out"


def loaded(folder: Path, **more: Any) -> Any:
    import harness.base.torchvision_ops  # noqa: F401, I001
    from diffusers import DiTPipeline, DiffusionPipeline

    kind: Any = DiffusionPipeline if more else DiTPipeline
    pipe = kind.from_pretrained(folder, low_cpu_mem_usage=False, **more)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.mark.parametrize("guidance", [1.0, 1.5])
def test_dit_pipeline_makes_the_images_that_we_make(folder: Path, guidance: float) -> None:
    from diffusers import DPMSolverMultistepScheduler

    y = torch.tensor([3, 998])
    pipe = loaded(folder, custom_pipeline=str(folder), trust_remote_code=True)
    pipe.scheduler = DPMSolverMultistepScheduler.from_config(pipe.scheduler.config)
    theirs = pipe(
        class_labels=y.tolist(),
        guidance_scale=guidance,
        generator=torch.Generator().manual_seed(0),
        num_inference_steps=5,
        output_type="pt",
    ).images
    start = torch.randn(2, 4, 32, 32, generator=torch.Generator().manual_seed(0))
    denoiser = guided(awake(LATENT), guidance, channels=4, null=1000)
    with torch.inference_mode():
        process = LATENT.objective_row.process()
        latents = process.sample("dpm-solver++", denoiser, start, y, 5, lambda k: start)
        ours = decoder_of(load_vae("ft-mse", folder / "vae"), CPU)(latents)
    assert (theirs - (ours / 2 + 0.5).clamp(0, 1)).abs().max() < 1e-5


def test_the_frequencies_are_what_diffusers_alone_has_otherwise(folder: Path) -> None:
    net, pipe = awake(LATENT), loaded(folder)

    def theirs(x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        return pipe.transformer(x, timestep=t, class_labels=y).sample

    apart = forward_difference(net, theirs, LATENT)
    assert apart[0] < 1e-6 and apart[999] > 1e-2
    measured = frequency_shift(LATENT, weights(LATENT))
    assert all(abs(measured[t] - value) < 1e-5 for t, value in apart.items())
    for block in pipe.transformer.transformer_blocks:
        block.norm1.emb.time_proj.downscale_freq_shift = 0
    assert max(forward_difference(net, theirs, LATENT).values()) < 1e-6


def test_the_folder_says_what_save_pretrained_leaves_out(folder: Path) -> None:
    index = json.loads((folder / "model_index.json").read_text())
    config = json.loads((folder / "transformer" / "config.json").read_text())
    scheduler = json.loads((folder / "scheduler" / "scheduler_config.json").read_text())
    assert len(index["id2label"]) == 1000 and index["id2label"]["0"] == "tench"
    assert config["norm_eps"] == 1e-6 and config["num_embeds_ada_norm"] == 1000
    assert "timestep_spacing" not in scheduler
    pipe = loaded(folder)
    assert pipe.scheduler.config.timestep_spacing == "linspace"
    assert pipe.get_label_ids(["tench", "goldfish"]) == [0, 1]


def test_every_format_comes_back_as_the_same_run_bit_for_bit(
    store: Store, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = weights(LATENT)
    for kind in ("diffusers", "safetensors", "pt"):
        out, words = tmp_path / f"again.{kind}", list[str]()
        if kind == "pt":
            words = ["objective=ddpm", "--step", str(STEP)]
        if kind == "diffusers":
            out = folder
        else:
            status, *_ = run_verb(
                capsys, "export", LATENT.id, "--to", kind, "--out", out, "--store", store.root
            )
            assert status == 0
        other = Store(tmp_path / f"store-{kind}")
        status, text, _ = run_verb(capsys, "import", out, *words, "--store", other.root)
        assert status == 0 and ("10,000^(-k/127)" in text) == (kind == "diffusers")
        back = load_tensors(other.ema(LATENT, STEP))
        assert back.keys() == wanted.keys() and all(x.equal(wanted[n]) for n, x in back.items())


def test_the_pt_is_a_flat_state_dict_as_the_released_ones(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.pt"
    run_verb(capsys, "export", LATENT.id, "--to", "pt", "--out", out, "--store", store.root)
    awake(LATENT, seed=1).load_state_dict(torch.load(out, weights_only=True))


def test_xl_has_the_keys_and_shapes_of_diffusers_and_comes_back() -> None:
    from diffusers import DiTTransformer2DModel

    run = Run(model="DiT-XL/2")
    ours = {n: torch.zeros((), dtype=torch.bool).expand(s) for n, s in layout_of(run).items()}
    with torch.device("meta"):
        fields = {k: v for k, v in pipeline.config(run).items() if not k.startswith("_")}
        other: Any = DiTTransformer2DModel(**fields)
    theirs = other.state_dict()
    there = diffusers_names({name: x.to("meta") for name, x in ours.items()})
    assert {n: x.shape for n, x in there.items()} == {n: x.shape for n, x in theirs.items()}
    assert len(there) == 538 and sum(x.numel() for x in there.values()) == 749_826_464
    shapes = {n: torch.zeros((), dtype=torch.bool).expand(x.shape) for n, x in there.items()}
    back, copies = released_names("x", shapes | {POSITIONS: ours["pos_embed"]})
    assert {n: tuple(x.shape) for n, x in back.items()} == layout_of(run) and copies == 28


def code(folder: Path) -> str:
    return re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)[0]


def test_the_lines_of_the_card_sample(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    made: dict[str, Any] = {}
    exec(code(folder).replace("num_inference_steps=25", "num_inference_steps=2"), made)
    assert len(made["images"]) == 2 and type(made["pipe"]).__name__ == "ReleasedDiTPipeline"


def test_the_card_of_pixels_has_counts_scores_and_lines_that_sample(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run, out = tiny_run(), tmp_path / "out"
    store = imported(run, tmp_path / "store", capsys)
    score_all(tiny_sweep(steps=(STEP,)), store)
    status, *_ = run_verb(
        capsys, "export", run.id, "--to", "diffusers", "--out", out, "--store", store.root
    )
    (record,) = (read_json(path) for path in store.records())
    card = (out / "README.md").read_text()
    assert (
        status == 0
        and f"| fid | digits-cnn-1 | {record['values']['fid']:.6g} | 64 | ddpm, 2 steps |" in card
    )
    assert "Imported from file.pt" in card and "The loop above sets that" in card
    assert record["warnings"] and all(line in card for line in record["warnings"])
    monkeypatch.chdir(out)
    made: dict[str, Any] = {}
    exec(code(out).replace("set_timesteps(25)", "set_timesteps(2)"), made)
    assert made["x"].shape == (2, 1, 16, 16) and made["x"].isfinite().all()


def test_what_went_out_and_came_back_has_the_same_scores(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, out = tiny_run(), tmp_path / "out"
    store, other = imported(run, tmp_path / "store", capsys), Store(tmp_path / "other")
    words = ("--to", "diffusers", "--out", out, "--store", store.root)
    assert run_verb(capsys, "export", run.id, *words)[0] == 0
    assert run_verb(capsys, "import", out, "--store", other.root)[0] == 0
    values = []
    for place in (store, other):
        score_all(tiny_sweep(steps=(STEP,)), place)
        values += [read_json(path)["values"] for path in place.records()]
    assert len(values) == 2 and values[0] == values[1]


@pytest.mark.parametrize("path", sorted((ROOT / "harness" / "exchange").glob("*.py")), ids=str)
def test_diffusers_is_imported_where_torchvision_can_be(path: Path) -> None:
    """diffusers' networks import torchvision, which may be built for another torch."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef):
            lines = [ast.unparse(line) for line in node.body]
            here = [i for i, line in enumerate(lines) if line.startswith("from diffusers")]
            before = ["import harness.base.torchvision_ops" in lines[:i] for i in here]
            assert all(before), f"{path.name}: {node.name}"


def edited(folder: Path, **tensors: Tensor) -> None:
    path = folder / "transformer" / "diffusion_pytorch_model.safetensors"
    save_file(load_file(path) | tensors, path)


def configured(folder: Path, **fields: Any) -> None:
    path = folder / "transformer" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


COPY = "transformer_blocks.1.norm1.emb.timestep_embedder.linear_1.bias"
BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "copies that differ": (
        lambda f: edited(f, **{COPY: torch.ones(32)}),
        f"{COPY} differs from {COPY.replace('.1.', '.0.', 1)}",
    ),
    "more tensors": (lambda f: edited(f, other=torch.ones(1)), "which has no other"),
    "other heads": (
        lambda f: configured(f, num_attention_heads=4, attention_head_dim=8),
        "has 4 heads, mini-DiT-S/8 has 2",
    ),
    "another norm": (lambda f: configured(f, norm_type="ada_norm"), "is not that of a DiT"),
    "no config": (lambda f: (f / "transformer" / "config.json").unlink(), "has no config.json"),
    "no weights": (
        lambda f: (f / "transformer" / "diffusion_pytorch_model.safetensors").unlink(),
        "fetch the whole folder",
    ),
}


def test_a_folder_of_diffusers_that_is_no_dit_is_one_line_and_nothing_is_written(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import shutil

    words = ("objective=ddpm", "--step", STEP, "--store", tmp_path / "none")
    for spoil, fault in BAD.values():
        spoilt = tmp_path / "spoilt"
        shutil.copytree(folder, spoilt)
        spoil(spoilt)
        assert fault in refused(capsys, "import", spoilt, *words)
        assert not (tmp_path / "none").exists()
        shutil.rmtree(spoilt)
    file = folder / "transformer" / "diffusion_pytorch_model.safetensors"
    assert "name their folder" in refused(capsys, "import", file, "--store", tmp_path / "none")


def in_parts(folder: Path) -> None:
    """The weights as diffusers writes large ones: an index beside its parts."""
    path = folder / "transformer" / "diffusion_pytorch_model.safetensors"
    tensors, parts = load_file(path), [f"part-{i}.safetensors" for i in range(2)]
    listed = {name: parts[i % 2] for i, name in enumerate(tensors)}
    for part in parts:
        save_file({n: x for n, x in tensors.items() if listed[n] == part}, path.with_name(part))
    path.with_name(f"{path.name}.index.json").write_text(json.dumps({"weight_map": listed}))
    path.unlink()


def pickled(folder: Path) -> None:
    """The weights as older folders on the hub have them."""
    path = folder / "transformer" / "diffusion_pytorch_model.safetensors"
    torch.save(load_file(path), path.with_suffix(".bin"))
    path.unlink()


@pytest.mark.parametrize("way", [in_parts, pickled])
def test_weights_of_diffusers_in_parts_or_pickled_are_read_alike(
    way: Callable[[Path], None],
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    way(folder)
    other = Store(tmp_path / "other")
    status, out, _ = run_verb(capsys, "import", folder, "--step", 9, "--store", other.root)
    back, wanted = load_tensors(other.ema(LATENT, 9)), weights(LATENT)
    assert status == 0 and "2 equal copies" in out
    assert back.keys() == wanted.keys() and all(x.equal(wanted[n]) for n, x in back.items())


def test_raw_weights_go_out_and_come_back_as_what_they_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, store = of_train_py(LATENT, tmp_path / "0000009.pt"), Store(tmp_path / "store")
    run_verb(capsys, "import", file, "objective=ddpm", "--store", store.root)
    out = tmp_path / "raw.safetensors"
    words = ("--to", "safetensors", "--weights", "raw", "--out", out, "--store", store.root)
    assert run_verb(capsys, "export", LATENT.id, *words)[0] == 0
    other = Store(tmp_path / "other")
    _, text, _ = run_verb(capsys, "import", out, "--store", other.root)
    back, wanted = load_tensors(other.ema(LATENT, 9)), weights(LATENT)
    assert "there is no EMA in it" in text and all(x.equal(wanted[n]) for n, x in back.items())


@pytest.mark.parametrize(
    ("run", "fault"),
    [
        (Run(model="mini-DiT-S/8", conditioning="adaLN"), "has adaLN-Zero alone, not adaLN"),
        (Run(model="mini-DiT-S/8", objective="flow"), "no pipeline for objective 'flow'"),
    ],
)
def test_what_diffusers_lacks_is_refused_and_nothing_is_written(
    run: Run, fault: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = imported(run, tmp_path / "store", capsys)
    before = tree(tmp_path)
    words = ("--to", "diffusers", "--out", tmp_path / "out", "--store", store.root)
    assert fault in refused(capsys, "export", run.id, *words) and tree(tmp_path) == before
    status, *_ = run_verb(
        capsys,
        *("export", run.id, "--to", "safetensors", "--out", tmp_path / "a.safetensors"),
        *("--store", store.root),
    )
    assert status == 0


def test_what_cannot_be_exported_is_one_line_and_nothing_is_written(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "there").write_text("")
    before = tree(tmp_path)
    for words, fault in (
        (("--to", "pt", "--out", tmp_path / "there"), "is already there"),
        (("--to", "pt", "--out", tmp_path / "x", "--step", 8), "steps that do: 7"),
        (("--to", "pt", "--out", tmp_path / "x", "--weights", "raw"), "no raw weights"),
        (("--to", "pt", "--out", tmp_path / "x", "--vae", "ft-ema"), "is of --to diffusers"),
    ):
        assert fault in refused(capsys, "export", LATENT.id, *words, "--store", store.root)
        assert tree(tmp_path) == before


def test_a_push_without_a_token_of_ones_own_is_refused_before_anything_is_written(
    store: Store,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    words = ("--to", "pt", "--out", tmp_path / "x.pt", "--push", "me/x", "--store", store.root)
    assert "needs a token of yours" in refused(capsys, "export", LATENT.id, *words)
    assert not (tmp_path / "x.pt").exists()


def test_a_push_uploads_what_was_written_to_a_private_repository(
    store: Store,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sent: dict[str, Any] = {}

    class Hub:  # the network's edge
        def __init__(self, token: str) -> None:
            sent["token"] = token

        def create_repo(self, repo: str, **given: Any) -> str:
            sent.update(given)
            return f"https://huggingface.co/{repo}"

        def upload_file(self, path_or_fileobj: Path, **given: Any) -> None:
            sent.update(given, bytes=path_or_fileobj.read_bytes())

    monkeypatch.setattr("huggingface_hub.get_token", lambda: "mine")
    monkeypatch.setattr("huggingface_hub.HfApi", Hub)
    out = tmp_path / "x.pt"
    words = ("--to", "pt", "--out", out, "--push", "me/x", "--store", store.root)
    status, text, _ = run_verb(capsys, "export", LATENT.id, *words)
    assert status == 0 and text.endswith("pushed to https://huggingface.co/me/x\n")
    assert (sent["token"], sent["private"], sent["repo_id"]) == ("mine", True, "me/x")
    assert sent["bytes"] == out.read_bytes()
