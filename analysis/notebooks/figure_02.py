# %% [markdown]
# # Figure 2: size, Gflops and score
# Left: the last score of every model by size, the area of a bubble its Gflops. Right: guided models
# against the U-Nets whose Gflops are known, where the table has them.

# %%
from pathlib import Path

import matplotlib.pyplot as plt

import analysis
from analysis import layout, style
from analysis.table import TableError, load, published

RESULTS = Path(analysis.__file__).parents[1] / "results"
TABLE = RESULTS / "digits.csv"
table = load(TABLE) if TABLE.exists() else published()

# %%
# Panels that the table does not allow are left out, with the reason.
fig = plt.figure()
with style.theme():
    try:
        print(*layout.draw("figure_02", table, fig), sep="\n")
    except TableError as reason:
        print(reason)
