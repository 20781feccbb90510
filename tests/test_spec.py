"""Identity: what an id depends on and what it does not, and all problems in one message."""

from __future__ import annotations

import copy
import dataclasses
import json
import math
import pickle
from typing import Any

import numpy as np
import pytest
from helpers import PATCHES, SIZES, tiny_protocol, tiny_run, tiny_sweep

from harness.base.errors import UserError
from harness.objectives import OBJECTIVES
from harness.spec import Protocol, Run, Sweep, grid

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
    "objective": "flow",
    "optimizer": "adamw-0.9-0.95",
    "schedule": "warmup-500",
    "parametrization": "mup",
    "ema": "power-0.1",
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
ONE_VALUE = ("recipe", "variant")  # there is one recipe, and DiT has no variants
# Of no id (scoring/test_kept.py), and nothing without guidance (objectives/test_guidance.py).
ELSEWHERE = ("metrics", "guidance_schedule")
FIELDS = [
    (cls, field.name)
    for cls in (Run, Protocol)
    for field in dataclasses.fields(cls)
    if field.name not in (*ONE_VALUE, *ELSEWHERE)
]


def base(cls: type[Any], **fields: Any) -> Any:
    return cls(**({"model": "DiT-S/2"} if cls is Run else {"name": "fid50k"}) | fields)


def test_the_ids_of_the_paper_grid_stand() -> None:
    runs = grid(Run, model=[f"DiT-{size}/{patch}" for size in SIZES for patch in PATCHES])
    assert [run.id for run in runs] == PAPER_GRID
    assert Protocol(name="fid50k").id == "fid50k_23abe43f"


@pytest.mark.parametrize(("cls", "field"), FIELDS, ids=lambda x: getattr(x, "__name__", x))
def test_every_field_changes_the_id(cls: type[Any], field: str) -> None:
    changed = base(cls, **{field: OTHER[field]})
    assert getattr(changed, field) != getattr(base(cls), field) and changed.id != base(cls).id


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
        ("lr", "3e-3", "must be float, not str: write 0.003"),
        ("lr", np.float32(1e-4), "must be float, not float32: write 0.0001"),
        ("lr", [1e-4, 1e-3], r"are several values: grid\(Run, lr=...\) makes one of each"),
        ("lr", math.nan, "must be finite"),
        ("lr", math.inf, "must be finite"),
        ("lr", 0.0, "must be above 0 and at most 1"),
        ("batch_size", 0, "must be at least 1"),
        ("batch_size", True, "must be int, not bool"),
        ("batch_size", 256.0, "must be int, not float: write 256"),
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


def test_the_papers_objective_has_one_name_and_changes_no_id() -> None:
    assert Run(model="DiT-S/8", objective="ddpm") == Run(model="DiT-S/8")
    assert Run(model="DiT-S/8", objective="flow").id != Run(model="DiT-S/8").id
    assert Run(model="DiT-S/8").objective_row is OBJECTIVES["ddpm"]


def test_a_sampler_that_does_not_fit_an_objective_is_refused_with_those_that_do() -> None:
    runs = (tiny_run(), tiny_run(objective="flow"))
    with pytest.raises(UserError) as refused:
        tiny_sweep(runs=runs, protocols=(tiny_protocol(sampler="heun"),))
    assert "sampler = 'heun' does not sample objective 'ddpm': take one of ddpm" in str(
        refused.value
    )
    assert tiny_protocol(sampler="heun", guidance=1.5).forwards == 4


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", "a/b"),
        ("images", 3),
        ("sampler", "rk4"),
        ("sampling_steps", 1001),
        ("guidance", -0.5),
        ("guidance", "2"),
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


@pytest.mark.parametrize(
    ("field", "exact", "plainly"),
    [
        ("lr", 1, 1.0),
        ("lr", np.logspace(-4, -2, 3)[1], 1e-3),
        ("batch_size", np.int64(128), 128),
        ("precision", np.str_("bf16"), "bf16"),
    ],
)
def test_what_is_exact_has_the_id_of_the_plain_spelling(
    field: str, exact: object, plainly: object
) -> None:
    run = base(Run, **{field: exact})
    assert run.id == base(Run, **{field: plainly}).id
    assert type(getattr(run, field)) is type(plainly)


def test_an_unknown_field_is_named_with_the_one_that_was_meant() -> None:
    with pytest.raises(
        ValueError, match=r"learning_rate is unknown: did you mean 'lr'.*seeds .* mean 'seed'"
    ):
        Run(model="DiT-S/2", learning_rate=1e-4, seeds=[0])  # type: ignore[call-arg]
    with pytest.raises(ValueError, match=r"Run: 'DiT-S/2' has no name: write Run\(model=\.\.\.\)"):
        Run("DiT-S/2")  # type: ignore[call-arg]
    with pytest.raises(ValueError, match=r"step is unknown: did you mean 'steps'"):
        tiny_sweep(step=10)
    with pytest.raises(ValueError, match="'quux' is unknown: families are DiT, mini-DiT, "):
        base(Run, model="quux")


def test_one_part_is_as_good_as_a_tuple_and_so_is_a_range_or_an_array() -> None:
    sweep = tiny_sweep(runs=tiny_run(), steps=10, protocols=tiny_protocol())
    assert sweep == tiny_sweep(steps=(10,))
    assert tiny_sweep(steps=range(10, 30, 10)) == tiny_sweep(steps=np.array([10, 20]))
    seeds, rates = range(2), np.logspace(-4, -3, 2)
    assert grid(model="DiT-S/2", seed=seeds, lr=rates) == grid(
        model="DiT-S/2", seed=[0, 1], lr=[1e-4, 1e-3]
    )


def test_a_spec_can_be_copied_and_pickled() -> None:
    sweep = tiny_sweep()
    assert pickle.loads(pickle.dumps(sweep)) == copy.deepcopy(sweep) == sweep


def test_every_mistake_is_in_one_message() -> None:
    with pytest.raises(
        ValueError, match=r"lr = -1\.0 .*; weight_decay = 2\.0 .*; precision = 'fp8' "
    ) as error:
        Run(model="DiT-S/2", lr=-1.0, weight_decay=2.0, precision="fp8")
    assert "\n" not in str(error.value)


def test_a_patch_that_does_not_divide_the_image_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from harness.models import MODELS, Model

    monkeypatch.setitem(MODELS, "odd/3", Model("odd", "S", patch=3))
    with pytest.raises(ValueError, match="on digits: its patch of 3 does not divide the side"):
        tiny_run(model="odd/3")


@pytest.mark.parametrize(
    ("steps", "fault"),
    [
        ((), "steps is empty"),
        ((20, 10), r"must rise without repeats: \(10, 20\)"),
        ((10, 10), "must rise without repeats"),
        ((-5, 10), "-5 must be at least 1"),
        ((0,), "0 must be at least 1"),
        ((1.0, 2.0), "1.0 must be int: write 1; steps: 2.0 must be int: write 2"),
    ],
)
def test_steps_that_cannot_be_scored_are_refused(steps: tuple[int, ...], fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        tiny_sweep(steps=steps)


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({"name": "a b"}, "becomes a file name"),
        ({"name": "a" * 101}, "at most 100 letters"),
        ({"name": "a_log"}, "'a_log' ends in _log, as a file of the sweep 'a' does"),
        ({"name": "a_samples"}, "ends in _samples"),
        ({"runs": ()}, "runs is empty"),
        ({"runs": (tiny_run(), tiny_run())}, "names mini-DiT-S-8_.* twice"),
        ({"runs": ("DiT-S/2",)}, "runs must be Run, not str"),
        (
            {"protocols": (tiny_protocol(guidance=2.0, guidance_channels=2),)},
            "guidance_channels = 2 of digits's 1: set it to 1",
        ),
        (
            {"protocols": (tiny_protocol(decoder="ft-mse"),)},
            "'ft-mse' does not decode digits: set it to 'id",
        ),
        (
            {"protocols": (tiny_protocol(features="inception"),)},
            "'inception' do not see digits: set it to 'digits-cnn-1'",
        ),
    ],
)
def test_a_sweep_whose_parts_do_not_fit_is_refused(fields: dict[str, Any], fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        tiny_sweep(**fields)


def test_guidance_takes_two_forwards_a_step() -> None:
    assert [tiny_protocol(guidance=g).forwards for g in (0.0, 1.0, 1.5)] == [2, 1, 2]


def test_a_sweep_reports_all_its_problems() -> None:
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


def test_a_grid_reports_the_problems_of_all_its_members() -> None:
    with pytest.raises(ValueError, match=r"DiT-Q/2.*DiT-S/3"):
        grid(Run, model=["DiT-Q/2", "DiT-S/2", "DiT-S/3"])


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({"images": 3}, r"images = 3 must be at least 4: recall looks at three neighbours"),
        (
            {"sampler": "dpm-solver++", "sampling_steps": 1000},
            r"sampling_steps = 1000: dpm-solver\+\+ takes at most 999",
        ),
    ],
)
def test_a_protocol_that_can_give_no_number_is_refused(fields: dict[str, Any], fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        base(Protocol, **fields)


def test_protocols_at_the_edge_are_taken() -> None:
    base(Protocol, images=4)
    base(Protocol, sampler="dpm-solver++", sampling_steps=999)
    base(Protocol, sampler="ddim", sampling_steps=1000)


CHEAP, DEAR = tiny_protocol(name="cheap"), tiny_protocol(name="dear", images=128)


def test_a_protocol_may_have_steps_of_its_own() -> None:
    sweep = tiny_sweep(steps=(), protocols={CHEAP: range(10, 31, 10), DEAR: 30})
    assert sweep.steps == (10, 20, 30) and list(sweep.protocols) == [CHEAP, DEAR]
    assert (sweep.steps_of(CHEAP), sweep.steps_of(DEAR)) == ((10, 20, 30), (30,))
    assert sweep.scores == [(10, CHEAP), (20, CHEAP), (30, CHEAP), (30, DEAR)]
    assert pickle.loads(pickle.dumps(sweep)) == copy.deepcopy(sweep) == sweep
    names = {"Protocol": Protocol, "Run": Run, "Sweep": Sweep}
    assert eval(repr(sweep), names) == sweep, "what a sweep shows is what writes it"


def test_the_same_steps_for_all_protocols_are_one_sweep_in_both_spellings() -> None:
    both = tiny_sweep(steps=(10, 20), protocols=(CHEAP, DEAR))
    assert tiny_sweep(steps=(), protocols={CHEAP: (10, 20), DEAR: [10, 20]}) == both
    assert both.scores == [(10, CHEAP), (10, DEAR), (20, CHEAP), (20, DEAR)]


@pytest.mark.parametrize(
    ("protocols", "fault"),
    [
        ({CHEAP: ()}, "steps of cheap is empty"),
        ({CHEAP: (20, 10), DEAR: 0.5}, r"steps of cheap = \(20, 10\) must rise.*of dear: 0.5 must"),
        ({CHEAP: (10, 30), DEAR: 20}, r"steps of cheap: 30 are none of steps = \(10, 20\): add"),
        ({"cheap": 10}, "protocols must be Protocol or Validation, not str"),
    ],
)
def test_steps_of_a_protocol_that_cannot_be_scored_are_refused(
    protocols: dict[Any, Any], fault: str
) -> None:
    with pytest.raises(ValueError, match=fault):
        tiny_sweep(steps=(10, 20), protocols=protocols)


SHORT, LONG = tiny_run(), tiny_run(seed=1)


def test_a_run_may_have_steps_of_its_own() -> None:
    sweep = tiny_sweep(
        runs=(), steps=(), trained={SHORT: 10, LONG: [10, 30]}, protocols=(CHEAP, DEAR)
    )
    assert (sweep.steps, list(sweep.runs)) == ((10, 30), [SHORT, LONG])
    assert (sweep.steps_of(SHORT), sweep.steps_of(LONG)) == ((10,), (10, 30))
    assert sweep.scores_of(SHORT) == [(10, CHEAP), (10, DEAR)]
    names = {"Protocol": Protocol, "Run": Run, "Sweep": Sweep}
    assert eval(repr(sweep), names) == sweep == pickle.loads(pickle.dumps(sweep))


def test_a_protocol_scores_the_steps_that_it_and_the_run_have() -> None:
    both = tiny_sweep(
        runs=(), steps=(), trained={SHORT: 10, LONG: (20, 30)}, protocols={CHEAP: 30, DEAR: 10}
    )
    assert both.scores_of(SHORT) == [(10, DEAR)] and both.scores_of(LONG) == [(30, CHEAP)]


def test_the_same_steps_for_all_runs_are_one_sweep_in_both_spellings() -> None:
    assert tiny_sweep(runs=(), steps=(), trained={SHORT: [10, 20], LONG: (10, 20)}) == tiny_sweep(
        steps=(10, 20), runs=(SHORT, LONG)
    )


def test_steps_of_a_run_that_it_cannot_have_are_refused() -> None:
    with pytest.raises(ValueError, match=rf"steps of {LONG.id} = \(20, 10\) must rise"):
        tiny_sweep(runs=(), steps=(), trained={SHORT: 10, LONG: (20, 10)})
    with pytest.raises(ValueError, match=rf"steps of {LONG.id}: 30 are none of steps = \(10, 20\)"):
        tiny_sweep(runs=(), steps=(10, 20), trained={SHORT: 10, LONG: 30})
    with pytest.raises(ValueError, match="runs must be Run, not str"):
        tiny_sweep(runs=(), steps=(10,), trained={"DiT-S/2": 10})
    with pytest.raises(ValueError, match="runs is a dict: give runs with their steps as trained"):
        tiny_sweep(runs={SHORT: 10, LONG: 30})
    with pytest.raises(ValueError, match=f"trained has no steps of {LONG.id}: give them"):
        tiny_sweep(runs=(SHORT, LONG), steps=(), trained={SHORT: 10})
    both = tiny_sweep(runs=(), steps=(), trained={SHORT: 10, LONG: (10, 20)})
    one = dataclasses.replace(both, runs=(SHORT,))
    assert one.trained == {SHORT: (10,)}, "a part of a sweep has the steps of its runs"
