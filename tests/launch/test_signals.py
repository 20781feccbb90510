"""What a signal ends, whenever it comes: within a task, at its end, or between two of them."""

from __future__ import annotations

import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from helpers import run_verb, tiny_protocol, tiny_sweep, train_all, written

from harness.base.distributed import Interrupted, Stop, stop_on_signal
from harness.base.signals import interrupt, on_stop, stop_afterwards
from harness.launch import jobs, local
from harness.launch.job import run_tasks
from harness.launch.run import run_one
from harness.metrics import METRICS
from harness.study.cluster import Cluster
from harness.study.plan import missing
from harness.study.store import Store
from harness.study.tasks import Task

TWO = tiny_sweep(steps=(10,), protocols=(tiny_protocol(), tiny_protocol(name="other", seed=1)))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = Store(tmp_path_factory.mktemp("trained"))
    train_all(TWO, store)
    return store


@pytest.fixture
def scores(trained: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A trained store, where a signal comes as a score is computed: after the last look for one."""
    compute = METRICS["fid"].compute

    def signalled(*given: Any) -> Any:
        os.kill(os.getpid(), signal.SIGTERM)
        return compute(*given)

    monkeypatch.setitem(METRICS, "fid", replace(METRICS["fid"], compute=signalled))
    return Store(Path(shutil.copytree(trained.root, tmp_path / "store")))


@pytest.fixture
def requeued(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """The jobs that were put back into a queue, of an executor that can."""
    done: list[bool] = []

    def requeue() -> bool:
        done.append(True)
        return True

    monkeypatch.setattr(local, "requeue", requeue)
    return done


def job(tasks: list[Task], store: Store) -> None:
    run_tasks(tasks, store, Cluster(store=str(store.root), executor="local"), 0.1)


@pytest.mark.parametrize("verb", [("run",), ("launch", "--cluster", "debug", "--follow")])
def test_a_signal_at_the_end_of_a_task_ends_the_command(
    verb: tuple[str, ...], scores: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command, *options = verb
    words = (command, written(TWO, tmp_path), "--store", scores.root, *options)
    status, _, err = run_verb(capsys, *words)
    assert status == 130 and "run the same command to continue" in err
    assert len(missing(TWO, scores)) == 1, "that task is done, and the next is not begun"
    assert run_verb(capsys, *words)[0] == 130, "the signal comes again, in the last one"
    assert run_verb(capsys, *words)[0] == 0 and missing(TWO, scores) == []


def test_a_signal_at_the_end_of_a_task_requeues_a_job_of_several(
    scores: Store, requeued: list[bool], capsys: pytest.CaptureFixture[str]
) -> None:
    both = missing(TWO, scores)
    with pytest.raises(SystemExit, match="requeued"):
        job(both, scores)
    assert requeued == [True] and [task.is_done(scores) for task in both] == [True, False]
    assert f"{both[1].id} was not started" in capsys.readouterr().err


def test_a_signal_at_the_end_of_the_last_task_requeues_nothing(
    scores: Store, requeued: list[bool]
) -> None:
    first, _ = missing(TWO, scores)
    job([first], scores)
    assert requeued == [] and first.is_done(scores)


def test_a_signal_in_a_task_that_fails_begins_no_other(
    scores: Store, requeued: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[int] = []

    def broken(*_: object) -> dict[str, float]:
        begun.append(1)
        os.kill(os.getpid(), signal.SIGTERM)
        raise KeyError("a bug")

    monkeypatch.setitem(METRICS, "fid", replace(METRICS["fid"], compute=broken))
    with pytest.raises(SystemExit, match="requeued"):
        job(missing(TWO, scores), scores)
    assert requeued == [True] and begun == [1]


def test_a_signal_at_the_end_of_a_single_task_is_no_success(scores: Store) -> None:
    first, _ = missing(TWO, scores)
    with pytest.raises(Interrupted, match="SIGTERM"):
        run_one(first, scores, Cluster(store=str(scores.root)))
    assert first.is_done(scores)


def test_a_stop_during_an_import_is_not_lost() -> None:
    """Within, an exception of a signal may be swallowed."""
    reached: list[str] = []

    @stop_afterwards()
    def imports() -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        reached.append("the end")

    with pytest.raises(KeyboardInterrupt):
        imports()
    assert reached


def test_the_first_ctrl_c_says_what_the_second_does(capfd: pytest.CaptureFixture[str]) -> None:
    def twice(stop: Stop) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.signals == [signal.SIGINT]
        assert "Ctrl-C again discards it" in capfd.readouterr().err
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt) as ended, stop_on_signal() as stop:
        twice(stop)
    assert not isinstance(ended.value, Interrupted), "nothing is saved"


def test_a_second_ctrl_c_cuts_no_withdrawal_in_two(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: list[str] = []

    def cancel(tasks: set[str], *_: object) -> None:
        for task in sorted(tasks):
            os.kill(os.getpid(), signal.SIGINT)
            ended.append(task)

    monkeypatch.setattr(jobs, "cancel", cancel)
    with pytest.raises(KeyboardInterrupt):
        jobs.stop({"a", "b"}, Store(tmp_path), "local")
    assert ended == ["a", "b"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_what_a_script_or_nohup_has_ignored_stays_ignored(number: signal.Signals) -> None:
    before = signal.signal(number, signal.SIG_IGN)
    try:
        with on_stop(interrupt):
            os.kill(os.getpid(), number)
            assert signal.getsignal(number) == signal.SIG_IGN
    finally:
        signal.signal(number, before)
