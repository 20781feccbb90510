"""Scores: of (checkpoint, protocol) alone, never of how the work was cut; and refused before any sampling."""

from __future__ import annotations

import shutil
from collections.abc import Callable
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
    tree,
)
from safetensors.torch import load_file, save_file
from torch import Tensor

from harness.base.distributed import Interrupted, Rank, Stop
from harness.base.files import read_json, sha256
from harness.data import DATASETS
from harness.models.autoencoder import decoder_of, load_vae, to_uint8
from harness.scoring import evaluate as scoring
from harness.scoring import reference
from harness.scoring.sample import labels, load_network, sample
from harness.spec import Protocol, Run
from harness.study.cluster import Cluster
from harness.study.compute import network
from harness.study.store import Store
from harness.study.tasks import Evaluate

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
do(task(SHARDS), Store(Path(sys.argv[1])))
"""


def test_the_values_do_not_depend_on_the_number_of_processes(
    store: Store, undisturbed: dict[str, float]
) -> None:
    ranks(2, RANK, store.root)
    found = read_json(store.record(RUN, 10, SHARDS))
    assert found["world"] == 2 and found["n"] == 1100
    assert found["values"] == pytest.approx(undisturbed, rel=1e-3)


def test_a_killed_evaluation_goes_on_from_its_last_finished_shard(
    store: Store, undisturbed: dict[str, float]
) -> None:
    def die(news: str, share: float) -> None:
        raise SystemExit

    here, folder = Rank(0, 1, CPU), store.shards(RUN, 10, SHARDS)
    with pytest.raises(SystemExit):
        scoring.evaluate(task(SHARDS), store, Cluster(), here, Stop(), die)
    with pytest.raises(
        Interrupted, match="run the same command to go on"
    ):  # and one told to stop keeps its shard
        scoring.evaluate(task(SHARDS), store, Cluster(), here, Stop([15]), lambda *_: None)
    first, second = sorted(folder.iterdir())
    second.write_bytes(second.read_bytes()[:-1])
    written = first.stat().st_mtime_ns
    seen: list[int] = []
    scoring.evaluate(
        task(SHARDS),
        store,
        Cluster(),
        here,
        Stop(),
        lambda *_: seen.append(first.stat().st_mtime_ns),
    )
    assert seen == [written, written], "two shards were left to do, and the first was not touched"
    assert read_json(store.record(RUN, 10, SHARDS))["values"] == undisturbed
    assert not folder.exists(), "the shards go once the record is there"


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
    net = load_network(store, RUN, 10, "ema", CPU)
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
        reference.write_array(path, [numbers], len(numbers))
        assert values(
            store, tiny_protocol(reference=name), paths={"there": str(tmp_path / "elsewhere.npz")}
        ) == pytest.approx(plain, rel=1e-6)


def small_reference(store: Store, numbers: Tensor) -> None:
    store.references().mkdir()
    reference.write_array(store.references() / "small.npz", [numbers[:90, :, :8, :8]], 90)


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
        (nothing, {"reference": "nowhere"}, "reference 'nowhere' is not at .*: put"),
        (nothing, {"reference_digest": "0123"}, "has digest 44e12699daba, the protocol wants 0123"),
        (small_reference, {"reference": "small"}, "has 8 pixels a side, the samples 16"),
        (other_model, {}, "holds another model than mini-DiT-S/8: move it away"),
        (deeper_model, {}, "holds another model than mini-DiT-S/8: move it away"),
        (
            lambda store, _: store.state(RUN, 10).unlink(),
            {"weights": "raw"},
            "has no raw weights at step 10",
        ),
    ],
)
def test_what_cannot_be_scored_is_told_before_sampling(
    spoil: Callable[[Store, Tensor], None],
    fields: dict[str, Any],
    fault: str,
    store: Store,
    numbers: Tensor,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(scoring, "sample", lambda *_: pytest.fail("it sampled"))
    spoil(store, numbers)
    with pytest.raises(ValueError, match=fault) as error:
        do(task(tiny_protocol(**fields)), store)
    assert "\n" not in str(error.value)
    assert not [
        name for name in tree(store.root) if name.endswith((".json", ".npz")) and "/evals/" in name
    ]


def test_latents_are_unscaled_decoded_and_rounded_as_adm_does(vae: Path) -> None:
    from diffusers import AutoencoderKL

    latents = torch.randn(3, 4, 4, 4)
    with torch.no_grad():
        decoded = AutoencoderKL.from_pretrained(vae).decode(latents / 0.18215).sample
        pixels = decoder_of(load_vae("ft-mse", vae), CPU, batch=2)(latents)
    assert pixels.shape == (3, 3, 32, 32) and pixels.dtype == torch.uint8
    assert (pixels.int() - to_uint8(decoded).int()).abs().max() <= 1
    assert to_uint8(torch.tensor([-2.0, -1.0, 0.0, 1.0, 2.0])).tolist() == [0, 0, 128, 255, 255]


def test_a_latent_model_is_sampled_through_the_decoder_the_cluster_names(
    vae: Path, tmp_path: Path
) -> None:
    run, protocol = (
        Run(model="mini-DiT-S/8"),
        Protocol(name="latent", images=3, sampling_steps=2, guidance=1.5),
    )
    store, out = Store(tmp_path), tmp_path / "samples.npz"
    store.ema(run, 10).parent.mkdir(parents=True)
    save_file(network(run).state_dict(), store.ema(run, 10))
    cluster = Cluster(paths={"ft-mse": str(vae)}, sampling_batch=2)
    scoring.write_samples(
        task(protocol, run), store, cluster, Rank(0, 1, CPU), out, lambda *_: None
    )
    assert reference.array_shape(out) == (3, DATASETS["imagenet256"].pixels, 3)


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
