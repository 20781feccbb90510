"""Peak bytes of training and sampling on one device, in closed form. No torch."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

from harness.extractors import EXTRACTORS
from harness.spec import AnyProtocol, Protocol, Run, Sweep, Validation
from harness.study.cluster import Cluster
from harness.study.compute import parameters
from harness.study.cost import BYTES, kind
from harness.study.counts import kept_bytes, live_bytes

DECODED_AT_ONCE = 16  # images
DECODED_VALUES = 768  # fp32 values of each pixel at the decoder's widest moment
DECODER_BYTES = BYTES * 83_653_863  # of the whole AutoencoderKL, which is loaded with its encoder
SAMPLED_VALUES = 3  # fp32 values of each number of a sample beside the network: x, noise, a copy
# The CUDA context, cuBLAS's and cuDNN's workspaces and what the allocator cannot use: allowed for,
# not derived.
CONTEXT, SLACK = 1.5e9, 1.05


@dataclass(frozen=True)
class Memory:
    """Peak bytes of tensors on one device."""

    training: float
    sampling: float


def activations(run: Run, images: int) -> int:
    """Bytes that a forward pass of `images` keeps for the backward pass."""
    return images * kept_bytes(run.model, run.setting, run.precision)


def training(run: Run, cluster: Cluster) -> float:
    """Peak bytes of a training step on one rank.

    Every rank holds all weights: with EMA, moments and gradients that is 20 bytes a parameter, 13.5
    GB for the paper's largest model. So DDP is enough, and sharding the state (FSDP) would save
    little. What does not fit is activations, 0.67 GB an image of XL/2 in fp32: a smaller microbatch
    fixes it at no cost, recomputing them costs a third forward.
    """
    share = -(-run.batch_size // cluster.ranks)
    part = min(share, cluster.microbatch)
    weights = BYTES * parameters(run)
    kept = activations(run, part) + (
        weights // 2 if run.precision == "bf16" else 0
    )  # bf16 copies live as long
    gradients = (
        weights + kept if part < share else max(weights, kept)
    )  # of one pass they come as activations go
    buckets = weights if cluster.ranks > 1 else 0  # DDP's
    copies = 1 + len(run.averages) + run.optimizer_row.copies
    return copies * weights + gradients + buckets


def forwards(run: Run, protocol: AnyProtocol, cluster: Cluster) -> float:
    """Peak bytes of a network that samples or validates, its weights among them."""
    images = min(cluster.sampling_batch, protocol.n)
    images *= protocol.copies if isinstance(protocol, Protocol) else 1
    sample = BYTES * SAMPLED_VALUES * math.prod(run.data_row.shape)
    block = live_bytes(run.model, run.setting, protocol.precision)
    copies = 1.5 if protocol.precision == "bf16" else 1.0  # autocast keeps rounded weights
    return copies * BYTES * parameters(run) + images * (block + sample)


def sampling(run: Run, protocol: AnyProtocol, cluster: Cluster) -> float:
    """Peak bytes of an evaluation on one rank: sampling, decoding, features; or validation."""
    drawn = forwards(run, protocol, cluster)
    if isinstance(protocol, Validation):
        return drawn
    extractor, images = EXTRACTORS[protocol.features], min(cluster.sampling_batch, protocol.n)
    decoded = min(images, DECODED_AT_ONCE) * DECODED_VALUES * BYTES * run.data_row.pixels**2
    decodes = protocol.decoder != "identity"
    after = max(decodes * decoded, images * extractor.live) + images * math.prod(run.data_row.seen)
    others = decodes * DECODER_BYTES + extractor.held
    return others + max(drawn, BYTES * parameters(run) + after)


def estimate(run: Run, protocols: Iterable[AnyProtocol], cluster: Cluster) -> Memory:
    """Both, as the cluster has it for this model."""
    scoring = cluster.of(run.model, True)
    scored = max((sampling(run, protocol, scoring) for protocol in protocols), default=0.0)
    return Memory(training(run, cluster.of(run.model, False)), scored)


def problems(sweep: Sweep, cluster: Cluster) -> list[str]:
    """Every run that does not fit into `cluster.gpu_memory_gb`, and the microbatch that does."""
    found: list[str | None] = []
    for run in {kind(run): run for run in sweep.runs}.values():
        trains, scores = (cluster.of(run.model, evaluates) for evaluates in (False, True))
        found.append(too_large(run.id, "training", "microbatch", trains, partial(training, run)))
        for p in sweep.protocols:
            found.append(
                too_large(run.id, p.name, "sampling_batch", scores, partial(sampling, run, p))
            )
    return [problem for problem in found if problem]


def too_large(
    run: str, task: str, field: str, cluster: Cluster, peak: Callable[[Cluster], float]
) -> str | None:
    """The problem of a peak beyond the device, with the half, quarter … of `field` that fits."""
    size, batch = cluster.gpu_memory_gb, getattr(cluster, field)
    if size is None or (needed := gigabytes(peak(cluster))) <= size:
        return None
    smaller = [batch >> k for k in range(1, batch.bit_length())]
    fits = (
        b for b in smaller if gigabytes(peak(dataclasses.replace(cluster, **{field: b}))) <= size
    )
    remedy = (
        f"set {field} = {first}" if (first := next(fits, 0)) else "it needs a GPU with more memory"
    )
    takes = f"{task} of {run} takes about {needed:.0f} GB at {field} = {batch}"
    return f"{takes}, a GPU has {size:g} GB: {remedy}"


def gigabytes(peak: float) -> float:
    """What a GPU needs to have for this peak of tensors."""
    return (peak * SLACK + CONTEXT) / 1e9
