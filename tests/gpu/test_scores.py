"""A score is one number: the device's is the CPU's, whatever the batch, compiled or not."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from helpers import apart, do, tiny_protocol, tiny_run, tiny_sweep, train_all
from place import CPU, DEVICE, GPU, everywhere, state_of

from harness.base.files import read_json
from harness.base.precision import matmul_precision
from harness.bench.workloads import AUTOENCODER, autoencoder
from harness.models.autoencoder import decoder_of
from harness.scoring.sample import sample
from harness.spec import Run
from harness.study.store import Store
from harness.study.tasks import Evaluate

RUN = tiny_run()
PROTOCOL = tiny_protocol(images=256, sampling_steps=5, guidance=1.5)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = Store(tmp_path_factory.mktemp("trained"))
    train_all(tiny_sweep(steps=(20,)), store)
    return store


def values(trained: Store, folder: Path, **cluster: object) -> dict[str, float]:
    store = Store(shutil.copytree(trained.root, folder))
    do(Evaluate(RUN, 20, PROTOCOL, True, "a test"), store, **cluster)
    found: dict[str, float] = read_json(store.record(RUN, 20, PROTOCOL))["values"]
    return found


@everywhere
def test_all_values_of_an_evaluation_are_the_cpus(
    trained: Store, tmp_path: Path, drawn_on_the_cpu: None
) -> None:
    """Sampling, features and metrics; the device works in batches of another size."""
    here = values(trained, tmp_path / "cpu", device="cpu")
    there = values(trained, tmp_path / "device", device=DEVICE.type, sampling_batch=100)
    assert there == pytest.approx(here, rel=1e-4, abs=1e-6) and len(here) > 3


@everywhere
@pytest.mark.parametrize("guidance", [1.0, 1.5])
def test_image_i_depends_on_the_seed_and_i_alone(guidance: float) -> None:
    protocol = tiny_protocol(sampling_steps=10, guidance=guidance)
    net = state_of(RUN).net.eval()
    whole = sample(net, RUN, protocol, 0, 96, DEVICE)
    for low, high in ((0, 7), (60, 70), (90, 96)):
        assert apart(sample(net, RUN, protocol, low, high, DEVICE), whole[low:high]) < 1e-4


@pytest.mark.parametrize("sampler", ["ddpm", "ddim", "dpm-solver++"])
def test_samplers_make_the_cpus_images(sampler: str, drawn_on_the_cpu: None) -> None:
    protocol = tiny_protocol(sampler=sampler, sampling_steps=20, guidance=1.5)
    here, there = (
        sample(state_of(RUN, device).net.eval(), RUN, protocol, 0, 16, device).cpu()
        for device in (CPU, DEVICE)
    )
    assert apart(there, here) < 1e-3 * here.abs().max()


def test_a_compiled_network_samples_the_plain_ones_images() -> None:
    run = Run(model="DiT-S/2", precision="fp32") if GPU else RUN
    protocol = tiny_protocol(sampling_steps=5)
    net = state_of(run).net.eval()
    plain = sample(net, run, protocol, 0, 8, DEVICE)
    net.compile()
    assert apart(sample(net, run, protocol, 0, 8, DEVICE), plain) < 1e-3 * plain.abs().max()


def test_the_decoder_makes_the_cpus_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    """In fp32 to a tenth of a grey level."""
    if not GPU:
        monkeypatch.setitem(AUTOENCODER, "block_out_channels", (32,) * 4)
    torch.manual_seed(0)
    vae, latents = autoencoder(), torch.randn(2, 4, 8, 8)
    with matmul_precision("fp32"):
        here = decoder_of(vae, CPU)(latents)
        there = decoder_of(vae, DEVICE)(latents.to(DEVICE)).cpu()
    assert apart(there, here) < 0.1 / 127.5
