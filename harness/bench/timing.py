"""`harness bench`: how fast this device does a sweep's workloads, timed and stored by device."""

from __future__ import annotations

import dataclasses
import gc
import itertools
import math
import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

from harness.base.errors import UserError
from harness.base.files import write_json
from harness.base.locks import claim
from harness.base.precision import matmul_precision
from harness.base.provenance import device_name, peak_speed, provenance
from harness.base.text import aligned, duration, in_units, pace
from harness.bench.workloads import Call, Workload, workloads
from harness.spec import Sweep
from harness.study import cost
from harness.study.cluster import Cluster
from harness.study.speed import Speed, basis, measured
from harness.study.store import Store

WINDOWS = 5  # timed stretches; their median counts
SIDE = {"cuda": 8192, "cpu": 1024}  # of the square matrices whose product is the matmul peak

Report = Callable[[str], None]
Row = dict[str, Any]


def bench(
    sweep: Sweep,
    store: Store,
    cluster: Cluster,
    device: torch.device,
    seconds: float,
    report: Report,
) -> list[Row]:
    """The rows of bench_rows()."""
    return list(bench_rows(sweep, store, cluster, device, seconds, report))


def bench_rows(
    sweep: Sweep,
    store: Store,
    cluster: Cluster,
    device: torch.device,
    seconds: float,
    report: Report,
) -> Iterator[Row]:
    """Measures every workload of a sweep; each row is stored before it is given.

    Args:
        seconds: how long each is timed, and the longest that one call may take.
    """
    items = workloads(sweep, cluster, device)
    precisions = dict.fromkeys(item.work.precision for item in items)
    peaks = {precision: matmul_peak(device, precision, seconds) for precision in precisions}
    for number, item in enumerate(items, 1):
        row = attempt(item, device, peaks[item.work.precision], seconds)
        if isinstance(row, str):
            report(f"{number}/{len(items)} {item.work.key}: skipped: {row}")
            continue
        keep(row, item.work.key, store, device)
        report(f"{number}/{len(items)} {item.work.key}: {row['images_per_second']:.4g} images/s")
        yield row


def attempt(item: Workload, device: torch.device, peak: float, seconds: float) -> Row | str:
    """The row of the largest batch that memory and time allow, or why there is none."""
    batch, once = item.batch, 2e9 * item.work.gmacs * item.forwards / peak  # s an image, at best
    while batch > 1 and batch * once > seconds / WINDOWS:
        batch //= 2
    if batch * once > seconds:
        enough = math.ceil(2 * once)
        return f"one image takes {once:.1f} s or more: --seconds {enough} would measure it"
    part = min(item.part, batch)
    while part and item.bytes(part) > room(device):
        part //= 2
    while part:
        try:
            return measure(item, max(part, batch // part * part), part, device, peak, seconds)
        except torch.OutOfMemoryError:
            part //= 2
        finally:  # the next workload starts with free memory
            torch.compiler.reset()
            gc.collect()
            if device.type == "cuda":
                torch.cuda.empty_cache()
    return "one image does not fit into the memory"


def room(device: torch.device) -> float:
    """Bytes that may be allocated: a GPU refuses more, a machine without them kills the process."""
    if device.type == "cuda":
        return math.inf
    return 0.8 * os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def measure(
    item: Workload, batch: int, part: int, device: torch.device, peak: float, seconds: float
) -> Row:
    """Times one workload; the row that is stored."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    times = timed(item.make(batch, part), device, seconds)
    speeds = [batch * item.forwards / t for t in times]
    rate = statistics.median(speeds)
    sheet = peak_speed(device)
    return {
        **dataclasses.asdict(item.work),
        "images_per_second": rate,
        "least": min(speeds),
        "most": max(speeds),
        "batch": batch,
        "part": part,
        "compile": item.compile,
        "tflops": 2e-3 * item.work.gmacs * rate,
        "matmul_share": 2e9 * item.work.gmacs * rate / peak,
        "matmul_tflops": peak / 1e12,
        "mfu": 2e9 * item.work.gmacs * rate / sheet if sheet else None,
        "peak_bytes": torch.cuda.max_memory_allocated() if device.type == "cuda" else None,
        "threads": torch.get_num_threads(),
        **provenance(device, {}),
    }


def timed(call: Call, device: torch.device, seconds: float) -> list[float]:
    """Seconds a call, of each window, after a call that compiles and fills caches."""
    clock(call, 1, device)
    once = clock(call, 1, device)
    count = max(1, round(seconds / WINDOWS / once))
    return [clock(call, count, device) for _ in range(max(3, min(WINDOWS, round(seconds / once))))]


def clock(call: Call, count: int, device: torch.device) -> float:
    """Seconds a call, over `count` calls."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    began = time.perf_counter()
    for _ in range(count):
        call()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return (time.perf_counter() - began) / count


def matmul_peak(device: torch.device, precision: str, seconds: float) -> float:
    """Operations a second of a square matrix product: what the workloads are compared with."""
    dtype, side = torch.bfloat16 if precision == "bf16" else torch.float32, SIDE[device.type]
    a, b = torch.randn(2, side, side, device=device).to(dtype)
    with matmul_precision(precision):
        return 2 * side**3 / statistics.median(timed(lambda: a @ b, device, seconds))


def keep(row: Row, key: str, store: Store, device: torch.device) -> None:
    """Puts the row into the device's file; its other rows stay.

    Raises:
        UserError: another process has the file locked.
    """
    path = store.speed(device_name(device))
    with claim(path.with_suffix(".lock"), patience=30) as mine:
        if not mine:
            raise UserError(f"{path} is held by another harness bench: run the same command again")
        rows = measured(path)["rows"] if path.exists() else {}
        write_json(
            path,
            {"device": device_name(device), "kind": device.type, "rows": rows | {key: row}},
            checksum=True,
        )


def bench_text(rows: Sequence[Row]) -> str:
    """The measured rows, a workload a line."""
    head = ("work", "batch", "images/s", "least … most", "TFLOP/s", "of matmul", "MFU", "memory")
    lines = [
        (
            f"{r['what']} {r['subject']} {r['precision']}" + (" compiled" if r["compile"] else ""),
            f"{r['batch']} by {r['part']}" if r["part"] < r["batch"] else f"{r['batch']}",
            pace(r["images_per_second"]),
            f"{pace(r['least'])} … {pace(r['most'])}",
            f"{r['tflops']:.3g}",
            f"{r['matmul_share']:.1%}",
            f"{r['mfu']:.1%}" if r["mfu"] else "",
            in_units(r["peak_bytes"]) + "B" if r["peak_bytes"] else "",
        )
        for r in rows
    ]
    return f"{aligned(head, lines)}\n" + (
        "Medians; sampling counts forwards, of one image each. Of matmul: of a plain square"
        " product in that precision, timed here. MFU: of the data sheet's dense bf16, as in the"
        " logs. Memory: peak of tensors, on a GPU."
    )


def evaluations_text(sweep: Sweep, store: Store, device: torch.device) -> str:
    """Hours that each protocol takes of each model on that device, from the measured rows."""
    path = store.speed(device_name(device))
    speed = Speed(device_name(device), f"in {path}, for harness plan", rows=measured(path)["rows"])
    head = ("evaluation", "images", "steps", "images/s sampled", "sampling", "decoding", "features")
    lines = []
    for run, protocol in itertools.product(sweep.runs, sweep.sampling):
        spent = cost.evaluation(run, protocol, speed)
        lines.append(
            (
                f"{run.model} {protocol.name}",
                f"{protocol.images:,}",
                str(protocol.sampling_steps),
                pace(protocol.images / spent.sample_hours / 3600),
                *map(duration, (spent.sample_hours, spent.decode_hours, spent.feature_hours)),
            )
        )
    rest = {work: None for run in sweep.runs for work in cost.works(run, sweep.protocols)}
    return "\n".join([aligned(head, lines), *basis(rest, speed)])
