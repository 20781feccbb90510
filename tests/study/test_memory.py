"""The memory estimate against what a step really keeps, and the refusal of what does not fit."""

from __future__ import annotations

import itertools
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from helpers import cluster_file, refused, run_verb, tiny_run, tiny_sweep, written
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from harness.base.distributed import Rank
from harness.bench.workloads import autoencoder
from harness.data import DATASETS
from harness.extractors import EXTRACTORS
from harness.models import CONDITIONINGS, layers
from harness.objectives import ddpm as diffusion
from harness.objectives.betas import linear_schedule
from harness.objectives.guidance import guided
from harness.scoring.sample import sample
from harness.spec import Protocol, Run, Sweep
from harness.study import memory
from harness.study.cluster import Cluster
from harness.study.compute import network, parameters
from harness.training.step import microbatches, new_state, stepper

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def fused_attention(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a GPU: in bf16 a CPU multiplies step by step, and keeps what lies between."""
    monkeypatch.setattr(layers, "attend", F.scaled_dot_product_attention)


def batch(run: Run, low: int, high: int) -> tuple[Tensor, ...]:
    data, n = DATASETS[run.data], high - low
    x = torch.zeros(n, data.channels, data.size, data.size)
    return x, torch.ones(n, dtype=torch.long), torch.zeros(n, dtype=torch.long), x.clone()


def saved(run: Run, images: int) -> int:
    """Bytes that autograd keeps of a forward pass, the weights themselves left out."""
    net = network(run)
    kept = {p.untyped_storage().data_ptr(): p.untyped_storage() for p in net.parameters()}
    weights = set(kept)

    def keep(x: Tensor) -> Tensor:
        kept[x.untyped_storage().data_ptr()] = x.untyped_storage()
        return x

    autocast = torch.autocast("cpu", torch.bfloat16, enabled=run.precision == "bf16")
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x), autocast:
        losses = diffusion.losses(net, linear_schedule().table(CPU), *batch(run, 0, images))
    assert len(losses) == 2
    return sum(storage.nbytes() for key, storage in kept.items() if key not in weights)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize(
    ("model", "conditioning", "images"),
    [
        *(("DiT-S/8", c, 4) for c in CONDITIONINGS),
        ("DiT-S/4", "adaLN-Zero", 2),
        ("DiT-S/2", "in-context", 1),
        ("DiT-B/8", "cross-attention", 2),
    ],
)
def test_activations_are_what_autograd_saves(
    model: str, conditioning: str, images: int, precision: str
) -> None:
    run = Run(model=model, conditioning=conditioning, precision=precision)
    copies = 2 * parameters(run) if precision == "bf16" else 0
    assert memory.activations(run, images) + copies == pytest.approx(saved(run, images), rel=0.05)


class Peak(TorchDispatchMode):
    """The most bytes that were alive at once, of all that came to be meanwhile."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.alive: dict[int, int] = {}
        self.most = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        before = {
            x.untyped_storage()._cdata for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)
        }
        out = func(*args, **(kwargs or {}))
        for storage in (x.untyped_storage() for x in tree_leaves(out) if isinstance(x, Tensor)):
            if storage._cdata not in before | self.alive.keys():
                self.alive[storage._cdata] = storage.nbytes()
                weakref.finalize(storage, self.alive.pop, storage._cdata, None)
        self.most = max(self.most, sum(self.alive.values()))
        return out


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("size", [16, 32])
def test_the_peak_of_a_whole_step_is_the_estimate(size: int, precision: str) -> None:
    """Weights, EMA and moments are there before; of several parts, gradients meet activations."""
    run, cluster = (
        Run(model="DiT-S/8", batch_size=size, precision=precision),
        Cluster(microbatch=16),
    )
    learner, here = new_state(run, CPU), Rank(0, 1, CPU)
    optimise = stepper(run, learner, cluster, here)
    drawn = (batch(run, *cut) for cut in itertools.cycle(microbatches(run, cluster, here)))
    optimise(1, drawn)  # the moments come with the first step
    with Peak() as peak:
        optimise(1, drawn)
    before = 4 * 4 * parameters(run)
    assert before + peak.most == pytest.approx(memory.training(run, cluster), rel=0.03)


@pytest.mark.parametrize("model", ["DiT-S/4", "DiT-S/8"])
@pytest.mark.parametrize("guidance", [1.0, 1.5])
def test_the_peak_of_sampling_is_the_estimate(model: str, guidance: float) -> None:
    run = Run(model=model)
    net = network(run).eval()
    protocol = Protocol(name="p", guidance=guidance, decoder="identity")
    denoiser = guided(net, guidance, 3, 1000)
    x, t, y, _ = batch(run, 0, 16)
    with torch.inference_mode(), Peak() as peak:
        denoiser(x, t, y)
    estimate = memory.forwards(run, protocol, Cluster(sampling_batch=16))
    assert 4 * parameters(run) + peak.most == pytest.approx(estimate, rel=0.05)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_peak_of_the_whole_sampler_is_the_estimate(precision: str) -> None:
    """Noise and the guided batch are in it, and in bf16 the weights that autocast has rounded."""
    run, protocol = (
        Run(model="DiT-S/8"),
        Protocol(name="p", guidance=1.5, precision=precision, sampling_steps=2),
    )
    net = network(run).eval()
    with Peak() as peak:
        sample(net, run, protocol, 0, 64, CPU)
    estimate = memory.forwards(run, protocol, Cluster(sampling_batch=64))
    assert 4 * parameters(run) + peak.most == pytest.approx(estimate, rel=0.1)


def test_an_evaluation_takes_what_its_widest_part_takes() -> None:
    """Of a small network that is the extractor, on all images of a batch, or the decoder."""
    run, few, many = Run(model="DiT-S/8"), Cluster(sampling_batch=16), Cluster(sampling_batch=256)
    plain: dict[str, Any] = {"name": "p", "images": 1000}
    latent, pixels = Protocol(**plain), Protocol(**plain, decoder="identity")
    clip = Protocol(**plain, features="clip-vitl14-336")
    assert memory.sampling(run, latent, few) - memory.sampling(run, pixels, few) > 3e9
    for protocol in (latent, clip):
        row = EXTRACTORS[protocol.features]
        more = memory.sampling(run, protocol, many) - memory.sampling(run, protocol, few)
        assert more == pytest.approx(256 * row.live - max(16 * row.live, 3.2e9), rel=0.05)
    big, guided = Run(model="DiT-XL/2"), Protocol(**plain, guidance=1.5)
    beside = memory.DECODER_BYTES + EXTRACTORS["inception"].held
    assert memory.sampling(big, guided, many) == memory.forwards(big, guided, many) + beside


def test_the_peak_of_decoding_is_the_constant() -> None:
    vae = autoencoder().eval()
    with torch.inference_mode(), Peak() as peak:
        vae.decode(torch.zeros(2, 4, 4, 4))
    assert peak.most == pytest.approx(memory.DECODED_VALUES * 4 * 2 * 32**2, rel=0.01)


def test_why_there_is_gradient_accumulation_and_neither_recomputation_nor_sharding() -> None:
    """XL/2: its state fits any GPU, 256 of its images do not fit 80 GB, and 64 do."""
    run = Run(model="DiT-XL/2", precision="fp32")
    peaks = {n: memory.training(run, Cluster(microbatch=n)) / 1e9 for n in (1, 64, 256)}
    assert peaks[1] < 16 and peaks[64] < 75 and peaks[256] > 160


def test_what_does_not_fit_is_refused_with_what_does(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = (Run(model="DiT-XL/2"), Run(model="DiT-L/2", precision="bf16"), Run(model="DiT-S/8"))
    sweep = written(Sweep(name="big", runs=runs, steps=(10,), protocols=()), tmp_path)
    given: dict[str, object] = {"executor": "slurm", "gpus_per_node": 1, "gpu_memory_gb": 80}
    words = (sweep, "--cluster", cluster_file(tmp_path, **given), "--store", tmp_path / "none")
    line, (status, plan, _) = refused(capsys, "launch", *words), run_verb(capsys, "plan", *words)
    for text in (line, plan.split("Before it can run: ", 1)[1]):
        assert (
            f"{runs[0].id} takes about 192 GB at microbatch = 256, a GPU has 80 GB:"
            " set microbatch = 64" in text
        )
        assert f"{runs[1].id} takes about " in text and runs[2].id not in text
    fitting = cluster_file(tmp_path, **given, microbatch=64)
    plan = run_verb(capsys, "plan", sweep, "--cluster", fitting, "--store", tmp_path / "none")[1]
    assert status == 0 and "takes about" not in plan


def test_what_no_microbatch_mends_asks_for_another_gpu() -> None:
    sweep = tiny_sweep(runs=(Run(model="DiT-XL/2"), tiny_run()), protocols=())
    (fault,) = memory.problems(sweep, Cluster(gpu_memory_gb=12))
    assert fault.startswith("training of DiT-XL-2_") and fault.endswith(
        "it needs a GPU with more memory"
    )
    assert not memory.problems(
        sweep, Cluster(gpu_memory_gb=12, models={"DiT-XL/2": {"gpu_memory_gb": 400}})
    )


def test_several_ranks_share_the_batch_and_keep_buckets() -> None:
    run = Run(model="DiT-S/8")
    alone, four = (memory.training(run, Cluster(gpus_per_node=n)) for n in (1, 4))
    assert alone - four == memory.activations(run, 256) - memory.activations(
        run, 64
    ) - 4 * parameters(run)
