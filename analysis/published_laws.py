"""Published laws of diffusion transformers, as data with units, metric and source."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

LAWS = Path(__file__).parents[1] / "results" / "published" / "laws.csv"


def published_laws() -> pd.DataFrame:
    """Returns a row per published law and quantity, with how it was read."""
    return pd.read_csv(LAWS).fillna({"metric": "", "setting": ""})


def of_compute(law: str, quantity: str, flop: float) -> float:
    """Returns a · C^b of a published law at a compute in operations.

    Raises:
        KeyError: no such law with a coefficient.
    """
    rows = published_laws()
    row = rows[rows["law"].eq(law) & rows["quantity"].eq(quantity) & rows["form"].eq("a C^b")]
    if row.empty:
        raise KeyError((law, quantity))
    return float(row["a"].iloc[0] * flop ** row["b"].iloc[0])


def exponents() -> pd.DataFrame:
    """Returns the exponents in compute by law and quantity: the part that has no unit."""
    rows = published_laws()
    return rows[rows["form"].isin(["a C^b", "exponent b"])][
        ["law", "quantity", "b", "metric", "setting", "low", "high", "source", "read"]
    ]


def of_size(quantity: str) -> pd.DataFrame:
    """Returns law, setting and the exponent of size of the published laws of a quantity, as `c`."""
    rows = published_laws()
    return rows[rows["quantity"].eq(quantity) & rows["form"].eq("a T^b N^c")][
        ["law", "setting", "c"]
    ]
