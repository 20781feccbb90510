"""A store written at 3880366, before checksums: planned, shown, continued, collected."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import pytest
from helpers import do, tiny_protocol, tiny_run, tiny_sweep

from harness.cli.plan import plan_json
from harness.cli.status import status_json
from harness.study.cluster import Cluster
from harness.study.collect import collect
from harness.study.plan import missing
from harness.study.store import Store

FIXTURES = Path(__file__).parents[1] / "fixtures"
SWEEP = tiny_sweep(name="fixture", runs=(tiny_run(), tiny_run(seed=1)))
FREE = {"commit", "device", "seconds", "images_per_second", "warning"}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    shutil.copytree(FIXTURES / "store_3880366", tmp_path / "store")
    return Store(tmp_path / "store")


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_ids_stand() -> None:
    assert [run.id for run in SWEEP.runs] == ["mini-DiT-S-8_d5f0e226", "mini-DiT-S-8_ff8cde58"]
    assert tiny_protocol().id == "tiny_269b7bfb"


def test_its_plan_and_its_status_are_those_of_that_code(store: Store) -> None:
    assert [(task.id, task.reason) for task in missing(SWEEP, store)] == [
        ("mini-DiT-S-8_ff8cde58", "no checkpoint at 20; continues from 10"),
        ("mini-DiT-S-8_ff8cde58@10:tiny_269b7bfb", "not scored"),
        ("mini-DiT-S-8_ff8cde58@20:tiny_269b7bfb", "no checkpoint yet"),
    ]
    plan = plan_json(SWEEP, store, Cluster(device="cpu"))
    assert plan["orphaned"] == [] and plan["speed"]["device"] == "CPU x86_64, 1 threads"
    status = status_json(SWEEP, store, Cluster(store=str(store.root)))
    assert [(run["step"], run["scores"]) for run in status["runs"]] == [(20, 2), (10, 0)]


def test_what_it_holds_is_collected_as_that_code_did(store: Store, tmp_path: Path) -> None:
    table, count, warnings = collect(SWEEP, store, tmp_path / "out")
    assert warnings == [] and count == 16
    for name, end in (("fixture.csv", ""), ("fixture_log.csv", "_log")):
        old = (FIXTURES / f"store_3880366{end}.csv").read_bytes().splitlines()
        new = (table.parent / name).read_bytes().splitlines()
        added = b",data,lr,precision" if end else b",tokens"
        assert new[0] == old[0] + added, "new columns come last"
        values = b",digits,0.001,fp32" if end else b",4"
        assert new[1:] == [line + values for line in old[1 : len(new)]], "the other run's follow"
        assert len(new) == (17 if not end else 31)


def test_this_code_goes_on_with_it(store: Store, tmp_path: Path) -> None:
    while tasks := [task for task in missing(SWEEP, store) if task.ready]:
        do(tasks[0], store)
    table, count, _ = collect(SWEEP, store, tmp_path / "out")
    assert count == 34, "the two records that were missing also have label_accuracy"
    for name, end in (("fixture.csv", ""), ("fixture_log.csv", "_log")):
        old, every = rows(FIXTURES / f"store_3880366{end}.csv"), rows(table.parent / name)
        new = [row for row in every if row.get("metric") != "label_accuracy"]
        assert len(old) == len(new)
        for row, other in zip(old, new, strict=True):
            for column in row.keys() - FREE - {"checkpoint"}:
                same = (
                    pytest.approx(float(row[column]), rel=1e-3)
                    if is_number(row[column])
                    else row[column]
                )
                assert (
                    float(other[column]) if is_number(row[column]) else other[column]
                ) == same, column


def is_number(text: str) -> bool:
    return text[:1].isdigit() and text.replace(".", "").replace("e-", "").isdigit()
