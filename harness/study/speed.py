"""How fast a device works: as measured by `harness bench`, scaled, or as published. No torch."""

from __future__ import annotations

import csv
import dataclasses
import functools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from harness.base.errors import UserError
from harness.base.files import read_json
from harness.base.validation import problems, within
from harness.study.cluster import Cluster
from harness.study.store import Store

RESULTS = Path(__file__).parents[2] / "results"
PUBLISHED_SPEED = RESULTS / "published" / "speed.csv"
MEASURED_SPEEDS = RESULTS / "measured"  # of devices, by make gpu-bench: speed_<device>.csv
BY_MODELS = ("training", "sampling", "validation")  # the rest is done by convolutional networks


@dataclass(frozen=True)
class Work:
    """What is done to an image.

    `gmacs` are its multiply-adds / 1e9, of three forwards where a model is trained on it.
    """

    what: str  # training, sampling and validation (one forward), decoding, features, encoding
    subject: str
    precision: str
    gmacs: float

    @property
    def key(self) -> str:
        return f"{self.what} {self.subject} {self.precision}"


class Rate(NamedTuple):
    images_per_second: float
    row: str  # the key of the measured row it comes from; "" where it is the published figure


@dataclass(frozen=True, eq=False)
class Speed:
    """One device: its measured rows by key, or else the published operations a second."""

    device: str
    source: str
    tflops: float = 0.0
    rows: Mapping[str, Mapping[str, Any]] | None = None


@functools.lru_cache(maxsize=4096)
def rate(work: Work, speed: Speed) -> Rate:
    """Images a second of that work: as measured, or scaled from the nearest by multiply-adds."""
    if not work.gmacs:  # such as an extractor that averages pixels
        return Rate(math.inf, "")
    if not speed.rows:
        return Rate(speed.tflops * 1e12 / (2e9 * work.gmacs), "")

    def distance(key: str) -> tuple[bool, bool, bool, bool, float]:
        row = (speed.rows or {})[key]
        other = (row["what"] in BY_MODELS) != (work.what in BY_MODELS)
        apart = abs(math.log(row["gmacs"] / work.gmacs))
        return (
            key != work.key,
            other,
            row["precision"] != work.precision,
            row["what"] != work.what,
            apart,
        )

    key = min(speed.rows, key=distance)
    row = speed.rows[key]
    return Rate(row["images_per_second"] * row["gmacs"] / work.gmacs, key)


def hours(count: float, work: Work, speed: Speed) -> float:
    """Device-hours for `count` images."""
    return count / rate(work, speed).images_per_second / 3600


def published_speed() -> Speed:
    """The figure that stands in until a device is measured: named in every plan that uses it.

    Raises:
        UserError: the table is not there.
    """
    try:
        with PUBLISHED_SPEED.open(newline="") as file:
            row = next(row for row in csv.DictReader(file) if row["used_by_plan"] == "yes")
    except OSError as error:
        raise UserError(
            f"no published speeds: {error}; install the project with its results/ folder"
        ) from None
    return Speed(row["device"], row["source"], float(row["tflops"]))


@dataclass(frozen=True, kw_only=True)
class Row:
    """What plan reads of a measured work; more stands in its row."""

    what: str
    precision: str
    gmacs: Annotated[float, within(0, above=True)]
    images_per_second: Annotated[float, within(0, above=True)]
    date: str
    compile: bool = False
    part: int = 0


def is_row(row: object) -> bool:
    names = {field.name for field in dataclasses.fields(Row)}
    if not isinstance(row, dict) or names - {"compile", "part"} - row.keys():
        return False
    return not problems(Row(**{name: row[name] for name in names & row.keys()}))


def measured(path: Path) -> dict[str, Any]:
    """What `harness bench` stored of a device.

    Raises:
        UserError: it is damaged.
    """
    file = read_json(path)
    rows, kind = file.get("rows"), file.get("kind")
    if (
        isinstance(rows, dict)
        and rows
        and all(map(is_row, rows.values()))
        and isinstance(file.get("device"), str)
        and kind in ("cpu", "cuda")
    ):
        return file
    raise UserError(
        f"{path} is no measurement of a device: move it away and run harness bench again"
    )


def committed(path: Path) -> dict[str, Any]:
    """What a CSV of results/measured has of a device, in the form of `measured`.

    Of a work that was measured compiled and not, the faster row.
    """
    with path.open(newline="") as file:
        rows: list[dict[str, Any]] = [
            {
                **row,
                "gmacs": float(row["gmacs"]),
                "images_per_second": float(row["images_per_second"]),
                "compile": row["compile"] == "True",
                "part": int(row["part"]),
            }
            for row in csv.DictReader(file)
        ]
    rows.sort(key=lambda row: row["images_per_second"])
    by_key = {f"{row['what']} {row['subject']} {row['precision']}": row for row in rows}
    return {"device": rows[0]["device"], "kind": rows[0]["kind"], "rows": by_key}


def kind_of(cluster: Cluster) -> str | None:
    """Whether the cluster's tasks run on CPUs or GPUs; None where that shows when they begin."""
    if cluster.executor == "slurm":
        return "cuda" if cluster.gpus_per_node else "cpu"
    return None if cluster.device == "auto" else cluster.device


def known_speed(store: Store, cluster: Cluster, on: str = "") -> Speed:
    """The device measured last, of the cluster's kind and with `on` in its name; else as published.

    Raises:
        UserError: a measurement is damaged, or `on` names none.
    """

    def fitting(files: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
        named = [f for f in files if on.lower() in f["device"].lower()]
        return [f for f in named if kind_of(cluster) in (None, f["kind"])]

    files = [measured(path) for path in store.speeds()]
    fits = fitting(files)
    if on and not fits:  # another's measurement counts only where it is asked for
        files += [committed(path) for path in sorted(MEASURED_SPEEDS.glob("speed_*.csv"))]
        fits = fitting(files)
    if on and not fits:
        known = "; ".join(f["device"] for f in files) or "none"
        raise UserError(
            f"--on {on!r}: no such device was measured for this cluster ({known}):"
            " run harness bench there, or leave --on out for hours by a published figure"
        )
    if not fits:
        return published_speed()
    newest = max(fits, key=lambda f: max(row["date"] for row in f["rows"].values()))
    others = [f["device"] for f in files if f is not newest]
    source = (
        f"--on would take another: {', '.join(others)}" if others else "the one device measured"
    )
    return Speed(newest["device"], source, rows=newest["rows"])


def basis(works: Iterable[Work], speed: Speed) -> list[str]:
    """Describes what the times of these works rest on, in lines."""
    if not speed.rows:
        figure = f"{speed.tflops:g} TFLOP/s on {speed.device}, published ({speed.source})"
        return [f"Time: {figure}; not measured here: harness bench does it."]
    taken: dict[str, list[Work]] = {}
    for work in works:
        taken.setdefault(rate(work, speed).row, []).append(work)
    days = sorted({speed.rows[key]["date"][:10] for key in taken})
    when = " … ".join(dict.fromkeys((days[0], days[-1])))
    how = setting([speed.rows[key] for key in taken])
    lines = [f"Time: measured on {speed.device}, {when}, {how}; {speed.source}."]
    for key, wanted in taken.items():
        if scaled := [work.key for work in wanted if work.key != key]:
            more = f" and {len(scaled) - 1} more" * (len(scaled) > 1)
            lines.append(f"Not measured: {scaled[0]}{more}: scaled by multiply-adds from {key}.")
    return lines


def setting(rows: Sequence[Mapping[str, Any]]) -> str:
    """How the training among these rows was measured."""
    trained = [row for row in rows if row["what"] == "training"]
    compiled = sorted({"compiled" if row.get("compile") else "not compiled" for row in trained})
    parts = sorted({row.get("part", 0) for row in trained})
    return (
        f"{' and '.join(compiled)}, microbatch {', '.join(map(str, parts))}"
        if trained
        else "no training"
    )
