"""The code that queued jobs run: the commit, and a clear word where it cannot be had."""

from __future__ import annotations

import errno
import shutil
import subprocess
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.base import commit as code
from harness.launch import snapshot
from harness.study.store import Store


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package in no repository."""
    folder = tmp_path / "repository" / "harness"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("first")
    for module in (snapshot, code):
        monkeypatch.setattr(module, "PACKAGE", folder)
    monkeypatch.delenv("HARNESS_COMMIT", raising=False)
    code.commit.cache_clear()  # of whatever test was here before
    yield folder
    code.commit.cache_clear()


def committed(package: Path) -> None:
    for words in ("init -q", "add .", "-c user.name=x -c user.email=x@x commit -qm first"):
        subprocess.run(["git", "-C", str(package), *words.split()], check=True)


def copied(store: Store, dirty: bool = False) -> str:
    code.commit.cache_clear()
    return (snapshot.snapshot(store, dirty) / "harness" / "__init__.py").read_text()


def test_queued_jobs_run_the_commit(package: Path, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    with pytest.raises(
        ValueError, match=r"has no commit \(fatal: not a git repo.*\): commit it, .* with --dirty"
    ):
        copied(store)
    assert copied(store, dirty=True) == "first"
    committed(package)
    assert copied(store) == "first" == copied(store)
    (package / "__init__.py").write_text("second")
    with pytest.raises(ValueError, match="differs from commit"):
        copied(store)
    assert copied(store, dirty=True) == "second"


def test_git_that_is_not_there_is_told(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    committed(package)
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(ValueError, match=r"has no commit \(git is not on the path\)"):
        copied(Store(tmp_path / "store"))


def full(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device", "somewhere")


@pytest.mark.parametrize("fault", ["disk", "repository"])
def test_a_copy_that_fails_leaves_nothing(
    fault: str, package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path / "store")
    committed(package)
    assert code.commit() == code.head()
    if fault == "disk":
        monkeypatch.setattr(zipfile.ZipFile, "extractall", full)
    else:
        shutil.rmtree(package / ".git" / "objects")
    with pytest.raises((OSError, ValueError), match=r"No space left|fatal: "):
        snapshot.snapshot(store, False)
    assert not list(store.root.rglob("*.py"))
