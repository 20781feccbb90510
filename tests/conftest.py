"""What several test files share: Inception with random weights, and the digits as pixels."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from drawings import pictures, tiny, vae  # noqa: F401  # fixtures
from helpers import draw_for_a_screen, forget_rows
from torch import Tensor, nn

from harness.data import digits
from harness.spec import own_rows

torch.set_num_threads(1)  # the processes of pytest-xdist share the cores
signal.signal(
    signal.SIGINT, signal.default_int_handler
)  # a script's & ignores it, for children too


@pytest.fixture(scope="session")
def random_inception(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state dict of Inception drawn so that activations keep their size through the layers."""
    from harness.extractors import inception  # takes seconds to import

    torch.manual_seed(0)
    network = inception.build(None)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
        if isinstance(module, nn.BatchNorm2d):
            module.get_buffer("running_mean").normal_(std=0.1)
            module.get_buffer("running_var").uniform_(0.5, 1.5)
    path = tmp_path_factory.mktemp("inception") / "random.pth"
    torch.save(network.state_dict(), path)
    return path


@pytest.fixture
def no_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Tables as the package has them, before and afterwards, and a cache of counts of its own."""
    before = {field: set(table) for field, table in own_rows.TABLES.items()}
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    yield
    forget_rows()
    assert {field: set(table) for field, table in own_rows.TABLES.items()} == before


@pytest.fixture
def svg_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures as a screen shows them."""
    draw_for_a_screen(monkeypatch)


@pytest.fixture
def figure_8_alone(svg_alone: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A report with one figure: for what its page says beside them."""
    from analysis import catalogue

    for name in set(catalogue.FIGURES) - {"figure_08"}:
        monkeypatch.delitem(catalogue.FIGURES, name)


@pytest.fixture(scope="session")
def numbers() -> Tensor:
    """All 1,797 digits, uint8 [N, 1, 16, 16], in an order of their own."""
    images, _ = digits.load()
    return (127.5 * images + 128).clamp(0, 255).to(torch.uint8)


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Gives a disk of its own with these options of tmpfs; skips the test where none may mount."""
    folder = tmp_path / "mount"

    def made(options: str) -> Path:
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
        if subprocess.run(command, capture_output=True, check=False).returncode:
            pytest.skip("no right to mount here")
        return folder

    yield made
    if folder.is_mount():
        subprocess.run(["umount", str(folder)], check=True)


# What takes seconds in one process: identity, plan, store, randomness, cost, statistics.
FAST = (
    "test_spec.py",
    "test_house.py",
    *(f"study/test_{name}.py" for name in "choice cluster collect cost plan speed store".split()),
    "base/test_rng.py",
    "base/test_files.py",
    "base/test_locks.py",
    "analysis/test_table.py",
    "analysis/test_comparison.py",
)


def is_fast(path: Path) -> bool:
    return any(path == Path(__file__).parent / name for name in FAST)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Imports no file of slow tests where they are left out."""
    slow = collection_path.name.startswith("test_") and not is_fast(collection_path)
    return True if slow and "not slow" in config.option.markexpr else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks everything else as slow, so that `make test-fast` leaves it out."""
    for item in items:
        if not is_fast(item.path):
            item.add_marker("slow")
