# %% [markdown]
# # Figure 8: the score follows Gflops
# Every model at the last step that most have reached, with Pearson on log Gflops.

# %%
from pathlib import Path

import matplotlib.pyplot as plt

import analysis
from analysis import fits, layout, style
from analysis import table as tables

RESULTS = Path(analysis.__file__).parents[1] / "results"
TABLE = RESULTS / "digits.csv"
table = tables.load(TABLE) if TABLE.exists() else tables.published()

# %%
# What cannot be drawn from this table is said, and the rest drawn.
fig = plt.figure()
with style.theme():
    try:
        print(*layout.draw("figure_08", table, fig), sep="\n")
    except ValueError as reason:
        print(reason)

# %%
fits.correlation(table).round(3)
