"""What a model's name and patch tell where a table does not: its family and its tokens."""

from __future__ import annotations

import pandas as pd

# What a model's name has after its family's: '-XL/2', '-4-G', '-deep'; the U of U-Net is none.
MEMBER = r"-(?:\d.*|[A-Z]{1,2}(?!-[A-Z]\w*[a-z])(?:[-/,].*)?|[a-z].*)$"


def with_family(table: pd.DataFrame) -> pd.DataFrame:
    """Returns the table with its columns family, tokens and others, where they are not given.

    A family is the model's name without size, patch and what follows: DiT-XL/2 is a DiT, ADM-G an
    ADM, U-ViT-L/2-deep a U-ViT.

    Tokens are (32 / patch)², those of the paper's 32 × 32 latents: of another input all models
    have the same multiple, which no exponent sees.
    """
    given = table["family"].fillna("") if "family" in table else pd.Series("", table.index)
    named = table["model"].str.replace(MEMBER, "", regex=True)
    table = table if "others" in table else table.assign(others="")
    of_patch = (32 / table["patch"]) ** 2
    tokens = table["tokens"].fillna(of_patch) if "tokens" in table else of_patch
    return table.assign(family=given.where(given.ne(""), named), tokens=tokens)


def with_tokens_of(models: pd.DataFrame, known: pd.DataFrame) -> pd.DataFrame:
    """Returns models that a table does not have with the tokens that it would count for them.

    `known` are its rows: they have the pixels that a patch divides, in the table's own count.
    """
    known = with_family(known)
    by_name = known.drop_duplicates("model").set_index("model")["tokens"]
    pixels = (known["tokens"] * known["patch"] ** 2).median()
    tokens = models["model"].map(by_name).fillna(pixels / models["patch"] ** 2)
    if "tokens" in models:
        tokens = models["tokens"].fillna(tokens)
    return with_family(models.assign(tokens=tokens))
