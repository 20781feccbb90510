"""Loggers: they take what the JSON lines hold, and nothing they do reaches the training."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import pytest
from helpers import cluster_file, do, only_training, refused, tiny_sweep, train_all, written

from harness.study.plan import missing
from harness.study.store import Store
from harness.training import loggers
from harness.training.loggers import Opening

SWEEP = only_training((20, 40))
(RUN,) = SWEEP.runs


class Recorder:
    """A logger that keeps what it takes."""

    made: list[Recorder]

    def __init__(self, opening: Opening) -> None:
        self.opening, self.taken, self.closed = opening, dict[int, Mapping[str, float]](), False
        self.made.append(self)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self.taken[step] = values

    def close(self) -> None:
        self.closed = True


class Broken(Recorder):
    """One that fails in its first step."""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        raise OSError("no route to host\nat all")


@pytest.fixture
def recorders(monkeypatch: pytest.MonkeyPatch) -> list[Recorder]:
    Recorder.made = []
    monkeypatch.setitem(loggers.OPEN, "wandb", Recorder)
    monkeypatch.setitem(loggers.OPEN, "trackio", Broken)
    return Recorder.made


def test_a_logger_takes_the_means_of_the_lines_and_a_broken_one_stops_nothing(
    recorders: list[Recorder], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = Store(tmp_path)
    train_all(SWEEP, store, loggers=["trackio", "wandb"])
    broken, good = recorders
    lines, _ = store.read_log(RUN)
    assert len(lines) == 40 and [*good.taken] == [20, 40] and good.closed
    for step, values in good.taken.items():
        window = [line["loss"] for line in lines if step - 20 < line["step"] <= step]
        assert values["loss"] == pytest.approx(sum(window) / len(window))
    assert good.opening == Opening(RUN.id, RUN, store.run(RUN) / "wandb", 1)
    error = "logger trackio failed (OSError: no route to host): the JSON lines go on\n"
    assert capsys.readouterr().err == error and not broken.closed


def test_scores_are_logged_under_a_name_of_their_own(
    recorders: list[Recorder], tmp_path: Path
) -> None:
    sweep, store = tiny_sweep(steps=(20,)), Store(tmp_path)
    train_all(sweep, store)
    (score,) = missing(sweep, store)
    do(score, store, loggers=["wandb"])
    (recorder,) = recorders
    assert recorder.opening.name == f"{RUN.id}-scores"
    assert f"{sweep.sampling[0].id}/fid" in recorder.taken[20]


def test_weights_are_the_same_with_and_without_tensorboard(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with_it, without = Store(tmp_path / "with"), Store(tmp_path / "without")
    train_all(SWEEP, with_it, loggers=["tensorboard"])
    train_all(SWEEP, without)
    assert with_it.ema(RUN, 40).read_bytes() == without.ema(RUN, 40).read_bytes()
    events = EventAccumulator(str(with_it.run(RUN) / "tensorboard")).Reload()
    assert [event.step for event in events.Scalars("loss")] == [20, 40]


def test_wandb_works_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setattr(os, "environ", os.environ | {"WANDB_MODE": "offline", "WANDB_SILENT": "1"})
    store = Store(tmp_path)
    train_all(SWEEP, store, loggers=["wandb"])
    assert list((store.run(RUN) / "wandb").rglob("*.wandb"))


def test_trackio_takes_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))  # read when it is imported
    pytest.importorskip("trackio")
    train_all(SWEEP, Store(tmp_path / "store"), loggers=["trackio"])
    assert [path for path in (tmp_path / "trackio").rglob("*") if path.is_file()]


def test_a_logger_that_is_not_installed_or_not_known_is_refused_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    words = (written(SWEEP, tmp_path), "--store", tmp_path / "store", "--cluster")
    cluster = cluster_file(tmp_path, loggers=["wandb"])
    assert "loggers: wandb is not installed: pip" in refused(capsys, "run", *words, cluster)
    cluster = cluster_file(tmp_path, loggers=["wandbb"])
    assert "holds 'wandbb': it is unknown: did you mean 'wandb'?" in refused(
        capsys, "run", *words, cluster
    )
    assert not Store(tmp_path / "store").run(RUN).exists()
