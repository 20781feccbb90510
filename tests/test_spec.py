"""Identity: what an id depends on and what it does not, and every mistake refused in one message."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

import pytest
from helpers import PATCHES, SIZES, tiny_protocol, tiny_run, tiny_sweep

from harness.spec import Protocol, Run, Sweep, grid
from harness.study.cluster import Cluster

# Pinned: a line that changes here gives every result of that run in every store a new address.
PAPER_GRID = [
    "DiT-S-8_5f41a31b",
    "DiT-S-4_ddfa4d57",
    "DiT-S-2_cc81a687",
    "DiT-B-8_5b9f9fc4",
    "DiT-B-4_b963e547",
    "DiT-B-2_b44acdac",
    "DiT-L-8_77b8354d",
    "DiT-L-4_355c2866",
    "DiT-L-2_56dce1bb",
    "DiT-XL-8_3c373015",
    "DiT-XL-4_d13cc6d2",
    "DiT-XL-2_9fa47ec3",
]
OTHER: dict[str, Any] = {
    "model": "DiT-B/4",
    "data": "imagenet512",
    "conditioning": "adaLN",
    "batch_size": 128,
    "lr": 2e-4,
    "weight_decay": 0.1,
    "ema_decay": 0.999,
    "label_dropout": 0.2,
    "precision": "bf16",
    "seed": 1,
    "name": "other",
    "images": 10_000,
    "sampler": "ddim",
    "sampling_steps": 50,
    "guidance": 1.5,
    "guidance_channels": 4,
    "decoder": "ft-ema",
    "features": "digits-cnn-1",
    "reference": "other",
    "weights": "raw",
    "labels": "balanced",
    "reference_digest": "ab12",
}
FIELDS = [(cls, field.name) for cls in (Run, Protocol) for field in dataclasses.fields(cls)]


def base(cls: type[Any], **fields: Any) -> Any:
    return cls(**({"model": "DiT-S/2"} if cls is Run else {"name": "fid50k"}) | fields)


def test_the_ids_of_the_paper_grid_stand() -> None:
    runs = grid(Run, model=[f"DiT-{size}/{patch}" for size in SIZES for patch in PATCHES])
    assert [run.id for run in runs] == PAPER_GRID
    assert Protocol(name="fid50k").id == "fid50k_23abe43f"


@pytest.mark.parametrize(("cls", "field"), FIELDS, ids=lambda x: getattr(x, "__name__", x))
def test_every_field_changes_the_id(cls: type[Any], field: str) -> None:
    changed = OTHER["precision"] if field == "precision" else OTHER[field]
    assert base(cls, **{field: changed}).id != base(cls).id


def test_the_order_of_fields_does_not_change_the_id() -> None:
    fields = {"model": "DiT-B/4", "seed": 3, "lr": 3e-4}
    assert Run(**fields).id == Run(**dict(reversed(fields.items()))).id  # type: ignore[arg-type]


def test_resources_are_no_part_of_identity() -> None:
    identity = {field.name for cls in (Run, Protocol) for field in dataclasses.fields(cls)}
    assert not identity & {field.name for field in dataclasses.fields(Cluster)}


def test_an_optional_field_left_out_leaves_old_ids_alone() -> None:
    fields = Protocol(name="fid50k").canonical()
    assert "reference_digest" not in fields and None not in fields.values()
    assert Protocol(name="fid50k", reference_digest=None).id == Protocol(name="fid50k").id


def test_an_id_is_read_back_from_its_json() -> None:
    for spec in (tiny_run(), tiny_protocol(reference_digest="ab12")):
        assert type(spec)(**json.loads(json.dumps(dataclasses.asdict(spec)))).id == spec.id


@pytest.mark.parametrize(
    ("field", "value", "fault"),
    [
        ("lr", 1, "must be float, not int"),
        ("lr", math.nan, "must be finite"),
        ("lr", math.inf, "must be finite"),
        ("lr", 0.0, "must be above 0 and at most 1"),
        ("batch_size", 0, "must be at least 1"),
        ("batch_size", True, "must be int, not bool"),
        ("batch_size", 256.0, "must be int, not float"),
        ("ema_decay", 1.0, "must be at least 0 and below 1"),
        ("precision", "fp8", "is unknown: did you mean"),
        ("conditioning", "adaLN-zero", "did you mean 'adaLN-Zero'?"),
        ("model", "DiT-XL/3", "did you mean 'DiT-XL/"),
        ("model", None, "must be str, not NoneType"),
        ("seed", -1, "must be at least 0"),
    ],
)
def test_a_value_that_is_not_canonical_or_out_of_range_is_refused(
    field: str, value: object, fault: str
) -> None:
    with pytest.raises(ValueError, match=rf"{field} = .* {fault}"):
        base(Run, **{field: value})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", "a/b"),
        ("images", 1),
        ("sampler", "euler"),
        ("sampling_steps", 1001),
        ("guidance", -0.5),
        ("guidance", 2),
        ("guidance_channels", 0),
        ("decoder", "ft"),
        ("features", "clip"),
        ("reference", "../x"),
        ("weights", "both"),
        ("labels", "sorted"),
        ("reference_digest", 7),
    ],
)
def test_a_protocol_refuses_what_it_does_not_know(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=rf"{field} = "):
        base(Protocol, **{field: value})


def test_every_mistake_is_in_one_message() -> None:
    with pytest.raises(
        ValueError, match=r"lr = -1\.0 .*; weight_decay = 2\.0 .*; precision = 'fp8' "
    ) as error:
        Run(model="DiT-S/2", lr=-1.0, weight_decay=2.0, precision="fp8")
    assert "\n" not in str(error.value)


def test_a_patch_that_does_not_divide_the_image_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from harness import spec
    from harness.models import MODELS, Model

    monkeypatch.setitem(MODELS, "odd/3", Model("odd", 1, 8, 1, patch=3))
    monkeypatch.setitem(spec.RUN_CHECKS, "model", lambda _: None)
    with pytest.raises(ValueError, match="its patch does not divide the 16 of digits"):
        tiny_run(model="odd/3")


@pytest.mark.parametrize(
    ("steps", "fault"),
    [
        ((), "steps is empty"),
        ((20, 10), r"must rise without repeats: \(10, 20\)"),
        ((10, 10), "must rise without repeats"),
        ((-5, 10), "-5 must be at least 1"),
        ((0,), "0 must be at least 1"),
        ((1.0, 2.0), "must be int"),
    ],
)
def test_steps_that_cannot_be_scored_are_refused(steps: tuple[int, ...], fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        tiny_sweep(steps=steps)


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({"name": "a b"}, "becomes a file name"),
        ({"runs": ()}, "runs is empty"),
        ({"runs": (tiny_run(), tiny_run())}, "names mini-DiT-S-8_.* twice"),
        ({"runs": ("DiT-S/2",)}, "runs must be Run, not str"),
        (
            {"protocols": (tiny_protocol(guidance=2.0, guidance_channels=2),)},
            "guidance_channels = 2 of digits's 1",
        ),
        ({"protocols": (tiny_protocol(decoder="ft-mse"),)}, "'ft-mse' does not decode digits"),
        ({"protocols": (tiny_protocol(features="inception"),)}, "'inception' do not see digits"),
    ],
)
def test_a_sweep_whose_parts_do_not_fit_is_refused(fields: dict[str, Any], fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        tiny_sweep(**fields)


def test_a_sweep_tells_all_its_mistakes() -> None:
    with pytest.raises(ValueError, match=r"steps is empty.*runs is empty"):
        tiny_sweep(steps=(), runs=())


def test_a_grid_is_the_product_of_its_axes() -> None:
    runs = grid(Run, model=["DiT-S/2", "DiT-B/2"], seed=(0, 1, 2), lr=1e-4)
    assert [(run.model, run.seed) for run in runs] == [
        (m, s) for m in ("DiT-S/2", "DiT-B/2") for s in range(3)
    ]
    assert {protocol.guidance for protocol in grid(Protocol, name="g", guidance=[1.0, 1.5])} == {
        1.0,
        1.5,
    }


def test_a_grid_tells_the_mistakes_of_all_its_members() -> None:
    with pytest.raises(ValueError, match=r"DiT-Q/2.*DiT-S/3"):
        grid(Run, model=["DiT-Q/2", "DiT-S/2", "DiT-S/3"])


def test_the_cells_of_a_sweep_are_run_by_step_by_protocol() -> None:
    sweep = tiny_sweep(protocols=(tiny_protocol(), tiny_protocol(guidance=2.0)))
    assert len(list(sweep.cells)) == 4 and isinstance(sweep, Sweep)
