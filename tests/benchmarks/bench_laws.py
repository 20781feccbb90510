"""Time of the joint law's fit and of 10,000 bootstraps, by the size of the study.

`PYTHONPATH=.:tests python tests/benchmarks/bench_laws.py`, on one thread.
"""

from __future__ import annotations

import time

import numpy as np
from joint_worlds import WORLDS, points

from analysis import joint, joint_bootstrap


def main() -> None:
    for name, world in WORLDS.items():
        at = points(world.draw(np.random.default_rng(0)))
        start = time.perf_counter()
        law = joint.fit(at)
        fitted = time.perf_counter() - start
        joint_bootstrap.bootstrap(law, 10_000)
        drawn = time.perf_counter() - start - fitted
        print(
            f"{name}: {at.runs} runs, {len(at.y)} scores: fit {fitted:.2f} s,"
            f" 10,000 bootstraps {drawn:.1f} s"
        )


if __name__ == "__main__":
    main()
