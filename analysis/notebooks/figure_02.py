# %% [markdown]
# # Figure 2: size, Gflops and score
# Left: the last score of every model by size, the area of a bubble its Gflops. Right: guided models against the U-Nets
# whose Gflops are known, where the table has them.

# %%
from pathlib import Path

import matplotlib.pyplot as plt

import analysis
from analysis import layout, style
from analysis import table as tables

RESULTS = Path(analysis.__file__).parents[1] / "results"
TABLE = RESULTS / "digits.csv"
table = tables.load(TABLE) if TABLE.exists() else tables.published()

# %%
# What cannot be drawn from this table is said, and the rest drawn.
fig = plt.figure()
with style.theme():
    try:
        print(*layout.draw("figure_02", table, fig), sep="\n")
    except ValueError as reason:
        print(reason)
