"""Counts of a model: closed form, fvcore and the published columns against each other."""

from __future__ import annotations

import csv
import functools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from fvcore.nn import FlopCountAnalysis
from helpers import PATCHES, ROOT, SIZES, tiny_run, tiny_sweep
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from harness.bench.workloads import autoencoder
from harness.data import DATASETS
from harness.extractors import EXTRACTORS
from harness.models import CONDITIONINGS, flops
from harness.models.dit import DiT
from harness.models.dit_rows import DITS
from harness.scoring import features
from harness.spec import Protocol, Run
from harness.study import compute, cost
from harness.study.compute import network
from harness.study.plan import untouched
from harness.study.speed import Speed

DATA = {"": "imagenet256", "mini-": "digits", "digit-": "digits8"}  # of each family
PAPER = [f"DiT-{size}/{patch}" for size in SIZES for patch in PATCHES]
# paper.md: the released models' own counts, fixed positions included
PARAMETERS = dict(
    zip(
        PAPER,
        (
            33_148_160,
            32_945_024,
            32_963_360,
            130_881_536,
            130_475_648,
            130_512_416,
            458_594_816,
            458_053_760,
            458_102_816,
            675_683_072,
            675_074_432,
            675_129_632,
        ),
        strict=True,
    )
)
COUNTED = dict(
    zip(
        PAPER,
        (
            0.359,
            1.415,
            6.066,
            1.419,
            5.570,
            23.025,
            5.015,
            19.709,
            80.749,
            7.397,
            29.060,
            118.689,
        ),
        strict=True,
    )
)


@functools.cache
def published(
    model: str, conditioning: str = "adaLN-Zero", data: str = "imagenet256"
) -> tuple[float, float]:
    """Gflops and parameters in the paper's table."""
    with (ROOT / "results/published/peebles2023.csv").open(newline="") as file:
        wanted = {
            "model": model,
            "conditioning": conditioning,
            "data": data,
            "metric": "fid",
            "guidance": "1.0",
        }
        row = next(
            row for row in csv.DictReader(file) if row["params"] and wanted.items() <= row.items()
        )
    return float(row["gflops"]), float(row["params"])


def empty(run: Run) -> nn.Module:
    """The network without the time its initialisation takes: counts do not read the weights."""
    with torch.device("meta"):
        return network(run)


@functools.cache
def fvcore(run: Run) -> float:
    return flops.macs(empty(run), run.data_row.shape)["total"] / 1e9


def by_depth(run: Run) -> float:
    """fvcore's count of a deep network from those of 1 and 2 blocks, which count alike."""
    row = DITS[run.model]

    def counted(depth: int) -> float:
        with torch.device("meta"):
            net = DiT(replace(row, depth=depth), run.setting)
        return flops.macs(net, run.data_row.shape)["total"] / 1e9

    one, two = counted(1), counted(2)
    return one + (row.depth - 1) * (two - one)


@pytest.mark.parametrize("model", PAPER)
def test_the_paper_rows_have_the_published_gflops_and_parameters(model: str) -> None:
    run = Run(model=model)
    count = fvcore(run) if DITS[model].width < 1024 or DITS[model].patch == 8 else by_depth(run)
    assert count == pytest.approx(compute.gflops(run), rel=1e-9)
    assert count == pytest.approx(COUNTED[model], abs=6e-4)
    assert count == pytest.approx(published(model)[0], rel=0.005)
    assert (
        sum(p.numel() for p in empty(run).parameters())
        == compute.parameters(run)
        == PARAMETERS[model]
    )


@pytest.mark.parametrize("conditioning", CONDITIONINGS[:4])
def test_the_four_conditionings_have_the_published_gflops_and_parameters(conditioning: str) -> None:
    run = Run(model="DiT-XL/2", conditioning=conditioning)
    gflops, parameters = published("DiT-XL/2", conditioning)
    assert (
        by_depth(run)
        == pytest.approx(gflops, rel=0.005)
        == pytest.approx(compute.gflops(run), rel=0.005)
    )
    assert by_depth(run) == pytest.approx(compute.gflops(run), rel=1e-9)
    assert sum(p.numel() for p in empty(run).parameters()) == compute.parameters(run)
    assert abs(compute.parameters(run) - parameters) < 1e6


def test_xl_2_at_512_pixels_has_the_published_gflops() -> None:
    run = Run(model="DiT-XL/2", data="imagenet512")
    assert by_depth(run) == pytest.approx(published("DiT-XL/2", data="imagenet512")[0], rel=0.005)
    assert by_depth(run) == pytest.approx(compute.gflops(run), rel=1e-9)


@pytest.mark.parametrize("conditioning", CONDITIONINGS)
@pytest.mark.parametrize(
    "model",
    [
        "mini-DiT-S/4",
        "mini-DiT-XL/2",
        "digit-DiT-S/8",
        "digit-DiT-XL/2",
        "DiT-S/8",
        "DiT-S/4",
    ],
)
def test_the_closed_form_is_fvcores_count(model: str, conditioning: str) -> None:
    run = Run(model=model, conditioning=conditioning, data=DATA[model.partition("DiT")[0]])
    assert (
        compute.gflops(run)
        == pytest.approx(fvcore(run), rel=1e-9)
        == pytest.approx(by_depth(run), rel=1e-9)
    )
    assert compute.parameters(run) == sum(p.numel() for p in empty(run).parameters())


def test_attention_is_counted() -> None:
    """Two products of T × T × width in every block: what fvcore alone leaves out."""
    row, tokens = DITS["DiT-S/4"], 64
    net = empty(Run(model="DiT-S/4")).to_empty(device="cpu")
    counts = FlopCountAnalysis(
        net, (torch.zeros(1, 4, 32, 32), *2 * [torch.zeros(1, dtype=torch.long)])
    )
    counts.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    without = counts.total()
    assert flops.macs(net, (4, 32, 32))["total"] - without == row.depth * 2 * tokens**2 * row.width


class Cumulative(nn.Module):
    def forward(self, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        return x.cumsum(0)


def test_an_uncounted_operator_is_an_error() -> None:
    with pytest.raises(ValueError, match="aten::cumsum: give them a handler"):
        flops.macs(Cumulative(), (1, 4, 4))


def test_macs_by_part_add_up() -> None:
    run = tiny_run()
    macs = flops.macs(network(run), (1, 16, 16))
    parts = sum(count for name, count in macs.items() if name not in ("total", "blocks"))
    assert macs["total"] == parts + macs["blocks"]


def test_training_costs_three_forwards_of_two_operations_and_guidance_two_networks() -> None:
    run = Run(model="DiT-XL/2")
    assert compute.training_flop(run, 400_000) == pytest.approx(
        2 * 3 * compute.gflops(run) * 1e9 * 256 * 400_000
    )
    plain, led = (
        compute.sampling_flop(run, Protocol(name="p", guidance=scale)) for scale in (1.0, 1.5)
    )
    assert led == 2 * plain == pytest.approx(4e9 * compute.gflops(run) * 50_000 * 250)


def macs(work: Callable[[], object]) -> float:
    """Multiply-adds / 1e9 by torch's own counter; on the meta device nothing is computed."""
    with FlopCounterMode(display=False) as counter:
        work()
    return float(counter.get_total_flops()) / 2e9


@pytest.mark.parametrize("data", ["imagenet256", "imagenet512"])
def test_the_autoencoder_costs_what_it_does(data: str) -> None:
    with torch.device("meta"):
        vae, shape = autoencoder().eval(), DATASETS[data]
        pixels, latents = (
            torch.zeros(1, 3, *2 * [shape.pixels]),
            torch.zeros(1, 4, *2 * [shape.size]),
        )
    counted = {
        "encoding": macs(lambda: vae.encode(pixels)),
        "decoding": macs(lambda: vae.decode(latents)),
    }
    assert {what: cost.autoencoder(what, data).gmacs for what in counted} == pytest.approx(
        counted, rel=1e-5
    )


@pytest.mark.parametrize(
    "name", ["inception", "digits-cnn-1", "moving-digits-1"]
)  # others: test_vision.py
def test_the_extractors_cost_what_they_do(name: str) -> None:
    extractor, row = features.unweighted(name, "cpu"), EXTRACTORS[name]
    side, frames = max(row.sides, default=256), [row.frames] if row.frames else []
    images = torch.zeros(1, row.channels, *frames, side, side, dtype=torch.uint8)
    work = cost.features(Protocol(name="p", features=name))
    assert work.gmacs == pytest.approx(macs(lambda: extractor.network(images)), rel=1e-4)
    layers = extractor(images)
    assert row.bytes == sum(x.element_size() * x.numel() for x in layers.values())


def test_what_is_still_to_be_spent_is_of_the_missing_tasks() -> None:
    sweep = tiny_sweep()
    (run,), (protocol,) = sweep.runs, sweep.sampling
    spent = cost.cost(untouched(run, sweep), sweep, Speed("a device", "a test", tflops=3600e-12))
    assert spent.train_hours == pytest.approx(compute.training_flop(run, 20) / 3600**2)
    assert spent.sample_hours == pytest.approx(2 * compute.sampling_flop(run, protocol) / 3600**2)
    assert (
        spent.feature_hours == pytest.approx(2 * protocol.images * 2 * 512_640 / 3600**2)
        and not spent.decode_hours
    )
    assert spent.kept_bytes == 2 * 64 * 4 * (64 + 256 + 10)
    assert spent.disk_bytes == 4 * compute.parameters(run) * (2 + 4 * 2) + spent.kept_bytes


def test_what_was_used_is_each_attempts_time_on_all_its_ranks() -> None:
    first: list[dict[str, Any]] = [
        {"start": 0, "world": 4},
        {"step": 1, "loss": 1.0, "seconds": 5.0},
        {"step": 2, "loss": 1.0, "seconds": 90.0},
    ]
    attempts: list[list[dict[str, Any]]] = [
        first,
        [{"start": 2, "world": 2}, {"step": 3, "loss": 1.0, "seconds": 45.0}],
        [{"start": 3, "world": 8}],
        [],
    ]
    records = [{"seconds": 100.0, "world": 3}, {"seconds": 60.0}, {}]
    assert cost.used_hours(attempts, records) == pytest.approx((4 * 90 + 2 * 45 + 300 + 60) / 3600)
    assert cost.used_hours([first[1:]], []) == pytest.approx(90 / 3600), "a torn first line"
