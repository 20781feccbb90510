"""Free sizes: a name is a network, one network has one name, and a bad name is a sentence."""

from __future__ import annotations

import pytest

from harness.base.errors import UserError
from harness.models import CONDITIONINGS, MODELS, Setting, free_name
from harness.models.dit_rows import DITS
from harness.models.measure import measured
from harness.spec import Run
from harness.study.cluster import Cluster

REFUSED = {
    "DiT-w100-d2-h48/2": "heads of 48, which do not divide its width 100: take 96 or 144",
    "DiT-w8-d2-h16/2": "do not divide its width 8: take 16",
    "DiT-w96-d0-h16/2": "a depth of 0: take one of 1 to 512",
    "DiT-w99999999-d2-h16/2": "a width of 99999999: take one of 1 to 32,768",
    "DiT-w96-d2-h6/2": "a head dimension of 6: take a multiple of 4",
    "DiT-w96-d2-h0/2": "a head dimension of 0: take one of 1 to 512",
    "DiT-w96-d2-h16/0": "a patch of 0",
    "MDTv2-w96-d2-h16/2": "no family of free sizes: take one of DiT, mini-DiT, digit-DiT",
    "U-ViT-w96-d3-h16/2": "a depth of 3: take a multiple of 2",
    "U-ViT-w75-d2-h15/2": "a width of 75: take a multiple of 2",
    "U-ViT-w512-d12-h64/2": "is U-ViT-S/2: write that",
    "DiT-w384-d12-h64/2": "is DiT-S/2: write that",
    "digit-DiT-w080-d1-h16/2": "is digit-DiT-S/2: write that",
    "DiT-w096-d2-h16/2": "is DiT-w96-d2-h16/2: write that",
    "DiT-w96-d2/2": "is no free size: DiT-w384-d8-h64/2 is width 384",
    "DiT-w٣٢-d2-h16/2": "is unknown",
    f"DiT-w{'9' * 5000}-d2-h16/2": "5014 letters long",
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_name_that_is_no_free_size_says_what_to_write(name: str) -> None:
    assert name not in MODELS and MODELS.get(name) is None
    with pytest.raises(UserError) as error:
        Run(model=name)
    assert REFUSED[name] in str(error.value)
    with pytest.raises(UserError, match="models"):
        Cluster(models={name: {"microbatch": 1}})


def test_an_unknown_name_hears_of_the_nearest_row_and_of_free_sizes() -> None:
    with pytest.raises(UserError, match=r"did you mean 'DiT-XL/.*any size: DiT-w384-d8-h64/2"):
        Run(model="DiT-XL/3")


def test_free_sizes_are_found_and_not_listed() -> None:
    listed = list(MODELS)
    row = MODELS["DiT-w96-d2-h16/2"]
    assert (row.family, row.size, row.patch) == ("DiT", "w96-d2-h16", 2)
    assert MODELS["DiT-w96-d2-h16/2"] is row and list(MODELS) == listed
    with pytest.raises(KeyError):
        MODELS["DiT-w96"]


@pytest.mark.parametrize("name", DITS)
def test_a_size_of_the_paper_has_its_own_name_alone(name: str) -> None:
    row = DITS[name]
    sizes = row.width, row.depth, row.width // row.heads, row.patch
    assert free_name(row.family, *sizes) == name
    spelled = "{}-w{}-d{}-h{}/{}".format(row.family, *sizes)
    assert MODELS.problem(spelled) == f"is {name}: write that, so that it has one id"


@pytest.mark.parametrize("conditioning", CONDITIONINGS[:4])
def test_the_closed_form_counts_a_free_size(conditioning: str) -> None:
    name, setting = "digit-DiT-w48-d3-h12/4", Setting((1, 8, 8), 10, 2, conditioning)
    assert MODELS[name].counts(setting) == measured(name, MODELS[name], setting)[0]


@pytest.mark.parametrize("name", ["digit-U-ViT-w66-d4-h33/4", "digit-U-ViT-w104-d2-h26/2"])
def test_a_free_u_vit_is_counted_and_has_the_last_convolution(name: str) -> None:
    setting = Setting((1, 8, 8), 10)
    assert MODELS[name].counts(setting) == measured(name, MODELS[name], setting)[0]
    assert MODELS[name].conv  # type: ignore[attr-defined]


def test_a_free_size_is_refused_on_data_that_its_patch_does_not_divide() -> None:
    with pytest.raises(UserError, match="patch of 3 does not divide the side of 8"):
        Run(model="digit-DiT-w96-d2-h16/3", data="digits8", batch_size=32)


def test_the_same_sizes_have_one_id() -> None:
    run = Run(model="digit-DiT-w96-d2-h16/2", data="digits8", batch_size=32)
    assert run.id.startswith("digit-DiT-w96-d2-h16-2_")
    assert run == Run(model="digit-DiT-w96-d2-h16/2", data="digits8", batch_size=32)
