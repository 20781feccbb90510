"""The words beside a sweep: the same words name the same runs, under a name of their own."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers import tiny_protocol, tiny_run, tiny_sweep, written

from harness.base.errors import UserError
from harness.base.validation import LONGEST_NAME
from harness.spec import Sweep
from harness.study.choice import chosen
from harness.study.sweep_file import load_sweep
from harness.study.varying import protocol_text, varying

SWEEP = tiny_sweep(runs=(tiny_run(), tiny_run(model="mini-DiT-S/4")))


def changed(words: str, sweep: Sweep = SWEEP) -> Sweep:
    return chosen(sweep, words.split())


def test_words_give_runs_the_ids_of_a_sweep_written_so() -> None:
    runs = changed("lr=3e-3 seed=0,1").runs
    assert runs == tuple(
        tiny_run(model=model, lr=3e-3, seed=seed)
        for model in ("mini-DiT-S/8", "mini-DiT-S/4")
        for seed in (0, 1)
    )
    assert changed("seed=0 lr=3e-3 seed=1") == changed("lr=3e-3 seed=0,1")
    assert changed("lr=1").runs[0].id == tiny_run(lr=1.0).id


def test_no_words_are_the_sweep_and_equal_runs_are_one() -> None:
    assert changed("") is SWEEP
    seeds = tiny_sweep(runs=tuple(tiny_run(seed=seed) for seed in range(3)))
    assert changed("seed=1", seeds).runs == (tiny_run(seed=1),)


def test_steps_and_protocols_are_replaced() -> None:
    sweep = changed("steps=5,15 images=128 protocol.seed=1,2")
    assert sweep.steps == (5, 15)
    assert sweep.protocols == tuple(tiny_protocol(images=128, seed=seed) for seed in (1, 2))


def test_runs_are_kept_by_model_by_id_and_by_its_beginning() -> None:
    first, second = SWEEP.runs
    assert changed("models=mini-DiT-S/4").runs == (second,)
    assert changed(f"runs={first.id}").runs == changed("runs=mini-DiT-S-8_").runs == (first,)
    assert changed(f"models=mini-DiT-S/8 runs={second.id}").runs == SWEEP.runs
    assert len(changed("seed=0,1 models=mini-DiT-S/4").runs) == 2


def test_the_name_is_its_own_and_does_not_depend_on_the_order_of_the_words() -> None:
    name = changed("seed=0,1 lr=3e-3").name
    assert name == changed("lr=0.003 seed=0,1").name == "tiny-lr-0.003-seed-0-1"
    assert name != changed("seed=0 lr=3e-3").name
    long, longer = (changed(f"seed={'9' * count}").name for count in (200, 201))
    assert long != longer and len(longer) < LONGEST_NAME


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        ("learning_rate=1e-3", r"learning_rate is unknown: did you mean 'lr'\?"),
        ("lr=fast", "lr=fast: must be float"),
        ("seed=1e1 steps=2.0", "seed=1e1: must be int: write 10; steps=2.0: must be int: write 2"),
        ("lr=-1", r"lr = -1\.0 must be above 0"),
        ("steps=20,10", r"must rise without repeats: \(10, 20\)"),
        ("models=DiT-S/2", "'DiT-S/2' is none of the sweep's: did you mean 'mini-DiT-S/"),
        ("runs=DiT-XL_1", "or a run's id as harness plan prints it"),
    ],
)
def test_words_that_make_no_sense_are_refused(words: str, fault: str) -> None:
    with pytest.raises(UserError, match=fault):
        changed(words)


def test_a_path_may_hold_spaces_and_equal_signs(tmp_path: Path) -> None:
    folder = tmp_path / "my lr=1 runs"
    folder.mkdir()
    path = written(SWEEP, folder)
    assert load_sweep(str(path)) == SWEEP
    assert load_sweep(f"{path} seed=3").runs == changed("seed=3").runs


def test_what_varies_is_what_tells_runs_apart() -> None:
    assert varying(changed("lr=1e-3,3e-3 seed=0").runs) == ["lr"] and varying(()) == []
    assert protocol_text(SWEEP.protocols) == ""
    several = changed("guidance=1.0,1.5").sampling
    assert protocol_text(several) == "protocols: " + ", ".join(
        f"{protocol.id} (guidance {protocol.guidance})" for protocol in several
    )


def test_words_keep_the_steps_of_each_protocol_unless_they_name_steps() -> None:
    cheap, dear = tiny_protocol(name="cheap"), tiny_protocol(name="dear")
    sweep = tiny_sweep(steps=(), protocols={cheap: (10, 20), dear: 20})
    led = chosen(sweep, ["guidance=1.5"])
    assert [step for step, _ in led.scores] == [10, 20, 20] and len(led.protocols) == 2
    assert chosen(sweep, ["steps=5,15"]).scores == [
        (step, protocol) for step in (5, 15) for protocol in (cheap, dear)
    ]


def test_words_keep_the_steps_of_each_run() -> None:
    short, long = tiny_run(), tiny_run(seed=1)
    sweep = tiny_sweep(runs=(), steps=(), trained={short: 10, long: (10, 20)})
    faster = chosen(sweep, ["lr=2e-3"])
    assert [faster.steps_of(run) for run in faster.runs] == [(10,), (10, 20)]
    assert {run.lr for run in faster.runs} == {2e-3}
    (kept,) = (kept_sweep := chosen(sweep, [f"runs={short.id}"])).runs
    assert kept_sweep.steps_of(kept) == (10,)
    assert chosen(sweep, ["steps=5"]).runs == (short, long)
    one = chosen(sweep, ["seed=3"])
    assert [one.steps_of(run) for run in one.runs] == [(10, 20)], "the same run twice: all steps"
