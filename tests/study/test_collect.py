"""Collecting: no number that was not measured, and what is left out is reported by name."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import scored, tiny_protocol, tiny_run, tiny_sweep

from analysis.grid import grid
from analysis.table import load
from harness.base.files import append_lines, read_json, write_json
from harness.spec import Run
from harness.study.choice import chosen
from harness.study.collect import collect
from harness.study.columns import own_columns, tokens_of
from harness.study.plan import missing, survey
from harness.study.store import Store
from harness.study.tasks import Evaluate

FIXTURE = Path(__file__).parents[1] / "fixtures" / "store_3880366"
SWEEP = tiny_sweep()
(RUN,), (PROTOCOL,) = SWEEP.runs, SWEEP.protocols
Change = Callable[[dict[str, Any]], object]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A finished run, scored at steps 10 and 20."""
    shutil.copytree(FIXTURE / "runs" / RUN.id, tmp_path / "store" / "runs" / RUN.id)
    return Store(tmp_path / "store")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def change(path: Path, how: Change) -> None:
    value = read_json(path)
    how(value)
    write_json(path, value)


def test_collecting_again_leaves_the_same_files(store: Store, out: Path) -> None:
    def files() -> dict[str, tuple[bytes, int]]:
        return {p.name: (p.read_bytes(), p.stat().st_mtime_ns) for p in out.glob("*.csv")}

    first = (collect(SWEEP, store, out), files())
    assert (collect(SWEEP, store, out), files()) == first and first[0][1:] == (16, [])


@pytest.mark.parametrize("damage", [lambda data: data[:-200], lambda data: b""])
def test_a_damaged_record_is_left_out_and_named(
    damage: Callable[[bytes], bytes], store: Store, out: Path
) -> None:
    path = store.record(RUN, 20, PROTOCOL)
    path.write_bytes(damage(path.read_bytes()))
    table, count, warnings = collect(SWEEP, store, out)
    assert count == 8 and {row["step"] for row in rows(table)} == {"10"}
    assert warnings == [f"{path} is damaged and left out: harness run scores it again"]


def test_no_digit_of_a_record_can_change_unseen(store: Store, out: Path) -> None:
    path = store.record(RUN, 20, PROTOCOL)
    write_json(path, read_json(path), checksum=True)
    data = path.read_bytes()
    assert collect(SWEEP, store, out)[1] == 16
    path.write_bytes(data.replace(b"933.0807816555234", b"933.0807816555235"))
    assert collect(SWEEP, store, out)[1] == 8


@pytest.mark.parametrize(
    ("how", "fault"),
    [
        (lambda r: r.update(schema=99), "has schema 99, this harness reads up to"),
        (lambda r: r.update(schema="1"), "has schema 1, this harness reads up to"),
        (lambda r: r.update(step=10), "is the record of another cell"),
        (lambda r: r.update(n=63), "n = 63 is not the 64 of"),
        (lambda r: r.update(values=[1.0]), r"values = \[1.0\] must be dict"),
        (lambda r: r["values"].update(fid="1.0"), "is not finite in fid"),
        (lambda r: r["values"].update(fid=True), "is not finite in fid"),
        (lambda r: r["protocol_fields"].update(seed=1), "protocol_fields are not those of"),
        (lambda r: r.update(reference={}), "has no digest"),
        (lambda r: r.update(warnings=[3]), "warnings holds 3: must be str"),
        (lambda r: r.update(seconds=None), "seconds = None must be int or float"),
        (lambda r: r.pop("checkpoint"), "has no checkpoint"),
    ],
)
def test_a_record_of_something_else_stops_collect_by_name(
    how: Change, fault: str, store: Store, out: Path
) -> None:
    path = store.record(RUN, 20, PROTOCOL)
    change(path, how)
    with pytest.raises(ValueError, match=fault) as refused:
        collect(SWEEP, store, out)
    assert str(path) in str(refused.value) and "\n" not in str(refused.value)
    assert not list(out.glob("*")), "nothing is half written"


def test_a_value_whose_row_is_gone_is_left_out_with_a_warning(store: Store, out: Path) -> None:
    before = rows(collect(SWEEP, store, out)[0])
    change(store.record(RUN, 20, PROTOCOL), lambda r: r["values"].update(fjd=1.0))
    after = rows(collect(SWEEP, store, out)[0])
    assert [row["metric"] for row in after] == [row["metric"] for row in before]
    warned = {row["step"] for row in after if "no metric gives fjd: left out" in row["warning"]}
    assert warned == {"20"}


@pytest.mark.parametrize(
    "how",
    [
        lambda r: r.update(gflops=0.5),
        lambda r: r.update(params=56001),
        lambda r: r.update(params="56000"),
        lambda r: r.pop("gflops"),
        lambda r: r.clear(),
    ],
)
def test_counts_of_another_model_are_left_out_and_named(
    how: Change, store: Store, out: Path
) -> None:
    before = collect(SWEEP, store, out)[0].read_bytes()
    change(store.model(RUN), how)
    table, _, (warning,) = collect(SWEEP, store, out)
    assert table.read_bytes() == before and str(store.model(RUN)) in warning
    store.model(RUN).write_text("{")
    assert "is not JSON" in collect(SWEEP, store, out)[2][0] and table.read_bytes() == before


def test_a_lost_log_is_reported_with_its_steps(store: Store, out: Path) -> None:
    (log,) = store.logs(RUN)
    lines = log.read_text().splitlines(keepends=True)
    log.write_text("".join(lines[:1] + lines[6:9] + lines[10:]))
    lost = f"{RUN.id}: no log of steps 1–5, 9: a log was lost"
    assert collect(SWEEP, store, out)[2] == [lost]
    log.unlink()
    assert collect(SWEEP, store, out)[2] == [f"{RUN.id}: no log of steps 1–20: a log was lost"]


def test_a_run_resumed_under_other_versions_has_a_warning_from_there_on(
    store: Store, out: Path
) -> None:
    head = {"start": 10, "world": 1, "versions": {"torch": "9.9", "numpy": "2.4.6"}}
    append_lines(store.next_log(RUN), [head])
    warnings = {row["step"]: row["warning"] for row in rows(collect(SWEEP, store, out)[0])}
    assert "several versions: " not in warnings["10"]
    assert warnings["20"].endswith("trained under several versions: torch 2.13.0+cpu → 9.9")


def wrong_arrays(path: Path) -> None:
    np.savez(path, images=np.zeros((2, 3)), labels=np.zeros(2))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: path.write_bytes(path.read_bytes()[:300]),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(
            path.read_bytes()[:200] + b"x" * 50 + path.read_bytes()[250:]
        ),
        lambda path: np.savez(path, images=np.array([{}], object), labels=np.zeros(1)),
        lambda path: np.savez(path, other=np.zeros(1)),
        wrong_arrays,
        lambda path: path.unlink(),
    ],
)
def test_damaged_samples_are_left_out_and_named(
    spoil: Callable[[Path], object], store: Store, out: Path
) -> None:
    samples = out / "tiny_samples.npz"
    assert collect(SWEEP, store, out)[2] == []
    with np.load(samples) as file:
        assert file["step"] == 20 and file["protocol"] == PROTOCOL.id
        assert file["run"].tolist() == [RUN.id] and len(file["images"]) == 1
    spoil(store.preview(RUN, 20, PROTOCOL))
    _, count, (warning,) = collect(SWEEP, store, out)
    assert count == 16 and str(store.preview(RUN, 20, PROTOCOL)) in warning
    with np.load(samples) as file:
        assert file["step"] == 10


def test_samples_of_another_protocol_do_not_stay(store: Store, out: Path) -> None:
    collect(SWEEP, store, out)
    _, count, warnings = collect(tiny_sweep(protocols=(tiny_protocol(seed=1),)), store, out)
    assert (count, warnings) == (0, []) and not (out / "tiny_samples.npz").exists()


def test_a_run_that_is_not_scored_yet_is_no_loss(store: Store, out: Path) -> None:
    both = tiny_sweep(runs=(RUN, tiny_run(seed=1)))
    assert collect(both, store, out)[1:] == (16, [])


def test_a_family_that_its_names_do_not_tell_and_several_passes_are_columns() -> None:
    plain, masked = tiny_run(), tiny_run(model="digit-MDTv2-S/2", data="digits8")
    assert own_columns([Run(model="DiT-S/8", data="imagenet256")]) == []
    assert "passes" in own_columns([plain, masked]) and "passes" not in own_columns([plain])


def test_tokens_are_a_column_where_the_patch_alone_would_tell_others(
    store: Store, out: Path
) -> None:
    table, _, _ = collect(SWEEP, store, out)
    assert {row["tokens"] for row in rows(table)} == {"4"}  # 16 × 16 pixels in patches of 8
    tube = Run(model="digit-video-DiT-S/2x4", data="moving-digits")
    frames, side = tube.setting.frames, tube.setting.size
    assert frames and tokens_of(tube) == frames // 2 * (side // 4) ** 2
    assert tokens_of(Run(model="digit-U-Net-S", data="digits8")) is None


def test_sampling_seeds_are_planned_collected_and_averaged(store: Store, out: Path) -> None:
    both = chosen(SWEEP, ["protocol.seed=0,1"])
    first, second = both.sampling
    assert [task.id for task in missing(both, store) if isinstance(task, Evaluate)] == [
        f"{RUN.id}@{step}:{second.id}" for step in (10, 20)
    ]
    for step, fid in ((10, 900), (20, 700)):
        scored(store, RUN, step, fid, second)
    assert survey(both, store)[0].scores == 4
    table, _, warnings = collect(both, store, out)
    assert warnings == [] and {row["sampling_seed"] for row in rows(table)} == {"0", "1"}
    one = read_json(store.record(RUN, 10, first))["values"]["fid"]
    scores = grid(load(table)).set_index("step")["value"]
    assert scores[10] == pytest.approx((one + 900) / 2)
    assert "sampling_seed" not in rows(collect(SWEEP, store, out)[0])[0]
