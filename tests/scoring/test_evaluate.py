"""Scores: of (checkpoint, protocol) alone, never of how the work was cut, and never of damage."""

from __future__ import annotations

import copy
import math
import os
import shutil
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import (
    apart,
    do,
    ranks,
    score_all,
    tiny_protocol,
    tiny_run,
    tiny_sweep,
    train_all,
)
from safetensors.torch import load_file, save_file
from torch import Tensor

from harness.base.distributed import (
    Interrupted,
    Rank,
    Stop,
    process_group,  # noqa: F401  # for the script of a rank
)
from harness.base.errors import UserError
from harness.base.files import read_json, sha256
from harness.base.npz import image_shape
from harness.base.signals import on_stop
from harness.base.tensors import load_tensors, read_metadata, save_tensors
from harness.data import DATASETS
from harness.models.autoencoder import decoder_of, load_vae, to_uint8
from harness.scoring import evaluate as scoring
from harness.scoring.arrays import write_array
from harness.scoring.inputs import load_inputs
from harness.scoring.records import write_record
from harness.scoring.sample import labels, load_network, sample, sample_images
from harness.spec import Protocol, Run
from harness.study.cluster import Cluster
from harness.study.compute import network
from harness.study.store import Store
from harness.study.tasks import Evaluate, Progress

CPU = torch.device("cpu")
RUN = tiny_run()
SHARDS = tiny_protocol(images=1100)  # three


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = Store(tmp_path_factory.mktemp("trained"))
    train_all(tiny_sweep(steps=(10,)), store)
    return store


@pytest.fixture
def store(trained: Store, tmp_path: Path) -> Store:
    return Store(shutil.copytree(trained.root, tmp_path / "store"))


def task(protocol: Protocol, run: Run = RUN) -> Evaluate:
    return Evaluate(run, 10, protocol, True, "a test")


def record(store: Store, protocol: Protocol, **cluster: Any) -> dict[str, Any]:
    do(task(protocol), store, **cluster)
    return read_json(store.record(RUN, 10, protocol))


def values(store: Store, protocol: Protocol, **cluster: Any) -> dict[str, float]:
    found: dict[str, float] = record(store, protocol, **cluster)["values"]
    return found


@pytest.fixture(scope="module")
def undisturbed(trained: Store, tmp_path_factory: pytest.TempPathFactory) -> dict[str, float]:
    return values(
        Store(shutil.copytree(trained.root, tmp_path_factory.mktemp("once") / "store")), SHARDS
    )


def test_the_values_do_not_depend_on_the_batch(store: Store, undisturbed: dict[str, float]) -> None:
    assert values(store, SHARDS, sampling_batch=100) == pytest.approx(undisturbed, rel=1e-3)


RANK = """
import sys
sys.path[:0] = ["tests", "tests/scoring"]
from test_evaluate import *
store = Store(Path(sys.argv[1]))
with process_group("cpu") as rank:
    stop = Stop([15] * rank.index)  # a signal that only rank 1 gets
    with pytest.raises(Interrupted):
        scoring.evaluate(task(SHARDS), store, Cluster(), rank, stop, lambda *_: None)
    print(len(list(store.shards(RUN, 10, SHARDS).iterdir())))
    scoring.evaluate(task(SHARDS), store, Cluster(), rank, Stop(), lambda *_: None)
"""


def test_the_values_do_not_depend_on_the_number_of_processes(
    store: Store, undisturbed: dict[str, float]
) -> None:
    """Nor on a signal to one of them: both leave in the same round, with the shard of the other."""
    assert ranks(2, RANK, store.root)[0].split() == ["1"]
    found = read_json(store.record(RUN, 10, SHARDS))
    assert found["world"] == 2 and found["n"] == 1100
    assert found["values"] == pytest.approx(undisturbed, rel=1e-3)


def evaluated(
    store: Store, protocol: Protocol, stop: Stop, progress: Progress, **cluster: Any
) -> None:
    """One evaluation in this process, with its own flag and progress."""
    given = Cluster(**cluster)
    scoring.evaluate(task(protocol), store, given, Rank(0, 1, CPU), stop, progress)


def killed(news: str, share: float) -> None:
    raise SystemExit


def one_shard(store: Store) -> Path:
    """Leaves an evaluation of three shards after its first."""
    with pytest.raises(SystemExit):
        evaluated(store, SHARDS, Stop(), killed)
    (shard,) = store.shards(RUN, 10, SHARDS).iterdir()
    return shard


def rest_of(store: Store) -> list[str]:
    """Ends the evaluation of three shards; the lines it reports."""
    lines: list[str] = []
    evaluated(store, SHARDS, Stop(), lambda line, share: lines.append(line))
    return lines


def test_a_killed_evaluation_goes_on_from_its_last_finished_shard(
    store: Store, undisturbed: dict[str, float]
) -> None:
    first = one_shard(store)
    written, seen = first.stat().st_mtime_ns, list[int]()
    evaluated(store, SHARDS, Stop(), lambda *_: seen.append(first.stat().st_mtime_ns))
    assert seen == [written, written], "two shards were left to do, and the first was not touched"
    assert read_json(store.record(RUN, 10, SHARDS))["values"] == undisturbed
    assert len(list(first.parent.iterdir())) == 3, "the features stay"


def test_a_signal_within_a_shard_ends_it_after_the_batch_in_progress(store: Store) -> None:
    batches: list[int] = []

    def decode(latents: Tensor) -> Tensor:
        batches.append(len(latents))
        if len(batches) == 2:
            os.kill(os.getpid(), signal.SIGUSR2)  # what Slurm sends before the limit
        return latents

    inputs = replace(load_inputs(task(SHARDS), store, Cluster(), CPU), decode=decode)
    work, _ = scoring.find_work(task(SHARDS), store, inputs)
    path = work.features[0]
    rank, cluster = Rank(0, 1, CPU), Cluster(sampling_batch=16)
    stop = Stop()
    with on_stop(lambda number, _: stop.signals.append(number)):
        scoring.score_shard(task(SHARDS), 0, inputs, cluster, rank, stop, work)
    with pytest.raises(Interrupted, match="run the same command to continue"):
        scoring.evaluate(task(SHARDS), store, cluster, rank, stop, lambda *_: None)
    assert batches == [16, 16] and not list(path.parent.glob("*"))


def cut(shard: Path, store: Store) -> None:
    shard.write_bytes(shard.read_bytes()[:-1])


def flip(shard: Path, store: Store) -> None:
    data = bytearray(shard.read_bytes())
    data[-1000] ^= 64
    shard.write_bytes(data)


def of_other_code(shard: Path, store: Store) -> None:
    origin = read_metadata(shard) | {"code": "an older one"}
    save_tensors(shard, load_tensors(shard), origin)


def of_an_older_version(shard: Path, store: Store) -> None:
    save_file(load_tensors(shard), shard)


def of_other_weights(shard: Path, store: Store) -> None:
    net = shaken(store)
    save_tensors(store.ema(RUN, 10), net.state_dict())


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (cut, "damaged"),
        (flip, "damaged"),
        (of_other_code, "from other code"),
        (of_other_weights, "from other weights"),
        (of_an_older_version, "from other sampled, weights, decoder, extractor"),
    ],
)
def test_a_shard_that_is_damaged_or_of_another_origin_is_made_again(
    spoil: Callable[[Path, Store], None],
    reason: str,
    store: Store,
    undisturbed: dict[str, float],
    tmp_path: Path,
) -> None:
    spoil(one_shard(store), store)
    lines = rest_of(store)
    assert f"1 shards are made again: they {'are' * (reason == 'damaged')}" in lines[0]
    assert reason in lines[0] and len(lines) == 4
    found = read_json(store.record(RUN, 10, SHARDS))
    assert found["checkpoint"] == sha256(store.ema(RUN, 10))
    assert (found["values"] == undisturbed) == (spoil is not of_other_weights)


def test_what_a_killed_writer_left_is_removed_and_another_steps_is_not(store: Store) -> None:
    shard, record = one_shard(store), store.record(RUN, 10, SHARDS)
    left = [shard.with_name(".tmpA1b2C3"), record.with_name(f".{record.name}.4711")]
    other = record.with_name(".0000020.json.4711")
    record.parent.mkdir(parents=True)
    for path in (*left, other):
        path.write_bytes(b"half of a file")
    rest_of(store)
    assert not [path for path in left if path.exists()] and other.exists()


def test_features_that_are_not_finite_are_never_kept(store: Store) -> None:
    inputs = load_inputs(task(SHARDS), store, Cluster(), CPU)
    network = copy.deepcopy(inputs.extractor.network)
    network.get_parameter("fc.weight").data[3] = math.nan
    broken = replace(inputs, extractor=replace(inputs.extractor, network=network))
    work, _ = scoring.find_work(task(SHARDS), store, inputs)
    with pytest.raises(UserError, match=f"512 of 512 logits features of {RUN.id}@10:.* not finite"):
        scoring.score_shard(task(SHARDS), 0, broken, Cluster(), Rank(0, 1, CPU), Stop(), work)
    assert not work.features[0].exists()


def test_a_record_describes_itself(store: Store) -> None:
    protocol = tiny_protocol()
    found = record(store, protocol)
    assert found["run"] == RUN.id and found["step"] == 10 and found["protocol"] == protocol.id
    assert (
        Protocol(**found["protocol_fields"]) == protocol
        and found["n"] == 64
        and found["world"] == 1
    )
    assert {"fid", "sfid", "inception_score", "precision", "recall"} <= found["values"].keys()
    assert found["checkpoint"] == sha256(store.ema(RUN, 10))
    assert found["extractor"]["name"] == "digits-cnn-1" and len(found["extractor"]["digest"]) == 64
    assert found["reference"]["n"] == 1797 and len(found["reference"]["digest"]) == 64
    assert (
        found["commit"]
        and found["device"].startswith("CPU")
        and found["seconds"] > 0
        and found["schema"] == 1
    )
    assert found["versions"].keys() >= {"torch", "diffusers"} and "singular" in found["warnings"][0]
    with np.load(store.preview(RUN, 10, protocol), allow_pickle=False) as preview:
        assert (
            preview["images"].shape == (scoring.PREVIEW, 16, 16, 1)
            and preview["images"].dtype == np.uint8
        )
        assert preview["labels"].tolist() == labels(protocol, 10, 0, scoring.PREVIEW).tolist()


def test_a_score_that_is_there_is_not_taken_again(store: Store) -> None:
    record(store, tiny_protocol())
    before = store.record(RUN, 10, tiny_protocol()).stat().st_mtime_ns
    assert do(task(tiny_protocol()), store) == []
    assert store.record(RUN, 10, tiny_protocol()).stat().st_mtime_ns == before


def shaken(store: Store) -> torch.nn.Module:
    """Trained for ten steps, then shaken so that labels and guidance show."""
    net, _ = load_network(store, RUN, 10, "ema", CPU)
    torch.manual_seed(0)
    for p in net.parameters():
        p.data.add_(0.1 * torch.randn_like(p))
    return net


@pytest.mark.parametrize("sampler", ["ddpm", "ddim", "dpm-solver++"])
def test_an_image_depends_on_its_index_alone(sampler: str, store: Store) -> None:
    net, protocol = shaken(store), tiny_protocol(sampler=sampler, sampling_steps=4)
    whole = sample(net, RUN, protocol, 0, 100, CPU)
    for low, high in ((0, 10), (60, 70), (99, 100)):
        assert (
            apart(sample(net, RUN, protocol, low, high, CPU), whole[low:high])
            < 1e-4 * whole.abs().max()
        )
    other = sample(net, RUN, tiny_protocol(sampler=sampler, sampling_steps=4, seed=1), 0, 100, CPU)
    assert (
        apart(whole, other) > 0.1
        and whole.dtype == torch.float32
        and whole.shape == (100, 1, 16, 16)
    )


def test_guidance_moves_the_samples_and_1_is_none(store: Store) -> None:
    net = shaken(store)
    plain, led, more = (
        sample(net, RUN, tiny_protocol(guidance=scale), 0, 8, CPU) for scale in (1.0, 1.5, 3.0)
    )
    assert 0 < apart(plain, led) < apart(plain, more)


def test_labels_are_uniform_or_take_turns() -> None:
    balanced, uniform = tiny_protocol(labels="balanced"), tiny_protocol()
    assert labels(balanced, 10, 5, 25).tolist() == [i % 10 for i in range(5, 25)]
    drawn = labels(uniform, 10, 0, 5000)
    assert (
        torch.equal(labels(uniform, 10, 700, 900), drawn[700:900]) and drawn.bincount().min() > 400
    )
    assert not torch.equal(labels(tiny_protocol(seed=1), 10, 0, 5000), drawn)


@pytest.mark.parametrize(
    "fields",
    [
        {"weights": "raw"},
        {"labels": "balanced"},
        {"guidance": 2.0},
        {"precision": "bf16"},
        {"seed": 1},
    ],
)
def test_what_a_protocol_says_changes_the_score(fields: dict[str, Any], store: Store) -> None:
    assert values(store, tiny_protocol(**fields))["fid"] != values(store, tiny_protocol())["fid"]


def test_a_reference_may_lie_in_the_store_or_where_the_cluster_says(
    store: Store, numbers: Tensor, tmp_path: Path
) -> None:
    plain = values(store, tiny_protocol())
    for name, path in (
        ("mine", store.references() / "mine.npz"),
        ("there", tmp_path / "elsewhere.npz"),
    ):
        path.parent.mkdir(exist_ok=True)
        write_array(path, [numbers], len(numbers))
        assert values(
            store, tiny_protocol(reference=name), paths={"there": str(tmp_path / "elsewhere.npz")}
        ) == pytest.approx(plain, rel=1e-6)


def small_reference(store: Store, numbers: Tensor) -> None:
    store.references().mkdir()
    write_array(store.references() / "small.npz", [numbers[:90, :, :8, :8]], 90)


def bare_reference(store: Store, numbers: Tensor) -> None:
    store.references().mkdir()
    sigma, sigma_s = np.eye(64), np.eye(256)
    np.savez(
        store.references() / "bare.npz", mu=sigma[0], sigma=sigma, mu_s=sigma_s[0], sigma_s=sigma_s
    )


def other_model(store: Store, numbers: Tensor) -> None:
    save_file(network(tiny_run(model="mini-DiT-B/8")).state_dict(), store.ema(RUN, 10))


def deeper_model(store: Store, numbers: Tensor) -> None:
    tensors = load_file(store.ema(RUN, 10))
    save_file(tensors | {"blocks.2.attn.qkv.weight": torch.zeros(96, 32)}, store.ema(RUN, 10))


def nothing(store: Store, numbers: Tensor) -> None:
    pass


@pytest.mark.parametrize(
    ("spoil", "fields", "fault"),
    [
        (nothing, {"reference": "nowhere"}, "reference 'nowhere' is not at .*: set paths.nowhere"),
        (nothing, {"reference_digest": "0123"}, "has digest 44e12699daba, the protocol wants 0123"),
        (small_reference, {"reference": "small"}, "has 8 pixels a side, the samples 16"),
        (bare_reference, {"reference": "bare"}, "holds 0 images, precision and recall need 4"),
        (other_model, {}, "holds another model than mini-DiT-S/8: move it away"),
        (deeper_model, {}, "holds another model than mini-DiT-S/8: move it away"),
        (
            lambda store, _: store.state(RUN, 10).unlink(),
            {"weights": "raw"},
            "has no raw weights at step 10",
        ),
    ],
)
def test_what_cannot_be_scored_is_refused_before_sampling(
    spoil: Callable[[Store, Tensor], None],
    fields: dict[str, Any],
    fault: str,
    store: Store,
    numbers: Tensor,
) -> None:
    spoil(store, numbers)
    with pytest.raises(UserError, match=fault) as error:
        load_inputs(task(tiny_protocol(**fields)), store, Cluster(), CPU)
    assert "\n" not in str(error.value)


def test_the_record_names_the_weights_that_were_loaded(store: Store) -> None:
    loaded = sha256(store.ema(RUN, 10))

    def exchange(news: str, share: float) -> None:
        save_tensors(store.ema(RUN, 10), shaken(store).state_dict())

    evaluated(store, tiny_protocol(), Stop(), exchange)
    assert sha256(store.ema(RUN, 10)) != loaded
    assert read_json(store.record(RUN, 10, tiny_protocol()))["checkpoint"] == loaded


def spoilt(store: Store, value: float) -> None:
    """Puts one number into the weights that are scored."""
    tensors = load_file(store.ema(RUN, 10))
    tensors["final_layer.linear.bias"][0] = value
    save_file(tensors, store.ema(RUN, 10))


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_samples_that_are_not_finite_are_refused_and_not_scored_as_black(
    value: float, store: Store, tmp_path: Path
) -> None:
    spoilt(store, value)
    named = f"64 of 64 latents of {RUN.id}@10:{tiny_protocol().id} are not finite: .* smaller lr"
    with pytest.raises(UserError, match=named):
        do(task(tiny_protocol()), store)
    out = tmp_path / "samples.npz"
    with pytest.raises(UserError, match=named):
        scoring.write_samples(
            task(tiny_protocol()), store, Cluster(), Rank(0, 1, CPU), out, lambda *_: None
        )
    assert not out.exists() and not store.record(RUN, 10, tiny_protocol()).exists()
    assert not list(store.shards(RUN, 10, tiny_protocol()).glob("*")), "nothing of it is kept"


def test_guidance_that_overflows_is_refused(store: Store) -> None:
    with pytest.raises(UserError, match=r"of 64 latents of .* are not finite: .*less guidance"):
        do(task(tiny_protocol(guidance=1e30)), store)


def test_pixels_that_are_not_finite_are_refused_after_finite_latents(store: Store) -> None:
    def decode(latents: Tensor) -> Tensor:
        return torch.where(torch.arange(len(latents))[:, None, None, None] == 3, torch.inf, latents)

    with pytest.raises(UserError, match=rf"1 of 8 decoded images of {RUN.id}@10:.* not finite"):
        sample_images(shaken(store), decode, task(SHARDS), 0, 8, CPU)


def test_latents_are_unscaled_decoded_and_rounded_as_adm_does(vae: Path) -> None:
    from diffusers import AutoencoderKL

    latents = torch.randn(3, 4, 4, 4)
    with torch.no_grad():
        decoded = AutoencoderKL.from_pretrained(vae).decode(latents / 0.18215).sample
        pixels = to_uint8(decoder_of(load_vae("ft-mse", vae), CPU)(latents))
    assert pixels.shape == (3, 3, 32, 32) and pixels.dtype == torch.uint8
    assert (pixels.int() - to_uint8(decoded).int()).abs().max() <= 1
    assert to_uint8(torch.tensor([-2.0, -1.0, 0.0, 1.0, 2.0])).tolist() == [0, 0, 128, 255, 255]


def test_a_latent_model_is_sampled_through_the_decoder_the_cluster_names(
    vae: Path, tmp_path: Path
) -> None:
    run, protocol = (
        Run(model="mini-DiT-S/8"),
        Protocol(name="latent", images=4, sampling_steps=2, guidance=1.5),
    )
    store, out = Store(tmp_path), tmp_path / "samples.npz"
    store.ema(run, 10).parent.mkdir(parents=True)
    save_file(network(run).state_dict(), store.ema(run, 10))
    cluster = Cluster(paths={"ft-mse": str(vae)}, sampling_batch=2)
    scoring.write_samples(
        task(protocol, run), store, cluster, Rank(0, 1, CPU), out, lambda *_: None
    )
    assert image_shape(out) == (4, DATASETS["imagenet256"].pixels, 3)


def test_an_absent_decoder_is_named_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=rf"VAE 'ft-mse' is not at {tmp_path}: .*paths.ft-mse"
    ) as error:
        load_vae("ft-mse", tmp_path)
    assert "\n" not in str(error.value)


def test_scoring_a_sweep_leaves_nothing_to_do(store: Store) -> None:
    sweep = tiny_sweep(
        steps=(10,), protocols=(tiny_protocol(), tiny_protocol(name="led", guidance=2.0))
    )
    score_all(sweep, store)
    from harness.study.plan import missing

    assert missing(sweep, store) == []


def test_the_digest_of_a_decoder_stands_in_the_record(store: Store) -> None:
    assert "decoder_digest" not in record(store, tiny_protocol()), "pixels have none"
    one, rank = task(tiny_protocol(seed=5)), Rank(0, 1, CPU)
    inputs = replace(load_inputs(one, store, Cluster(), CPU), decoder_digest="d" * 64)
    work, _ = scoring.find_work(one, store, inputs)
    scoring.score_shard(one, 0, inputs, Cluster(), rank, Stop(), work)
    write_record(one, store, work.features, inputs, rank, 1.0)
    assert read_json(store.record(RUN, 10, one.protocol))["decoder_digest"] == "d" * 64
