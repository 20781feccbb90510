"""The log of a study: which columns are read, with little memory, and which rows are dropped."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from analysis.table import MOST_STEPS, OTHER_NUMBERS, OTHER_TEXT, others_of, read_columns

LOG_TEXT_COLUMNS = "study run model size conditioning".split()
LOG_NUMBER_COLUMNS = "patch seed batch_size gflops step loss".split()
OPTIONAL_LOG_NUMBERS = ("lr", *OTHER_NUMBERS)  # logs of before have none


def load_log(path: str | Path) -> pd.DataFrame:
    """Reads the drawn columns of a log table; dropped rows are listed in `.attrs["problems"]`.

    Categories and 32-bit losses keep 5 million rows under 200 MB.

    Raises:
        TableError: the file is missing, is no CSV, or lacks columns.
    """
    columns = {*LOG_TEXT_COLUMNS, *LOG_NUMBER_COLUMNS, *OPTIONAL_LOG_NUMBERS, *OTHER_TEXT}
    dtype = dict.fromkeys([*LOG_TEXT_COLUMNS, *OTHER_TEXT], "category")
    log = read_columns(
        Path(path),
        LOG_TEXT_COLUMNS,
        LOG_NUMBER_COLUMNS,
        (OTHER_TEXT, OPTIONAL_LOG_NUMBERS),
        usecols=columns.__contains__,
        dtype=dtype,
    )
    for name in log.columns.intersection([*dtype]):  # pandas reads a word of digits as a number
        log[name] = log[name].map(str, na_action="ignore").astype("category")
    log = with_others(log)
    usable = log["step"].between(0, MOST_STEPS) & log["loss"].abs().lt(np.finfo("float32").max)
    dropped = int((~usable).sum())
    log = log[usable].astype({"loss": "float32"})
    reason = f"dropped {dropped:,} rows of {path}: the step is no count or the loss not finite"
    log.attrs["problems"] = [reason] if dropped else []
    return log


def with_others(log: pd.DataFrame) -> pd.DataFrame:
    """Returns the log with `others` in place of the fields of a run that vary in it."""
    given = log.columns.intersection([*OTHER_NUMBERS, *OTHER_TEXT])
    varied = [name for name in given if log[name].nunique(dropna=False) > 1]
    if not varied:
        return log.drop(columns=given)
    kinds = log.groupby(varied, observed=True, dropna=False, sort=False).ngroup()
    texts = others_of(log[varied][~kinds.duplicated()])
    return log.drop(columns=given).assign(others=pd.Categorical(texts.to_numpy()[kinds]))
