"""`harness import` and `harness export`: checkpoints of other programs in, and ours out."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from harness.base.errors import UserError
from harness.base.files import read_json
from harness.cli.show import find_run
from harness.cli.verb import Verb, add_cluster, add_rows, cluster_from, use_own_rows
from harness.models.decoders import PUBLISHED_DECODERS
from harness.spec.ema import weights_problem
from harness.study.store import Store

if TYPE_CHECKING:
    from harness.exchange.outgoing import Checkpoint

TARGETS = ("diffusers", "safetensors", "pt")


def import_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "file",
        type=Path,
        metavar="FILE",
        help="a .pt or .safetensors file, or a folder of diffusers' DiT",
    )
    parser.add_argument(
        "fields",
        metavar="FIELD=VALUE",
        nargs="*",
        default=[],
        help="fields of the run that the file does not state, such as objective=flow seed=1",
    )
    parser.add_argument("--step", type=int, help="steps it was trained (default: the file's name)")
    add_rows(parser)
    add_cluster(parser)


def import_checkpoint(args: argparse.Namespace) -> int:
    from harness.exchange.incoming import arrival, put, report

    use_own_rows(args)
    store = Store(Path(cluster_from(args).store))
    arrived = arrival(args.file, args.fields, args.step)
    for line in report(arrived, put(arrived, store)):
        print(line)
    return 0


def export_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="a run's id or its beginning, or a model")
    parser.add_argument("--to", choices=TARGETS, required=True, help="what to write")
    parser.add_argument("--out", type=Path, required=True, help="the folder or file to write")
    parser.add_argument("--step", type=int, help="default: the last with such weights")
    parser.add_argument(
        "--weights",
        default="ema",
        help="ema, raw, or an average as ema-0.075, tracked or rebuilt (default: ema)",
    )
    parser.add_argument(
        "--vae",
        choices=list(PUBLISHED_DECODERS),
        help="puts this decoder into the folder of diffusers (default: none)",
    )
    parser.add_argument(
        "--push", metavar="OWNER/NAME", help="also to the hub, private, by your own token"
    )
    add_rows(parser)
    add_cluster(parser)


def export(args: argparse.Namespace) -> int:
    from harness.exchange import hub
    from harness.exchange.outgoing import FILES, checkpoint, refuse_existing

    if args.vae and args.to != "diffusers":
        raise UserError(f"--vae {args.vae} is of --to diffusers: leave it out")
    if fault := weights_problem(args.weights):
        raise UserError(f"--weights {args.weights} {fault}")
    use_own_rows(args)
    token = hub.own_token() if args.push else ""
    store = Store(Path(cluster_from(args).store))
    run = find_run(args.run, store)
    refuse_existing(args.out)
    given = checkpoint(store, run, args.step, args.weights)
    if args.to == "diffusers":
        export_pipeline(args, store, given)
    else:
        FILES[args.to](args.out, given)
        print(written(args.out, given))
    if args.push:
        print(f"pushed to {hub.push(args.out, args.push, token)}")
    return 0


def written(out: Path, given: Checkpoint) -> str:
    rebuilt = f" ({given.rebuilt})" if given.rebuilt else ""
    return f"{out}: {given.run.id} at step {given.step}, {given.weights} weights{rebuilt}"


def export_pipeline(args: argparse.Namespace, store: Store, given: Checkpoint) -> None:
    from harness.exchange import pipeline
    from harness.exchange.card import card
    from harness.exchange.measure import SAMPLING_STEPS, percent
    from harness.exchange.outgoing import atomic_folder, scores
    from harness.models.autoencoder import load_vae

    run, note = given.run, store.imported(given.run, given.step)
    pipeline.refuse_other_kinds(given)
    if args.vae and not run.data_row.latent:
        raise UserError(
            f"--vae {args.vae}: {run.data} are pixels, which no VAE decodes: leave it out"
        )
    vae = load_vae(args.vae, cluster_from(args).path(args.vae)) if args.vae else None
    with atomic_folder(args.out) as folder:
        pipeline.write(folder, given, vae)
        apart = pipeline.differences(folder, given)
        source = read_json(note) if note.exists() else None
        text = card(given, scores(store, given), apart, vae is not None, source)
        (folder / "README.md").write_text(text)
    forward = max(apart["forward"].values())
    print(f"{written(args.out, given)}, for diffusers")
    print(f"  forward apart from ours by {forward:.1e}, with the frequencies of pipeline.py")
    print(f"  as diffusers loads it without: by {percent(apart['unset'])}")
    print(f"  DPM-Solver++ in {SAMPLING_STEPS} steps apart by {apart['sampling']:.1e}")
    if not run.data_row.latent:
        print(
            f"  {run.data} are pixels: DiTPipeline wants a VAE; README.md has the loop that samples"
        )
    elif vae is None:
        print("  no VAE in it: --vae ft-ema adds one; README.md shows how to sample without")


IMPORT = Verb(
    "import",
    "A checkpoint of DiT, SiT, fast-DiT or diffusers as a step of a run, to sample, score, export.",
    "DiT-XL-2-256x256.pt objective=ddpm --step 7000000",
    import_options,
    import_checkpoint,
)
EXPORT = Verb(
    "export",
    "A checkpoint as a folder for diffusers' DiTPipeline, as safetensors, or as a released .pt.",
    "mini-DiT-S/8 --to diffusers --out exported",
    export_options,
    export,
)
