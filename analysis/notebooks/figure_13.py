# %% [markdown]
# # Figure 13: training loss
# Smoothed, by patch above and by size below.

# %%
from pathlib import Path

import matplotlib.pyplot as plt

import analysis
from analysis import layout, style
from analysis.table import load_log

RESULTS = Path(analysis.__file__).parents[1] / "results"
DATA = RESULTS / "digits_log.csv"

# %%
# Nothing of this is published, so there is nothing to draw before a study has been trained.
fig = plt.figure()
with style.theme():
    if DATA.exists():
        layout.draw("figure_13", load_log(DATA), fig)
