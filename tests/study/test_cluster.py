"""The cluster file: what it says for which task, and all its mistakes at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.study.cluster import Cluster, read_cluster

ROOT = Path(__file__).parents[2]


def written(folder: Path, text: str) -> str:
    path = folder / "cluster.toml"
    path.write_text(text)
    return str(path)


def test_tables_override_by_model_and_for_evaluations() -> None:
    given: dict[str, dict[str, Any]] = {
        "DiT-XL/2": {"nodes": 2, "hours": 72},
        "DiT-L/2": {"partition": "big"},
    }
    scoring = {"nodes": 1, "hours": 2.5}
    cluster = Cluster(
        executor="slurm", partition="gpu", gpus_per_node=8, models=given, evaluate=scoring
    )
    asked = {
        (m, e): cluster.of(m, e) for m in ("DiT-XL/2", "DiT-L/2", "DiT-S/8") for e in (False, True)
    }
    assert [(c.partition, c.nodes, c.hours, c.ranks) for c in asked.values()] == [
        ("gpu", 2, 72, 16),
        ("gpu", 1, 2.5, 8),
        ("big", 1, 24, 8),
        ("big", 1, 2.5, 8),
        ("gpu", 1, 24, 8),
        ("gpu", 1, 2.5, 8),
    ]


def test_a_follower_is_small_and_looks_once_a_minute(tmp_path: Path) -> None:
    text = 'executor = "slurm"\ngpus_per_node = 8\nnodes = 2\nmemory_gb = 500\nhours = 48'
    text += "\n[follower]\nhours = 12"
    small = (cluster := read_cluster(written(tmp_path, text))).for_follower()
    assert (
        small.ranks,
        small.gpus_per_node,
        small.cpus_per_task,
        small.memory_gb,
        small.hours,
    ) == (1, 0, 1, 2, 12)
    assert cluster.poll_seconds == 60 and cluster.of("DiT-XL/2", False).hours == 48


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    text = """
executor = "slrum"
partion = "gpu"
hours = "24"
nodes = 0
setup = ["module load cuda", 3]
environment = {OMP_NUM_THREADS = 4}
[models."DiT-XL/3"]
hours = 4
[models."DiT-XL/2"]
hours = -1
store = "elsewhere"
[evaluate]
gpus = 1
[follower]
gpus_per_node = 1
hours = 0
"""
    with pytest.raises(ValueError, match=r"cluster\.toml: ") as refused:
        read_cluster(written(tmp_path, text))
    said = str(refused.value)
    for part in (
        "executor = 'slrum' is unknown: did you mean 'slurm'?",
        "partion is unknown: did you mean 'partition'?",
        "hours = '24' must be int or float, not str",
        "nodes = 0 must be at least 1",
        "setup holds 3: must be str",
        "environment.OMP_NUM_THREADS = 4 must be str",
        'models."DiT-XL/3" is unknown',
        'models."DiT-XL/2".hours = -1 must be above 0',
        'models."DiT-XL/2".store is unknown',
        "evaluate.gpus is unknown",
        "follower.gpus_per_node is unknown",
        "follower.hours = 0 must be above 0",
    ):
        assert part in said, (part, said)
    assert "\n" not in said


def test_a_table_that_is_none_is_told(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="models = 3 must be dict"):
        read_cluster(written(tmp_path, "models = 3"))
    for value in ("3", "0", "false", '""', "[]"):
        with pytest.raises(ValueError, match=r'models\."DiT-S/8" = .* must be a table'):
            read_cluster(written(tmp_path, f'models = {{"DiT-S/8" = {value}}}'))


def test_a_home_that_is_not_there_is_reported(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"paths = .* a home folder that does not exist in digits"):
        read_cluster(written(tmp_path, 'paths = {digits = "~nosuchuser/x"}'))


def test_the_example_is_right() -> None:
    cluster = read_cluster(str(ROOT / "sweeps" / "cluster.example.toml"))
    assert (
        cluster.executor == "slurm"
        and cluster.of("DiT-XL/2", False).ranks > cluster.of("DiT-S/8", True).ranks
    )
