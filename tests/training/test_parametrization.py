"""muP: what each weight of a network begins with and learns by, against the published rules."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from helpers import apart, curve, only_training, ranks, tiny_run, train_all
from torch import nn

from harness.base.distributed import Rank
from harness.base.errors import UserError
from harness.base.tensors import load_tensors
from harness.data import open_dataset
from harness.models import MODELS
from harness.spec import Run
from harness.study.cluster import Cluster
from harness.study.store import Store
from harness.training.loop import make_batch
from harness.training.parametrization import groups, growths, linear_weights
from harness.training.step import new_network, new_state, stepper

ALONE = Rank(0, 1, torch.device("cpu"))
WIDE = "mini-DiT-XL/8"  # 5 heads of 16: 1.25 times as wide as its base
BASE = "mini-DiT-L/8"  # 4 heads of 16
# Families by a row whose width is not the base's.
ROWS = (WIDE, "digit-U-ViT-S/2", "digit-DiffiT-XL/2", "digit-MDTv2-B/2", "digit-MDTv1-B/2")

# arXiv 2505.15270 as in models_mup.py of its code: hidden weights and, here, the output's learn at
# lr / width multiplier; the released output has a forward multiplier in place of that.
DIT = {
    "x_embedder.proj.weight": 1.0,
    "x_embedder.proj.bias": 1.0,
    "t_embedder.mlp.0.weight": 1.0,
    "t_embedder.mlp.2.weight": 1.25,
    "y_embedder.embedding_table.weight": 1.0,
    "blocks.0.attn.qkv.weight": 1.25,
    "blocks.0.attn.qkv.bias": 1.0,
    "blocks.0.attn.proj.weight": 1.25,
    "blocks.0.mlp.fc1.weight": 1.25,
    "blocks.0.mlp.fc2.weight": 1.25,
    "blocks.0.adaLN_modulation.1.weight": 1.25,
    "blocks.0.adaLN_modulation.1.bias": 1.0,
    "final_layer.adaLN_modulation.1.weight": 1.25,
    "final_layer.linear.weight": 1.25,
    "final_layer.linear.bias": 1.0,
}


def mup_run(**fields: object) -> Run:
    return tiny_run(**{"model": WIDE, "parametrization": "mup"} | fields)


def rates(net: nn.Module, run: Run) -> dict[str, float]:
    """The lr of each parameter."""
    lr = {id(p): group["lr"] for group in groups(net, run) for p in group["params"]}
    return {name: lr[id(p)] for name, p in net.named_parameters() if p.requires_grad}


def trained(run: Run, net: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> nn.Module:
    """A network after some steps of one batch."""
    state = new_state(run, ALONE.device)._replace(net=net, optimizer=optimizer)
    step = stepper(run, state, Cluster(device="cpu"), ALONE)
    dataset = open_dataset(run.data, None)
    for number in range(1, steps + 1):
        step(number, iter([make_batch(run, dataset, ALONE.device, number, 0, run.batch_size)]))
    return net


def test_each_weight_of_dit_learns_as_published() -> None:
    run = mup_run(lr=0.01)
    found = rates(new_network(run), run)
    assert {name: 0.01 / found[name] for name in DIT} == pytest.approx(DIT)
    assert {0.01 / rate for rate in found.values()} == {1.0, 1.25}
    plain = tiny_run(model=WIDE, lr=0.01)
    assert set(rates(new_network(plain), plain).values()) == {0.01}


@pytest.mark.parametrize("fields", [{}, {"objective": "flow"}, {"variant": "modern"}])
def test_at_the_base_width_it_is_the_standard_one_to_the_bit(
    fields: dict[str, str], tmp_path: Path
) -> None:
    ends = []
    for parametrization in (None, "mup"):
        store = Store(tmp_path / str(parametrization))
        given = {"model": BASE, "parametrization": parametrization, **fields}
        train_all(only_training((3,), **given), store)
        ends.append([line["loss"] for line in store.read_log(tiny_run(**given))[0]])
    assert ends[0] == ends[1]


def test_at_the_base_width_a_u_vit_is_the_standard_one_but_for_zeros(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(MODELS, "base", MODELS["digit-U-ViT-S/2"].base)
    plain, mup = (
        new_network(tiny_run(model="base", parametrization=p)).state_dict() for p in (None, "mup")
    )
    differ = [name for name, x in plain.items() if not torch.equal(x, mup[name])]
    assert {*differ} == {
        "patch_embed.proj.bias",
        "decoder_pred.weight",
        "final_layer.bias",
    }
    assert not any(mup[name].any() for name in differ)


@pytest.mark.parametrize("model", ROWS)
def test_initial_weights_follow_the_width_from_the_base_on(
    model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At three times the base width: input weights as there, hidden 3^-1/2 of it, output zero.

    Measured: the deviations of weights drawn at both widths, of those with numbers enough.
    """
    row = MODELS[model]
    for name, of_width in (("wide", row.of_heads(12)), ("base", row.base)):
        monkeypatch.setitem(MODELS, name, of_width)
    wide, base = (new_network(mup_run(model=name)) for name in ("wide", "base"))
    grown, at_base = growths(wide, mup_run(model="wide")), linear_weights(base)
    seen = set()
    for name, weight in linear_weights(wide).items():
        fan_in, fan_out = grown[name]
        seen.add((fan_in > 1, fan_out > 1))
        assert bool(at_base[name].any()) == bool(weight.any())
        if fan_in > 1 and fan_out == 1:
            assert not weight.any()
        elif weight.any() and at_base[name].numel() > 1000:
            found = float(weight.detach().std() / at_base[name].detach().std())
            assert found == pytest.approx(fan_in**-0.5, rel=0.1), name
    assert {(True, True), (True, False), (False, True)} <= seen


def test_the_output_at_a_smaller_lr_is_the_published_forward_multiplier() -> None:
    """The readout's 1 / multiplier in the forward pass with lr, against lr / multiplier."""
    run = mup_run(model=WIDE, lr=3e-3)
    plain, published = new_network(run), new_network(run)
    growth = growths(plain, run)["final_layer.linear.weight"].fan_in
    ours, last = (net.get_submodule("final_layer.linear") for net in (plain, published))
    assert isinstance(ours, nn.Linear) and isinstance(last, nn.Linear)
    last.register_forward_pre_hook(lambda module, x: (x[0] / growth,))
    parts = groups(published, run)
    for part in parts:
        part["params"] = [p for p in part["params"] if p is not last.weight]
    parts.append({"params": [last.weight], "growth": 1.0, "lr": run.lr})
    settings = {**run.optimizer_row.settings, "eps": 1e-16}
    trained(run, plain, torch.optim.AdamW(groups(plain, run), **settings), 4)
    trained(run, published, torch.optim.AdamW(parts, **settings), 4)
    apart = last.weight.detach() / growth - ours.weight.detach()
    assert 0 < float(apart.norm()) < 1e-4 * float(ours.weight.detach().norm())


def test_a_step_decays_every_weight_alike() -> None:
    run = mup_run(weight_decay=0.1)
    decays = [group["lr"] * group["weight_decay"] for group in groups(new_network(run), run)]
    assert decays == pytest.approx([run.lr * 0.1] * 2)


@pytest.mark.parametrize("optimizer", ["adamw", "adam"])
def test_a_run_under_mup_goes_on_as_if_it_had_not_stopped(optimizer: str, tmp_path: Path) -> None:
    fields = {"model": WIDE, "parametrization": "mup", "optimizer": optimizer}
    whole, parts = Store(tmp_path / "whole"), Store(tmp_path / "parts")
    for store, ends in ((whole, [(6,)]), (parts, [(2,), (6,)])):
        for steps in ends:
            train_all(only_training(steps, **fields), store, microbatch=4)
    run = tiny_run(**fields)
    assert parts.state(run, 6).read_bytes() == whole.state(run, 6).read_bytes()


RANK = """
import json, sys
sys.path.insert(0, "tests")
from helpers import *
store, fields = Store(Path(sys.argv[1])), json.loads(sys.argv[2])
train_all(only_training((2, 5), **fields), store, microbatch=3)
"""


def test_two_processes_in_microbatches_go_on_as_one_process_would(tmp_path: Path) -> None:
    fields = {"model": WIDE, "parametrization": "mup", "batch_size": 12}
    fields |= {"ema": "power-0.05+power-0.1", "ema_decay": 0.9999}
    alone, two = Store(tmp_path / "alone"), Store(tmp_path / "two")
    train_all(only_training((2, 5), **fields), alone)
    train_all(only_training((2,), **fields), two)
    ranks(2, RANK, two.root, json.dumps(fields))
    run = tiny_run(**fields)
    for mine, its in zip(curve(two, run), curve(alone, run), strict=True):
        assert mine == pytest.approx(its, rel=1e-6)
    for kind in run.averages:
        own, other = (load_tensors(store.weights(run, 5, kind)) for store in (two, alone))
        assert max(apart(own[name], x) for name, x in other.items()) < 1e-6


def test_other_networks_and_optimizers_are_refused_with_the_reason() -> None:
    for fields, reason in (
        ({"model": "digit-U-Net-S"}, r"parametrization = 'mup': .* has no base width"),
        ({"optimizer": "sgd"}, r"its rule is of Adam and AdamW, not of sgd"),
        ({"optimizer": "adam", "weight_decay": 0.1}, r"no weight decay with adam: take adamw"),
        ({"parametrization": "muP"}, r"parametrization = 'muP'"),
    ):
        with pytest.raises(UserError, match=reason):
            mup_run(**fields)


def test_the_standard_parametrization_has_the_id_of_before() -> None:
    assert tiny_run(parametrization="standard").id == tiny_run().id != mup_run(model=BASE).id
    assert tiny_run().id != tiny_run(parametrization="mup").id


def test_the_base_is_four_heads_of_the_rows_own_size() -> None:
    """What "mup" in an id means: another base would be another training."""
    widths = {
        name: row.base.width  # type: ignore[attr-defined]
        for name, row in MODELS.items()
        if row.base is not None and name.endswith("/2") and "DiT" in name
    }
    expected = {"DiT-S/2": 256, "DiT-XL/2": 288, "mini-DiT-S/2": 64, "digit-DiT-XL/2": 64}
    assert {name: widths[name] for name in expected} == expected
    assert MODELS["U-ViT-H/2"].base.width == 288  # type: ignore[union-attr]
