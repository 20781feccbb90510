"""Ours beside DiT, fast-DiT and SiT on one GPU: `gpu_peers.py --dit DIR --fast-dit DIR --sit DIR`.

Each side against the released code alone, so that two fit into the memory, their windows in turns.
Rows go to results/measured/peers_<device>.csv. The peers import timm, SiT torchdiffeq as well.
"""

from __future__ import annotations

import argparse
import datetime
import statistics
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import bench_sampler
import bench_training
import torch
from gpu_rows import file_of, write
from sides import Makers, compare, options

from harness.base.provenance import device_name
from harness.spec import Protocol, Run
from harness.study.speed import MEASURED_SPEEDS

COLUMNS = (
    "work model batch side images_per_second ratio least most windows device torch date".split()
)
KEY = ("work", "model", "batch", "side")
IMAGES = {"S": 256, "B": 256, "L": 64, "XL": 32}  # two fp32 sides of XL/2 fill 80 GB
STEPS = 10  # of a sampler in one call


def ours(args: argparse.Namespace, run: Run, device: torch.device) -> Makers:
    """Our step in each precision, plain and compiled."""
    return {
        f"harness {precision}{' compiled' * compiled}": partial(
            bench_training.ours,
            Run(**run.canonical() | {"precision": precision}),
            device,
            compiled,
        )
        for precision in args.precisions
        for compiled in (False, True)[: 1 + args.compile]
    }


def trainings(args: argparse.Namespace, run: Run, device: torch.device) -> Iterator[Makers]:
    """The reference, then what is compared with it: of DiT's objective, and of SiT's."""
    if args.dit:
        released = partial(bench_training.released, run=run, device=device)
        found: Makers = {"facebookresearch/DiT": partial(released, args.dit)}
        if args.fast_dit:
            half = device.type == "cuda"
            found["fast-DiT" + " fp16" * half] = partial(released, args.fast_dit, half=half)
        yield found | ours(args, run, device)
    if args.sit:
        flow = Run(**run.canonical() | {"objective": "flow"})
        reference = partial(bench_training.released_sit, args.sit, run, device)
        yield {"willisma/SiT": reference, **ours(args, flow, device)}


def samplers(args: argparse.Namespace, run: Run, device: torch.device) -> Iterator[Makers]:
    """Guided DDPM sampling: the released loop, bare forwards of ours, and our sampler."""
    if not args.dit:
        return
    protocol = Protocol(
        name="p", images=run.batch_size, sampling_steps=STEPS, guidance=1.5, precision="tf32"
    )
    found: Makers = {
        "facebookresearch/DiT": partial(bench_sampler.released, args.dit, run, protocol, device)
    }
    for precision in args.precisions:
        mine = Protocol(**protocol.canonical() | {"precision": precision})
        for compiled in (False, True)[: 1 + args.compile]:
            name = f"harness {precision}{' compiled' * compiled}"
            found[name] = partial(bench_sampler.ours, run, mine, device, compiled)
    yield found


def beside(
    work: str, makers: Makers, images: int, args: argparse.Namespace, device: torch.device
) -> Iterator[dict[str, str]]:
    """A row for each side: its images/s, and its ratio to the reference, window by window."""
    (name, reference), *others = makers.items()
    for other, make in others:
        try:
            found = compare({name: reference, other: make}, args, device)
        except EOFError:  # a process ended, as for want of memory: its own traceback says why
            print(f"{work} {other}: skipped", flush=True)
            continue
        ratios = [a / b for a, b in zip(found[name], found[other], strict=True)]
        for side, shown in ((name, [1.0]), (other, ratios)):
            rate = images / statistics.median(found[side])
            yield {
                "side": side,
                "images_per_second": f"{rate:.4g}",
                "ratio": f"{statistics.median(shown):.3f}",
                "least": f"{min(shown):.3f}",
                "most": f"{max(shown):.3f}",
            }
        print(f"{work:<24}{other:<24}{statistics.median(ratios):>6.2f}", flush=True)


def main() -> None:
    parser = options(__doc__)
    models = ["DiT-S/8", "DiT-S/4", "DiT-B/4", "DiT-XL/2"]
    parser.set_defaults(models=models, batch=0, precisions=["tf32", "bf16"])
    parser.add_argument("--out", type=Path, default=MEASURED_SPEEDS, help="the folder")
    args = parser.parse_args()
    if not (args.dit or args.sit):
        print("nothing to compare with: name a checkout by --dit or --sit")
        return
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    about = {
        "windows": str(args.rounds),
        "device": device_name(device),
        "torch": torch.__version__,
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }
    for model in args.models:
        images = args.batch or IMAGES[model.partition("-")[2].partition("/")[0]]
        run = Run(model=model, batch_size=images)
        for work, sets in (
            ("training", trainings(args, run, device)),
            ("guided sampling", samplers(args, run, device)),
        ):
            given = {"work": work, "model": model, "batch": str(images), **about}
            for makers in sets:
                for row in beside(f"{work} {model}", makers, images, args, device):
                    write(file_of(device, args.out, "peers"), [given | row], COLUMNS, KEY)


if __name__ == "__main__":
    main()
